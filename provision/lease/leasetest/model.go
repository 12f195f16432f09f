// SPDX-License-Identifier: GPL-2.0-or-later

package leasetest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ddtb/provision/lease"
)

// model is the contract of a Store written down as plainly as can be: every question is answered by looking at every
// entry.
type model struct {
	now     time.Time
	pools   []lease.Pool
	entries map[string][]modelEntry // by pool, then index
	owed    map[modelOwed]bool      // sessions that lost their leases to reservations, where several servers share a store
	shared  bool
}

// modelOwed is a session that is displaced.
type modelOwed struct{ pool, session string }

type modelEntry struct {
	used, held, reserved, forget bool

	owner, session, node, data string
	foreign                    netip.Prefix
	since, end                 time.Time
}

func newModel(pools []lease.Pool, now time.Time, shared bool) *model {
	m := &model{now: now, pools: pools, entries: make(map[string][]modelEntry), owed: make(map[modelOwed]bool), shared: shared}
	for _, p := range pools {
		m.entries[p.Name] = make([]modelEntry, p.Size)
		for i := range m.entries[p.Name] {
			m.entries[p.Name][i].end = time.Unix(0, 0) // long ago
		}
	}
	return m
}

func (e *modelEntry) finish(at time.Time) {
	if e.forget && !e.reserved {
		e.owner = ""
	}
	*e = modelEntry{used: true, reserved: e.reserved, owner: e.owner, end: at}
}

func (m *model) rested(e modelEntry) bool { return !e.end.Add(Quarantine).After(m.now) }

// choices are the indices that a store may give for req, or the error it must give.
func (m *model) choices(req lease.Request) ([]uint32, error) {
	entries := m.entries[req.Pool]
	if req.Index != 0 {
		e := entries[req.Index]
		if e.used && e.owner != req.Owner && (e.reserved || !m.rested(e)) {
			return nil, lease.ErrTaken
		}
		return []uint32{req.Index}, nil
	}
	var mine, unused, idle, expired []uint32
	longest := func(set []uint32, index uint32) []uint32 {
		if len(set) > 0 && entries[index].end.Before(entries[set[0]].end) {
			set = nil
		}
		if len(set) == 0 || entries[index].end.Equal(entries[set[0]].end) {
			set = append(set, index)
		}
		return set
	}
	for i, e := range entries[1:] {
		index := uint32(i + 1)
		switch {
		case e.owner == req.Owner && e.reserved:
			return []uint32{index}, nil
		case e.owner == req.Owner && e.used:
			mine = append(mine, index)
		case !e.used:
			unused = append(unused, index)
		case e.reserved || !m.rested(e):
		case e.held:
			expired = longest(expired, index)
		default:
			idle = longest(idle, index)
		}
	}
	for _, set := range [][]uint32{mine, unused, idle, expired} {
		if len(set) > 0 {
			return set, nil
		}
	}
	return nil, lease.ErrFull
}

// inTheWay are the leases of others that hold a part of the wanted foreign prefix; ok is false if one of them is in force.
func (m *model) inTheWay(req lease.Request) (over []*modelEntry, ok bool) {
	for pool, entries := range m.entries {
		for i := range entries {
			e := &entries[i]
			if !e.held || !e.foreign.IsValid() || !e.foreign.Overlaps(req.Foreign) || pool == req.Pool && e.owner == req.Owner {
				continue
			}
			if e.end.After(m.now) {
				return nil, false
			}
			over = append(over, e)
		}
	}
	return over, true
}

