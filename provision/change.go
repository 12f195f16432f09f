// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unique"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

// Change is what is to change of a session in force (RFC 5176 section 2.2); nil fields stay as they are.
type Change struct {
	Rate            *aaa.Rate
	Filter          *string
	SessionTimeout  *time.Duration // from now on; 0: only the server's own lifetime bounds the session
	IdleTimeout     *time.Duration // 0: the server's own
	InterimInterval *time.Duration // 0: the server's own
	Class           [][]byte       // takes the place of all Class attributes there were
}

// grant puts the change into what a backend granted.
func (c Change) grant(sub aaa.Subscriber) aaa.Subscriber {
	set(&sub.Rate, c.Rate)
	set(&sub.Filter, c.Filter)
	set(&sub.SessionTimeout, c.SessionTimeout)
	set(&sub.IdleTimeout, c.IdleTimeout)
	set(&sub.InterimInterval, c.InterimInterval)
	if c.Class != nil {
		sub.Class = c.Class
	}
	return sub
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// Change alters a session in force. When it returns nil the change is in force, and a restart finds it; after an error
// nothing has changed. Errors: ErrNotFound if there is no such session in force, ErrInvalid if it cannot be kept,
// ErrInProgress or ErrBusy if it could not be done now.
func (b *Broker) Change(ctx context.Context, id string, change Change) error {
	if !b.ready.Load() {
		return fmt.Errorf("change %q: not serving yet: %w", id, ErrBusy)
	}
	e := b.lookup(id)
	if e == nil {
		return fmt.Errorf("change %q: %w", id, ErrNotFound)
	}
	ctx, cancel := detach(ctx)
	defer cancel()
	if err := b.locks.lock(ctx, e.lockKey()); err != nil {
		return fmt.Errorf("change %s: %w: %w", id, ErrInProgress, err)
	}
	defer b.locks.unlock(e.lockKey())
	if err := b.regrant(ctx, e, change.grant(b.snapshot(e).Subscriber), change.SessionTimeout != nil); err != nil {
		return fmt.Errorf("change %s: %w", id, err)
	}
	return nil
}

// regrant puts what a session may have from now on in force: in the datapath, in the lease, then in the tables. timed: its
// Session-Timeout is counted from now. The subscriber is locked.
func (b *Broker) regrant(ctx context.Context, e *entry, sub aaa.Subscriber, timed bool) error {
	if n := opaque(sub) + routeSize*e.terms.Value().routes.Len(); n > maxOpaque {
		return fmt.Errorf("%d octets of class, user identity, state, filter and routes, at most %d expected: %w", n, maxOpaque, ErrInvalid)
	}
	s, now := b.settings.Load(), b.now()
	b.mu.Lock()
	current, before := b.find(e.id) == e && e.state == Active, *e
	b.mu.Unlock()
	if !current {
		return ErrNotFound
	}
	next := before.regranted(s, sub, now, timed)
	pool := s.pool(e.terms.Value().leasePool)
	was, will := before.tunnel(pool), next.tunnel(pool)
	if will != was {
		if err := b.datapath.Set(ctx, will); err != nil {
			return fmt.Errorf("%w: %w", ErrBusy, err)
		}
	}
	lost, err := b.extend(ctx, s, []*entry{e}, []lease.Holder{holderOf(e, memo{phase: phaseActive, entry: &next})})
	switch {
	case err != nil:
		if will != was {
			err = errors.Join(err, b.datapath.Set(ctx, was))
		}
		return fmt.Errorf("%w: %w", ErrInProgress, err)
	case len(lost) > 0:
		b.complete(b.endLocked(ctx, e, lost[e]), e)
		return ErrNotFound
	}
	b.mu.Lock()
	if e.extra != nil {
		next.extra.base = e.extra.base // the sweep may have been here
	}
	e.limits, e.extra, e.interim = next.limits, next.extra, next.interim
	b.mu.Unlock()
	b.tell(EventChange, 0, e)
	b.logSession(e).Uint64("up", sub.Rate.Up).Uint64("down", sub.Rate.Down).Dur("lifetime", next.limits.Value().lifetime).Msg("session changed")
	return nil
}

// regranted is e with what its subscriber may have from now on (Unix ms).
func (e entry) regranted(s *settings, sub aaa.Subscriber, now int64, timed bool) entry {
	x := extra{}
	if e.extra != nil {
		x = *e.extra
	}
	old := e.limits.Value()
	next := s.limits(sub, time.Duration(max(0, now-e.since))*time.Millisecond)
	x.class, x.cui = copyClass(sub.Class), sub.CUI
	if timed {
		x.renewal = renewalOf(sub, now)
	} else {
		next.lifetime = old.lifetime
	}
	e.extra = &x
	e.limits = unique.Make(next)
	if next.records != old.records {
		e.interim = uint32(now / 1000)
		e.interim = nextInterim(&e, now)
	}
	return e
}
