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
	"ddtb/provision/lease"
)

// Bounds of a sweep's work.
const (
	sweepChunk  = 512  // tunnels looked at while table.mu is held
	sweepWork   = 64   // sessions ended or recorded at a time: each waits for the store and the accountant
	extendBatch = 1024 // leases in one call of the store
)

// sweepState tells of the last sweep.
type sweepState struct {
	mu    sync.Mutex
	last  time.Time
	took  time.Duration
	err   error

	// Only the sweep itself uses these.
	round  uint8             // of the running sweep
	strays map[uint32]uint64 // found by the last one
}

// due is what one pass over the tunnels found to be done.
type due struct {
	ends     map[aaa.Cause][]*entry
	records  []*entry
	extend   []*entry
	missing  []*entry // in force here, not in the datapath
	strays   map[uint32]uint64 // tunnels in the datapath of a session that is not ours: session by id
	sessions int      // matched
}

// Run sweeps until ctx is done, then returns nil.
func (b *Broker) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	wait.Go(func() { b.markLoop(ctx) })
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
	errs := []error{b.finishEndings(ctx), b.expireOffers(ctx, s), b.markStarted(ctx)}
	found, err := b.look(ctx, s)
	errs = append(errs, err, b.extendLeases(ctx, s, found.extend), b.repair(ctx, s, found.missing), b.removeStrays(ctx, found.strays))
	for cause, entries := range found.ends {
		errs = append(errs, b.each(ctx, entries, b.endBy(cause)))
	}
	errs = append(errs, b.each(ctx, found.records, b.interim))
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
		e.raw = state.Counters
		e.seen = max(e.seen, state.LastSeen.UnixMilli())
		e.sweep = b.sweeps.round
		found.sessions++
		t := e.terms.Value()
		switch cause := over(e, &t, now); {
		case cause != 0:
			found.ends[cause] = append(found.ends[cause], e)
			continue
		case e.interim != 0 && int64(e.interim) <= now/1000:
			found.records = append(found.records, e)
		}
		if e.leaseEnd < renew {
			found.extend = append(found.extend, e)
		}
	}
	b.metrics.traffic(gained)
}

// over says why a session has to end now, 0 if it has not.
func over(e *entry, t *terms, now int64) aaa.Cause {
	switch {
	case now-e.since >= t.lifetime.Milliseconds():
		return aaa.CauseSessionTimeout
	case now-e.seen < t.silence.Milliseconds():
		return 0
	case t.idle:
		return aaa.CauseIdleTimeout
	}
	return aaa.CauseLostCarrier
}

// findMissing looks for sessions whose tunnel the datapath did not show, if the numbers say that there may be some.
func (b *Broker) findMissing(began int64, found *due) {
	const looked = 1024 // before the lock is let go for a moment
	settled := began - ioTimeout.Milliseconds()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sessions() == found.sessions {
		return
	}
	n := 0
	for _, e := range b.tunnels {
		if e.sweep != b.sweeps.round && e.since < settled {
			found.missing = append(found.missing, e)
		}
		if n++; n%looked == 0 {
			b.mu.Unlock()
			b.mu.Lock()
		}
	}
}