// acquire is Store.Acquire; index is what the store under test chose.
func (m *model) acquire(req lease.Request, index uint32, err error) error {
	choices, want := m.choices(req)
	var over []*modelEntry
	if want == nil && req.Foreign.IsValid() {
		var ok bool
		if over, ok = m.inTheWay(req); !ok {
			want = lease.ErrTaken
		}
	}
	if want != nil || err != nil {
		if !errors.Is(err, want) || want == nil {
			return fmt.Errorf("error %w, want %w", err, want)
		}
		return nil
	}
	if !slices.Contains(choices, index) {
		return fmt.Errorf("index %d, want one of %v", index, choices)
	}
	for _, e := range over {
		e.finish(e.end)
	}
	delete(m.owed, modelOwed{req.Pool, req.Session})
	entries := m.entries[req.Pool]
	for i := range entries {
		e := &entries[i]
		if e.owner != req.Owner || uint32(i) == index || !e.used {
			continue
		}
		if e.held {
			e.finish(m.now)
		}
		if !e.reserved {
			e.owner = ""
		}
	}
	e := &entries[index]
	since := m.now
	if e.held && e.owner == req.Owner && e.session == req.Session {
		since = e.since
	}
	*e = modelEntry{
		used: true, held: true, reserved: e.reserved, forget: req.Forget, owner: req.Owner, session: req.Session, node: req.Node,
		data: string(req.Data), foreign: req.Foreign, since: since, end: m.now.Add(req.TTL),
	}
	return nil
}

func (m *model) holding(h lease.Holder) *modelEntry {
	if e := &m.entries[h.Pool][h.Index]; e.held && e.session == h.Session {
		return e
	}
	return nil
}

func (m *model) extend(ttl time.Duration, holders []lease.Holder) (lost []lease.Lost) {
	for _, h := range holders {
		if e := m.holding(h); e != nil {
			e.end = m.now.Add(ttl)
			if h.Data != nil {
				e.data = string(h.Data)
			}
		} else {
			lost = append(lost, lease.Lost{Holder: h, Preempted: slices.ContainsFunc(m.entries[h.Pool], func(e modelEntry) bool {
				return h.Index != 0 && e.held && e.end.After(m.now) && e.owner == h.Owner && e.session != h.Session
			}) && !m.owed[modelOwed{h.Pool, h.Session}]})
		}
	}
	return lost
}

func (m *model) release(holders []lease.Holder) {
	for _, h := range holders {
		if h.Index != 0 {
			delete(m.owed, modelOwed{h.Pool, h.Session})
		}
		if e := m.holding(h); e != nil {
			e.finish(m.now)
		}
	}
}

func (m *model) reserve(pool string, index uint32, owner string, on bool) error {
	entries := m.entries[pool]
	e := &entries[index]
	if e.owner != owner && (e.reserved || on && e.used && !m.rested(*e)) {
		return lease.ErrTaken
	}
	if e.reserved == on {
		return nil
	}
	others := false
	for i := range entries {
		if o := &entries[i]; o.used && o.owner == owner && uint32(i) != index {
			if o.reserved && on {
				return lease.ErrTaken
			}
			others = true
		}
	}
	if !on {
		e.reserved = false
		if !e.held || e.end.Before(m.now) {
			e.end = m.now
		}
		if others && !e.held {
			e.owner = ""
		}
		return nil
	}
	for i := range entries {
		if o := &entries[i]; o.owner == owner && uint32(i) != index && !o.held {
			o.owner = ""
		}
	}
	if e.owner != owner {
		if e.held && m.shared {
			m.owed[modelOwed{pool, e.session}] = true
		}
		*e = modelEntry{end: e.end, owner: owner}
	}
	e.used, e.reserved = true, true
	return nil
}

// all is Store.All, sorted by id.
func (m *model) all() []lease.Lease {
	var out []lease.Lease
	for _, p := range m.pools {
		for i, e := range m.entries[p.Name] {
			index := uint32(i)
			l := lease.Lease{
				Pool: p.Name, Index: index, ID: p.ID(index), Endpoint: p.Endpoint(index), Prefix: p.Prefix(index), Owner: e.owner,
				State: lease.Idle, Expires: e.end.Add(Quarantine),
			}
			switch {
			case e.held:
				l.State, l.Session, l.Node, l.Data, l.Since, l.Expires = lease.Active, e.session, e.node, []byte(e.data), e.since, e.end
				if e.foreign.IsValid() {
					l.Prefix, l.Foreign = e.foreign, true
				}
			case e.reserved:
				l.State, l.Expires = lease.Reserved, time.Time{}
			case !e.used || e.owner == "" && m.rested(e):
				continue
			}
			out = append(out, l)
		}
	}
	return out
}
