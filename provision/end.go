// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// Release ends a session, offered or active. When it returns nil the tunnel is gone and the Stop record is safe.
// ErrNotFound if there is none; after any other error the sweep does what is left. ErrBusy before Recover has come through.
func (b *Broker) Release(ctx context.Context, id string, cause aaa.Cause) error {
	if !b.ready.Load() {
		return fmt.Errorf("release %q: not serving yet: %w", id, ErrBusy)
	}
	e := b.lookup(id)
	if e == nil {
		return fmt.Errorf("release %q: %w", id, ErrNotFound)
	}
	ctx, cancel := detach(ctx)
	defer cancel()
	if err := b.end(ctx, e, cause); err != nil {
		return fmt.Errorf("release %v: %w", e.id, err)
	}
	return nil
}

// end ends a session in whatever state it is.
func (b *Broker) end(ctx context.Context, e *entry, cause aaa.Cause) error {
	if err := b.locks.lock(ctx, e.lockKey()); err != nil {
		return fmt.Errorf("%w: %w", ErrInProgress, err)
	}
	defer b.locks.unlock(e.lockKey())
	return b.endLocked(ctx, e, cause)
}

// endLocked is end for who has locked the subscriber. Its steps, and what a process finds that starts after a crash
// behind each of them:
//
//	delete   the tunnel is gone, its last counters are known   the lease without tunnel: the session goes on
//	mark     the lease tells how it ended and what it counted  Stop is given (again), the lease back
//	account  the Stop record is safe                           the same
//	release  the lease is given back                           nothing
func (b *Broker) endLocked(ctx context.Context, e *entry, cause aaa.Cause) error {
	b.mu.Lock()
	known, state := b.find(e.id) == e, e.state
	b.mu.Unlock()
	switch {
	case !known:
		return ErrNotFound
	case state == Offered:
		return b.withdraw(ctx, e)
	case state == Active:
		last, err := b.deleteTunnel(ctx, e)
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.metrics.traffic(grown(e.raw, last))
		b.table.end(e, &ending{cause: cause, at: b.now()}, last)
		b.mu.Unlock()
		b.tell(eventOf(cause), cause, e)
	}
	return b.finish(ctx, e)
}

func eventOf(cause aaa.Cause) EventKind {
	switch cause {
	case aaa.CauseAdminReset:
		return EventKick
	case aaa.CausePortPreempted:
		return EventTakeover
	default:
		return EventLogout
	}
}

// deleteTunnel stops a session's tunnel and gives its last counters, or those of the last sweep if it was gone.
func (b *Broker) deleteTunnel(ctx context.Context, e *entry) (datapath.Counters, error) {
	last, err := b.datapath.Delete(ctx, e.tunnelID)
	switch {
	case errors.Is(err, datapath.ErrNotFound):
		b.mu.Lock()
		defer b.mu.Unlock()
		return e.raw, nil
	case err != nil:
		return last, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return last, nil
}

// finish does what is still owed for an Ending session. The subscriber is locked.
func (b *Broker) finish(ctx context.Context, e *entry) error {
	s, end := b.settings.Load(), e.extra.end
	if end.step == endDeleted {
		lost, err := b.store.Extend(ctx, s.LeaseTTL, holderOf(e, memo{phase: phaseEnding, entry: e}))
		if err != nil && !errors.Is(err, lease.ErrNoPool) {
			return storeError(err)
		}
		end.step, end.lost = endMarked, err != nil || len(lost) > 0
	}
	if end.step == endMarked {
		record := e.record(s, aaa.StatusStop, end.at)
		record.Cause = end.cause
		if err := b.account.Account(ctx, record); err != nil {
			return fmt.Errorf("%w: %w", ErrBusy, err)
		}
		end.step = endAccounted
	}
	switch {
	case !end.lost:
		if err := b.store.Release(ctx, e.holder()); err != nil {
			return storeError(err)
		}
	case b.others() != nil: // it may have left something
		b.store.acquit(e.holder())
	}
	b.mu.Lock()
	b.remove(e)
	b.mu.Unlock()
	b.logSession(e).Stringer("cause", end.cause).Dur("lasted", time.Duration(end.at-e.since)*time.Millisecond).Msg("session ended")
	return nil
}

// complete reports an end that did not come through and that the sweep goes on with.
func (b *Broker) complete(err error, e *entry) {
	if err != nil && !errors.Is(err, ErrNotFound) {
		b.log.Warn().Err(err).Stringer("session", e.id).Msg("the end of a session is not done; the sweep goes on with it")
	}
}

// logSession begins a line about a session.
func (b *Broker) logSession(e *entry) *zerolog.Event {
	line := b.log.Info()
	if !line.Enabled() {
		return line
	}
	s := b.snapshot(e)
	line = line.Str("session", s.ID).Str("user", s.Subscriber.Name).Stringer("encap", s.Encap).
		Stringer("client", s.Client).Stringer("endpoint", s.Endpoint)
	if s.Prefix.IsValid() {
		line = line.Stringer("prefix", s.Prefix)
	}
	if s.Routes.Len() > 0 {
		line = line.Stringer("routes", s.Routes)
	}
	return line
}
