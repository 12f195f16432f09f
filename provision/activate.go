// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// Activate puts an offered session in force. When it returns nil the tunnel forwards and its Start record is safe; the
// session it replaces, if any, has ended with a Stop record. Asked again for an active session it does nothing.
//
// Errors: ErrNotFound if the offer is gone; ErrAddressInUse; ErrInProgress or ErrBusy if it could not be done now. After
// an error nothing of the offer is in force, and a session that was to be replaced goes on unless its Stop record was
// taken already.
func (b *Broker) Activate(ctx context.Context, id string) error {
	e := b.lookup(id)
	if e == nil {
		return fmt.Errorf("activate %q: %w", id, ErrNotFound)
	}
	ctx, cancel := detach(ctx)
	defer cancel()
	displaced, err := b.activate(ctx, e)
	if err != nil {
		b.metrics.login(err)
		return fmt.Errorf("activate %v: %w", e.id, err)
	}
	select {
	case b.marks <- struct{}{}:
	default:
	}
	if displaced != nil {
		b.complete(b.end(ctx, displaced, aaa.CausePortPreempted), displaced)
	}
	return nil
}

// activate gives the session of somebody else that the new one's outer address proves to be stale.
func (b *Broker) activate(ctx context.Context, e *entry) (displaced *entry, err error) {
	if err := b.locks.lock(ctx, e.lockKey()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInProgress, err)
	}
	defer b.locks.unlock(e.lockKey())
	b.mu.Lock()
	state, known, err := e.state, b.find(e.id) == e, b.contend(e)
	prev := b.owners[e.owner()]
	squatter := b.tunnels[e.tunnelID]
	if known && state == Offered && err == nil {
		b.claims.add(e)
		defer b.disclaim(e)
	}
	b.mu.Unlock()
	switch {
	case !known || state == Ending:
		return nil, ErrNotFound
	case state == Active:
		return nil, nil
	case err != nil:
		return nil, err
	case b.draining.Load():
		return nil, fmt.Errorf("shutting down: %w", ErrBusy)
	}
	if prev != nil && prev.state == Ending {
		if err := b.finish(ctx, prev); err != nil {
			return nil, err
		}
		prev = nil
	}
	if squatter != nil && squatter != prev {
		if err := b.evict(ctx, squatter); err != nil {
			return nil, err
		}
	}
	change := &change{Broker: b, s: b.settings.Load(), e: e, prev: prev, at: b.now()}
	return change.run(ctx)
}

// evict ends a session whose lease was given to another owner, as the store was away for too long to extend it.
func (b *Broker) evict(ctx context.Context, e *entry) error {
	if !b.locks.tryLock(e.lockKey()) {
		return fmt.Errorf("tunnel %d is being worked on: %w", e.tunnelID, ErrBusy)
	}
	defer b.locks.unlock(e.lockKey())
	return b.endLocked(ctx, e, aaa.CauseNASError)
}

// change puts a session in the place of another (prev), or of none. Its steps, and what a process finds that starts
// after a crash behind each of them:
//
//	cut     the old tunnel is deleted, its last counters are known   the old lease without tunnel: the old session goes on
//	take    the lease is the new session's and tells of the old      the new session; Stop of the old and Start are given (again)
//	set     the new tunnel forwards                                  the same
//	stop    the Stop record of the old one is safe                   the same
//	start   the Start record of the new one is safe                  the same
//	commit  the tables tell, and soon the lease, that it started     the new session
//
// From cut to set nothing forwards. The new tunnel comes last of the three, since its counters take the place of the old
// one's, and only the lease remembers those then.
type change struct {
	*Broker
	s    *settings
	e    *entry
	prev *entry // nil: there is none
	gone *past  // prev as it ended
	at   int64  // Unix ms
	set  bool   // the new tunnel was
}

