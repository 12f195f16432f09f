// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

// Bounds of a sweep's work.
const (
	sweepChunk  = 512  // tunnels looked at while table.mu is held
	sweepWork   = 64   // sessions ended or recorded at a time: each waits for the store and the accountant
	extendBatch = 1024 // leases in one call of the store
)

// sweepState tells of the last sweep.
type sweepState struct {
	mu   sync.Mutex
	last time.Time
	took time.Duration
	err  error

	// Only the sweep itself uses these.
	round  uint8             // of the running sweep
	strays map[uint32]uint64 // found by the last one
}

// due is what one pass over the tunnels found to be done.
type due struct {
	ends     map[aaa.Cause][]*entry
	records  []*entry
	extend   []*entry
	renew    []*entry          // their backend is to be asked again
	missing  []*entry          // in force here, not in the datapath
	strays   map[uint32]uint64 // tunnels in the datapath of a session that is not ours: session by id
	sessions int               // matched
}

// Run sweeps until ctx is done, then returns nil.
func (b *Broker) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	wait.Go(func() { b.markLoop(ctx) })
	wait.Go(func() { b.reauthorizeLoop(ctx) })
	defer wait.Wait()
	for {
		b.sweep(ctx)
		timer := time.NewTimer(b.settings.Load().SweepInterval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// markLoop lets leases tell soon that their sessions have started. Those that come while the store works wait for the
// next call, together.
func (b *Broker) markLoop(ctx context.Context) {
	for {
		select {
		case <-b.marks:
			if err := b.markStarted(ctx); err != nil && ctx.Err() == nil {
				b.log.Warn().Err(err).Msg("leases were not marked; the sweep tries again")
			}
		case <-ctx.Done():
			return
		}
	}
}

// sweep looks at every tunnel once and does what follows: it is the only clock sessions have.
func (b *Broker) sweep(ctx context.Context) {
	began := b.clock()
	s := b.settings.Load()
	errs := []error{b.store.flush(ctx), b.rejoin(ctx), b.finishEndings(ctx), b.expireOffers(ctx, s), b.markStarted(ctx)}
	found, err := b.look(ctx, s)
	errs = append(errs, err, b.extendLeases(ctx, s, found.extend), b.mark(ctx, found.records, found.extend), b.repair(ctx, s, found.missing), b.removeStrays(ctx, found.strays))
	for cause, entries := range found.ends {
		errs = append(errs, b.each(ctx, entries, b.endBy(cause)))
	}
	errs = append(errs, b.each(ctx, found.records, b.interim))
	b.renew(found.renew)
	b.swept(ctx, began, errors.Join(errs...))
}

func (b *Broker) swept(ctx context.Context, began time.Time, err error) {
	took := b.clock().Sub(began)
	b.metrics.sweep.Observe(took.Seconds())
	b.sweeps.mu.Lock()
	before := b.sweeps.err
	b.sweeps.last, b.sweeps.took, b.sweeps.err = began, took, err
	b.sweeps.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case err != nil && (before == nil || before.Error() != err.Error()):
		b.log.Error().Err(err).Msg("sweep not complete; it is tried again")
	case err == nil && before != nil:
		b.log.Info().Msg("sweep complete again")
	}
}

// look passes over the tunnels of the datapath, takes over their counters and says what is due.
func (b *Broker) look(ctx context.Context, s *settings) (due, error) {
	found := due{ends: make(map[aaa.Cause][]*entry), strays: make(map[uint32]uint64)}
	b.sweeps.round++
	began := b.now()
	chunk := make([]datapath.State, 0, sweepChunk)
	var failed error
	for state, err := range b.datapath.All(ctx) {
		if err != nil {
			failed = fmt.Errorf("list tunnels: %w", err)
			break
		}
		if chunk = append(chunk, state); len(chunk) == sweepChunk {
			b.lookAt(s, chunk, &found)
			chunk = chunk[:0]
		}
	}
	b.lookAt(s, chunk, &found)
	if failed == nil {
		b.findMissing(began, &found)
	}
	return found, failed
}

func (b *Broker) lookAt(s *settings, states []datapath.State, found *due) {
	now := b.now()
	renew := uint32(time.UnixMilli(now).Add(s.LeaseTTL / 2).Unix())
	var gained datapath.Counters
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range states {
		state := &states[i]
		e := b.tunnels[state.ID]
		if e == nil || e.id.tunnel() != state.Session {
			if b.byID[state.Session] == nil {
				found.strays[state.ID] = state.Session
			}
			continue // else it is being set up or replaced just now
		}
		gained = plus(gained, grown(e.raw, state.Counters))
		e.counted(state.Counters)
		e.seen = max(e.seen, state.LastSeen.UnixMilli())
		e.sweep = b.sweeps.round
		found.sessions++
		switch cause := over(e, now); {
		case cause != 0:
			found.ends[cause] = append(found.ends[cause], e)
			continue
		case e.interim != 0 && int64(e.interim) <= now/1000:
			found.records = append(found.records, e)
		}
		if e.extra != nil && e.extra.renewal != nil && e.extra.renewal.at <= now {
			found.renew = append(found.renew, e)
		}
		if e.leaseEnd < renew {
			found.extend = append(found.extend, e)
		}
	}
	b.metrics.traffic(gained)
}

// over says why a session has to end now, 0 if it has not.
func over(e *entry, now int64) aaa.Cause {
	l, lost := e.limits.Value(), e.terms.Value().lost
	silence := now - e.seen
	switch {
	case now-e.since >= l.lifetime.Milliseconds():
		return aaa.CauseSessionTimeout
	case l.idle > 0 && l.idle < lost && silence >= l.idle.Milliseconds():
		return aaa.CauseIdleTimeout
	case silence >= lost.Milliseconds():
		return aaa.CauseLostCarrier
	}
	return 0
}

// endBy is endLocked with a cause.
func (b *Broker) endBy(cause aaa.Cause) func(context.Context, *entry) error {
	return func(ctx context.Context, e *entry) error { return b.endLocked(ctx, e, cause) }
}

// each calls do for entries with their subscribers locked. One that is being worked on is left for the next sweep.
func (b *Broker) each(ctx context.Context, entries []*entry, do func(context.Context, *entry) error) error {
	return b.parallel(ctx, entries, func(ctx context.Context, e *entry) error {
		if !b.locks.tryLock(e.lockKey()) {
			return nil
		}
		defer b.locks.unlock(e.lockKey())
		return do(ctx, e)
	})
}

// parallel calls do for entries, a bounded number at a time, and gives one of the errors. After many errors it leaves
// the rest for the next sweep: whoever does not answer is not asked a million times.
func (b *Broker) parallel(ctx context.Context, entries []*entry, do func(context.Context, *entry) error) error {
	var group errgroup.Group
	var failures atomic.Int32
	group.SetLimit(sweepWork)
	for _, e := range entries {
		if ctx.Err() != nil || failures.Load() >= sweepWork {
			break
		}
		group.Go(func() error {
			ctx, cancel := detach(ctx)
			defer cancel()
			if err := do(ctx, e); err != nil && !errors.Is(err, ErrNotFound) {
				failures.Add(1)
				return fmt.Errorf("session %v: %w", e.id, err)
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), ctx.Err())
}

// interim gives an Interim record. The subscriber is locked, so that no Stop record overtakes it.
func (b *Broker) interim(ctx context.Context, e *entry) error {
	s, now := b.settings.Load(), b.now()
	b.mu.Lock()
	current := e.state == Active
	record := e.record(s, aaa.StatusInterim, now)
	every := e.limits.Value().records
	b.mu.Unlock()
	if !current {
		return nil
	}
	if err := b.account.Account(ctx, record); err != nil {
		return fmt.Errorf("interim record: %w", err)
	}
	b.mu.Lock()
	for int64(e.interim) <= now/1000 {
		e.interim += max(1, uint32(every/time.Second))
	}
	b.mu.Unlock()
	return nil
}

// finishEndings goes on with sessions whose end did not come through.
func (b *Broker) finishEndings(ctx context.Context) error {
	b.mu.Lock()
	entries := slices.Collect(maps.Keys(b.endings))
	b.mu.Unlock()
	return b.each(ctx, entries, b.endBy(0))
}

// expireOffers withdraws offers that were not accepted in time.
func (b *Broker) expireOffers(ctx context.Context, s *settings) error {
	before := b.now() - s.OfferTimeout.Milliseconds()
	b.mu.Lock()
	var entries []*entry
	for _, e := range b.offers {
		if e.since < before {
			entries = append(entries, e)
		}
	}
	b.mu.Unlock()
	return b.each(ctx, entries, b.expire)
}

// expire withdraws an offer, unless it was accepted just in time.
func (b *Broker) expire(ctx context.Context, e *entry) error {
	if err := b.withdraw(ctx, e); !errors.Is(err, ErrInProgress) {
		return err
	}
	return nil
}