// removeStrays stops tunnels that belong to no session: an undo that failed, or somebody else's doing. A tunnel is one
// only if the last sweep found it too: else its session may have ended while the datapath was listed.
func (b *Broker) removeStrays(ctx context.Context, strays map[uint32]uint64) error {
	before := b.sweeps.strays
	b.sweeps.strays = strays
	var errs []error
	for id, session := range strays {
		if before[id] != session || b.inUse(id) {
			continue
		}
		b.log.Warn().Uint32("tunnel", id).Msg("the datapath has a tunnel of no session; it is removed")
		if _, err := b.datapath.Delete(ctx, id); err != nil && !errors.Is(err, datapath.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// inUse tells whether a tunnel id is a session's, or is going to be.
func (b *Broker) inUse(id uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.offers {
		if e.tunnelID == id {
			return true
		}
	}
	return b.tunnels[id] != nil
}

// repair puts tunnels in force again that somebody took out of the datapath behind our back.
func (b *Broker) repair(ctx context.Context, s *settings, entries []*entry) error {
	return b.each(ctx, entries, func(ctx context.Context, e *entry) error {
		b.mu.Lock()
		current := e.state == Active && e.sweep != b.sweeps.round
		tunnel := e.tunnel(s.pool(e.terms.Value().leasePool))
		if current {
			e.more().base, e.raw = e.total(), datapath.Counters{}
		}
		b.mu.Unlock()
		if !current {
			return nil
		}
		b.log.Warn().Stringer("session", e.id).Uint32("tunnel", e.tunnelID).Msg("the datapath had lost a tunnel; it is set again")
		return b.datapath.Set(ctx, tunnel)
	})
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
	every := e.terms.Value().records
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

// extendLeases moves the end of leases that are half over.
func (b *Broker) extendLeases(ctx context.Context, s *settings, entries []*entry) error {
	for batch := range slices.Chunk(entries, extendBatch) {
		holders := make([]lease.Holder, len(batch))
		for i, e := range batch {
			holders[i] = e.holder()
		}
		lost, err := b.extend(ctx, s, batch, holders)
		if err = errors.Join(err, b.endLost(ctx, lost)); err != nil {
			return err
		}
	}
	return nil
}

// markStarted lets the leases of sessions that started lately tell so. Their subscribers are locked meanwhile, so that no
// later mark is written over.
func (b *Broker) markStarted(ctx context.Context) error {
	s := b.settings.Load()
	b.mu.Lock()
	fresh := b.fresh
	b.fresh = nil
	b.mu.Unlock()
	var left []*entry
	var errs []error
	for batch := range slices.Chunk(fresh, extendBatch) {
		locked, busy := b.lockAll(batch)
		left = append(left, busy...)
		entries, holders := b.startedHolders(locked)
		lost, err := b.extend(ctx, s, entries, holders)
		for _, e := range locked {
			b.locks.unlock(e.lockKey())
		}
		if err != nil {
			left, errs = append(left, locked...), append(errs, err)
		}
		errs = append(errs, b.endLost(ctx, lost))
	}
	b.mu.Lock()
	b.fresh = append(b.fresh, left...)
	b.mu.Unlock()
	return errors.Join(errs...)
}

// lockAll locks the subscribers of entries that nobody works on just now.
func (b *Broker) lockAll(entries []*entry) (locked, busy []*entry) {
	for _, e := range entries {
		if b.locks.tryLock(e.lockKey()) {
			locked = append(locked, e)
		} else {
			busy = append(busy, e)
		}
	}
	return locked, busy
}

func (b *Broker) startedHolders(locked []*entry) (entries []*entry, holders []lease.Holder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range locked {
		if e.state == Active {
			entries = append(entries, e)
			holders = append(holders, holderOf(e, memo{phase: phaseActive, entry: e}))
		}
	}
	return entries, holders
}

// extend extends leases and gives the sessions whose lease is somebody else's by now.
func (b *Broker) extend(ctx context.Context, s *settings, entries []*entry, holders []lease.Holder) ([]*entry, error) {
	if len(holders) == 0 {
		return nil, nil
	}
	ctx, cancel := detach(ctx)
	defer cancel()
	end := uint32(b.clock().Add(s.LeaseTTL).Unix())
	lost, err := b.store.Extend(ctx, s.LeaseTTL, holders...)
	if err != nil {
		return nil, fmt.Errorf("extend %d leases: %w", len(holders), err)
	}
	gone := make(map[string]bool, len(lost))
	for _, h := range lost {
		gone[h.Session] = true
	}
	var over []*entry
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range entries {
		if gone[holders[i].Session] {
			over = append(over, e)
		} else {
			e.leaseEnd = end
		}
	}
	return over, nil
}

// endLost ends sessions that lost their lease to a login at another server.
func (b *Broker) endLost(ctx context.Context, entries []*entry) error {
	return b.each(ctx, entries, b.endBy(aaa.CausePortPreempted))
}