func (c *change) run(ctx context.Context) (displaced *entry, err error) {
	if err := c.cut(ctx); err != nil {
		return nil, err
	}
	if err := c.take(ctx); err != nil {
		c.restore(ctx)
		return nil, err
	}
	pool := c.s.pool(c.e.terms.Value().leasePool)
	c.set = true // perhaps, even if there is an error
	if err := c.datapath.Set(ctx, c.e.tunnel(pool)); err != nil {
		c.restore(ctx)
		c.retake(ctx)
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if c.gone != nil {
		if err := c.account.Account(ctx, c.gone.record(c.s, aaa.StatusStop)); err != nil {
			c.undo(ctx)
			c.restore(ctx)
			c.retake(ctx)
			return nil, fmt.Errorf("%w: %w", ErrBusy, err)
		}
	}
	if err := c.account.Account(ctx, c.e.record(c.s, aaa.StatusStart, c.at)); err != nil {
		c.undo(ctx)
		c.abandon(ctx)
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return c.commit(ctx), nil
}

// cut deletes the old tunnel and settles how its session ended.
func (c *change) cut(ctx context.Context) error {
	if c.prev == nil {
		return nil
	}
	last, err := c.deleteTunnel(ctx, c.prev)
	if err != nil {
		return err
	}
	pool := c.s.pool(c.prev.terms.Value().leasePool)
	c.mu.Lock()
	defer c.mu.Unlock()
	old := *c.prev
	old.extra = &extra{}
	if c.prev.extra != nil {
		*old.extra = *c.prev.extra
	}
	old.raw, old.extra.end = last, &ending{cause: aaa.CausePortPreempted, at: c.at}
	c.gone = &past{entry: &old, endpoint: pool.Endpoint(old.index), prefix: old.prefix(pool)}
	return nil
}

// take makes the new session the holder of the lease.
func (c *change) take(ctx context.Context) error {
	e := c.e
	c.mu.Lock()
	e.since = c.at
	if e.extra != nil && e.extra.renewal != nil {
		e.extra.renewal.at = c.at + e.limits.Value().sessionTimeout.Milliseconds()
	}
	e.held = true // perhaps, even if the store gives an error
	c.mu.Unlock()
	data := memo{phase: phaseStarting, entry: e, prev: c.gone}.encode()
	got, err := c.store.Acquire(ctx, c.acquisition(c.s, e, c.s.LeaseTTL, data))
	switch {
	case err != nil:
		return storeError(err)
	case got.Index != e.index:
		return fmt.Errorf("lease %d of pool %q was promised, the store gave %d: %w", e.index, got.Pool, got.Index, ErrBusy)
	}
	return nil
}

// undo stops the new tunnel. Nothing was billed for it.
func (c *change) undo(ctx context.Context) {
	if _, err := c.datapath.Delete(ctx, c.e.tunnelID); err != nil && !errors.Is(err, datapath.ErrNotFound) {
		c.log.Error().Err(err).Uint32("tunnel", c.e.tunnelID).Msg("the tunnel of a failed login was not stopped; the next sweep tries again")
	}
}

// restore puts the old session in force again, with what it had counted.
func (c *change) restore(ctx context.Context) {
	if c.gone == nil {
		return
	}
	c.mu.Lock()
	c.metrics.traffic(grown(c.prev.raw, c.gone.entry.raw))
	c.prev.raw = c.gone.entry.raw
	if c.set || !c.resumes {
		c.prev.countAnew()
	}
	tunnel := c.prev.tunnel(c.s.pool(c.prev.terms.Value().leasePool))
	c.fresh = append(c.fresh, c.prev) // so that its lease tells what it had counted
	c.mu.Unlock()
	if err := c.datapath.Set(ctx, tunnel); err != nil {
		c.complete(c.endLocked(ctx, c.prev, aaa.CauseNASError), c.prev)
	}
}

// retake gives the old session its lease back, if it goes on.
func (c *change) retake(ctx context.Context) {
	c.mu.Lock()
	if c.prev == nil || c.prev.state != Active || c.prev.terms.Value().leasePool != c.e.terms.Value().leasePool {
		c.mu.Unlock()
		c.giveBack(ctx, c.e)
		return
	}
	data := memo{phase: phaseActive, entry: c.prev}.encode()
	c.mu.Unlock()
	if _, err := c.store.Acquire(ctx, c.acquisition(c.s, c.prev, c.s.LeaseTTL, data)); err != nil {
		c.log.Error().Err(err).Stringer("session", c.prev.id).Msg("a session did not get its lease back after a failed login; it will end when that is noticed")
	}
	c.mu.Lock()
	c.e.held = false
	c.mu.Unlock()
}

// abandon ends the offer and, as its Stop record is taken, the old session.
func (c *change) abandon(ctx context.Context) {
	c.mu.Lock()
	c.dropOffer(c.e)
	c.retire()
	c.mu.Unlock()
	c.bury(ctx)
	c.giveBack(ctx, c.e)
}

// retire makes the old session, which has its Stop record, an Ending one. mu is held: who looks meanwhile finds the old
// session in force or, if commit adds it before letting go, the new one.
func (c *change) retire() {
	if c.prev == nil {
		return
	}
	c.metrics.traffic(grown(c.prev.raw, c.gone.entry.raw))
	c.table.end(c.prev, c.gone.entry.extra.end, c.gone.entry.raw)
	end := c.prev.extra.end
	end.step, end.lost = endAccounted, c.prev.terms.Value().leasePool == c.e.terms.Value().leasePool
}

// bury takes the retired session out of the tables, gives its lease back if the new one has another, and tells.
func (c *change) bury(ctx context.Context) {
	if c.prev == nil {
		return
	}
	c.complete(c.finish(ctx, c.prev), c.prev)
	c.tell(EventTakeover, aaa.CausePortPreempted, c.prev)
}

func (c *change) commit(ctx context.Context) (displaced *entry) {
	e := c.e
	c.mu.Lock()
	c.retire()
	displaced = c.addActive(e)
	e.seen, e.held = c.at, false
	e.leaseEnd = uint32(time.UnixMilli(c.at).Add(c.s.LeaseTTL).Unix())
	e.interim = firstInterim(e, e.limits.Value().records)
	c.fresh = append(c.fresh, e)
	c.mu.Unlock()
	c.bury(ctx)
	c.metrics.login(nil)
	c.tell(EventLogin, 0, e)
	c.logSession(e).Msg("session started")
	return displaced
}

// record is the Start or the Stop record of a session that has ended.
func (p *past) record(s *settings, status aaa.Status) aaa.Record {
	at := p.entry.since
	if status == aaa.StatusStop {
		at = p.entry.extra.end.at
	}
	r := p.entry.record(s, status, at)
	if status == aaa.StatusStop {
		r.Cause = p.entry.extra.end.cause
	}
	r.Endpoint, r.Prefix = p.endpoint, p.prefix
	return r
}

// firstInterim is when the first Interim record of a session is due, in Unix seconds: a part of the interval that its id
// decides, so that records of sessions that began together do not come together.
func firstInterim(e *entry, every time.Duration) uint32 {
	if every == 0 {
		return 0
	}
	part := time.Duration(e.id[11]) * every / 512 // of 0 to a half
	return uint32(time.UnixMilli(e.since).Add(every - part).Unix())
}

// holderOf names the lease of e for a call that replaces its data.
func holderOf(e *entry, m memo) lease.Holder {
	h := e.holder()
	h.Data = m.encode()
	return h
}
