// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// Recover makes the lease store and the datapath equal after a start, before anything else is asked of the Broker.
// Tunnels whose session was accepted go on, untouched. Sessions without tunnel (the host was rebooted) get it again, or
// end if their lease is over; tunnels without session are deleted; records that may not have been given are given.
// After an error the tunnels forward as before, and Recover can be tried again.
func (b *Broker) Recover(ctx context.Context) error {
	r := &recovery{Broker: b, s: b.settings.Load(), replaced: make(map[sid]bool), displaced: make(map[sid]*displaced)}
	b.forget()
	for _, step := range []func(context.Context) error{r.readLeases, r.match, r.pay, r.fill, r.release} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
	}
	b.mu.Lock()
	sessions := b.sessions()
	b.mu.Unlock()
	if sessions == 0 && !r.apart {
		b.announce(ctx, aaa.StatusOn, 0)
	}
	b.apart.Store(r.apart)
	b.log.Info().Int("sessions", sessions).Int("adopted", r.adopted).Int("set", len(r.bare)).Int("removed", len(r.strays)).
		Int("ended", r.ended+len(r.stale)+len(r.misfits)).Msg("recovered")
	b.ready.Store(true)
	return nil
}

// forget empties the tables of what an earlier Recover that failed had put there.
func (b *Broker) forget() {
	fresh := newTable()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byID, b.tunnels, b.clients, b.owners = fresh.byID, fresh.tunnels, fresh.clients, fresh.owners
	b.endings, b.guests, b.active, b.fresh, b.claims = fresh.endings, fresh.guests, fresh.active, nil, nil
}

// recovery is one run of Recover.
type recovery struct {
	*Broker
	s         *settings
	starting  []memo       // accepted, perhaps not recorded
	owed      []*entry     // Ending
	stale     []*entry     // of two with the same owner or client, the older
	misfits   []*entry     // the datapath has no room for their tunnels any more
	replaced  map[sid]bool // sessions whose end a newer session's lease tells
	homeless  []homeless
	displaced map[sid]*displaced
	covered   []lease.Holder // of sessions in replaced
	unused    []lease.Holder // of offers, and of what is paid for
	strays    []uint32       // tunnels to be deleted
	bare      []*entry       // sessions without tunnel
	adopted   int
	ended     int
	apart     bool // the store is away: leases are what it has kept here
}

// readLeases makes entries of the leases of this node.
func (r *recovery) readLeases(ctx context.Context) error {
	read := 0
	for l, err := range r.store.All(ctx) {
		if err != nil {
			if read == 0 && errors.Is(err, lease.ErrUnavailable) && r.readKept() {
				break
			}
			return fmt.Errorf("read leases: %w", err)
		}
		if read++; owed(l, r.s.Node) {
			r.read(l)
		}
	}
	for id := range r.replaced {
		r.mu.Lock()
		e := r.find(id)
		if e != nil {
			r.table.remove(e)
			r.owed = slices.DeleteFunc(r.owed, func(o *entry) bool { return o == e })
			r.covered = append(r.covered, e.holder())
		}
		if d := r.displaced[id]; d != nil {
			delete(r.displaced, id)
			r.covered = append(r.covered, d.entry.holder())
		}
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claims = claimsOf(r.tunnels)
	return nil
}

func (r *recovery) read(l lease.Lease) {
	holder := lease.Holder{Pool: l.Pool, Index: l.Index, Session: l.Session}
	id, ok := parseID(l.Session)
	m, err := readMemo(l.Data)
	_, known := r.s.pools[l.Pool]
	switch {
	case !ok || err != nil:
		r.log.Error().Err(err).Str("session", l.Session).Str("owner", l.Owner).Stringer("endpoint", l.Endpoint).
			Msg("a lease tells of no session that can be gone on with; it is released, no Stop record can be given")
		r.unused = append(r.unused, holder)
	case m.phase == phaseOffered:
		r.unused = append(r.unused, holder)
	case !known:
		r.unused = append(r.unused, holder)
		r.evict(id, l, m)
	case l.State == lease.Displaced:
		r.readDisplaced(id, l, m)
	default:
		r.adopt(id, l, m)
	}
}

// evict notes the records of a session whose pool is not configured any more.
func (r *recovery) evict(id sid, l lease.Lease, m memo) {
	r.log.Error().Stringer("session", id).Str("pool", l.Pool).Msg("the pool of a session is not configured any more; the session ends")
	e := m.entry
	e.id, e.tunnelID = id, l.ID
	if m.phase != phaseEnding {
		e.more().end = &ending{cause: aaa.CauseNASReboot, at: lastAlive(r.s, e, l.Expires.Unix())}
	}
	gone := past{entry: e, endpoint: l.Endpoint}
	if e.router {
		gone.prefix = l.Prefix
	}
	r.homeless = append(r.homeless, homeless{memo: m, gone: gone})
}

// homeless is a session whose pool is not configured any more.
type homeless struct {
	memo
	gone past
}

// lastAlive is the last moment a session is known to have been there: when its lease was set or extended.
func lastAlive(s *settings, e *entry, leaseEnd int64) int64 {
	return max(e.since, leaseEnd*1000-s.LeaseTTL.Milliseconds())
}

// adopt puts the session of a lease into the tables.
func (r *recovery) adopt(id sid, l lease.Lease, m memo) {
	e := m.entry
	placed(e, id, l)
	e.seen, e.leaseEnd = e.since, uint32(max(0, l.Expires.Unix()))
	if m.prev != nil {
		r.replaced[m.prev.entry.id] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.phase == phaseEnding {
		e.state = Ending
		if !r.apart { // else the store itself may not have been told
			e.extra.end.step = endMarked
		}
		r.byID[id.tunnel()] = e
		r.endings[e] = struct{}{}
		if !e.terms.Value().anonymous && r.owners[e.owner()] == nil {
			r.owners[e.owner()] = e
		}
		r.owed = append(r.owed, e)
		return
	}
	if m.phase == phaseStarting {
		r.starting = append(r.starting, m)
	}
	r.insert(e)
}

// insert makes e Active. Of two sessions at the same outer address or of the same slot the older has to end: a crash came
// between the beginning of the one and the end of the other.
func (r *recovery) insert(e *entry) {
	owner, from := e.owner(), e.from()
	sameOwner, sameClient := r.owners[owner], r.clients[from]
	r.addActive(e)
	if sameOwner != nil && sameOwner.state == Active {
		r.owners[owner] = r.newer(e, sameOwner)
	}
	if sameClient != nil {
		r.clients[from] = r.newer(e, sameClient)
	}
}

// newer gives the newer of two sessions and has the other ended.
func (r *recovery) newer(a, b *entry) *entry {
	if a.since < b.since {
		a, b = b, a
	}
	r.stale = append(r.stale, b)
	return a
}

// match compares with the tunnels in force, and makes the datapath equal.
func (r *recovery) match(ctx context.Context) error {
	b := r.Broker
	b.sweeps.round++
	var changed []datapath.Tunnel
	for state, err := range b.datapath.All(ctx) {
		if err != nil {
			return fmt.Errorf("list tunnels: %w", err)
		}
		b.mu.Lock()
		e := b.tunnels[state.ID]
		if e == nil || e.id.tunnel() != state.Session {
			r.stray(state)
			b.mu.Unlock()
			continue
		}
		e.counted(state.Counters)
		e.sweep = b.sweeps.round
		e.seen = max(e.seen, state.LastSeen.UnixMilli())
		if want := e.tunnel(r.s.pool(e.terms.Value().leasePool)); want != state.Tunnel {
			changed = append(changed, want)
		}
		b.mu.Unlock()
		r.adopted++
	}
	for _, id := range r.strays {
		last, err := b.datapath.Delete(ctx, id)
		if err != nil && !errors.Is(err, datapath.ErrNotFound) {
			return err
		}
		if err == nil {
			r.cut(id, last)
		}
	}
	return r.set(ctx, changed)
}

// set puts tunnels in force, and ends the sessions of those that the datapath has no room for any more.
func (r *recovery) set(ctx context.Context, tunnels []datapath.Tunnel) error {
	for batch := range slices.Chunk(tunnels, extendBatch) {
		if r.datapath.Set(ctx, batch...) == nil {
			continue
		}
		for _, tunnel := range batch {
			err := r.datapath.Set(ctx, tunnel)
			switch {
			case errors.Is(err, datapath.ErrInvalid):
				r.log.Error().Err(err).Msg("a session's tunnel does not fit the configuration any more; it ends")
				r.mu.Lock()
				r.misfits = append(r.misfits, r.tunnels[tunnel.ID])
				r.mu.Unlock()
			case err != nil:
				return err
			}
		}
	}
	return nil
}

// pay gives the records that may not have been given.
func (r *recovery) pay(ctx context.Context) error {
	for _, m := range r.starting {
		start := m.entry.record(r.s, aaa.StatusStart, m.entry.since)
		if err := r.payStart(ctx, r.s, m, start); err != nil {
			return err
		}
		r.mu.Lock()
		r.fresh = append(r.fresh, m.entry)
		r.mu.Unlock()
	}
	for _, h := range r.homeless {
		r.ended++
		if h.phase == phaseStarting {
			if err := r.payStart(ctx, r.s, h.memo, h.gone.record(r.s, aaa.StatusStart)); err != nil {
				return err
			}
		}
		if err := r.account.Account(ctx, h.gone.record(r.s, aaa.StatusStop)); err != nil {
			return err
		}
	}
	if err := r.startDisplaced(ctx); err != nil {
		return err
	}
	r.store.acquit(r.covered...) // no newer session's lease has to tell of them any longer
	for _, e := range r.owed {
		if r.apart {
			break // the sweep ends them
		}
		r.ended++
		if err := r.finish(ctx, e); err != nil {
			return err
		}
	}
	return r.stopDisplaced(ctx)
}

// nextInterim is when the next Interim record of a recovered session is due.
func nextInterim(e *entry, now int64) uint32 {
	every := e.limits.Value().records
	if every == 0 {
		return 0
	}
	first := firstInterim(e, every)
	step := max(1, int64(every/time.Second))
	missed := max(0, (now/1000-int64(first)+step-1)/step)
	return uint32(int64(first) + missed*step)
}

// release gives unused leases back and lets the others tell what has been paid.
func (r *recovery) release(ctx context.Context) error {
	if r.apart {
		r.store.acquit(r.unused...)
		return r.later(r.markStarted(ctx))
	}
	for batch := range slices.Chunk(r.unused, extendBatch) {
		if err := r.store.Release(ctx, batch...); err != nil {
			return err
		}
	}
	return r.markStarted(ctx)
}
