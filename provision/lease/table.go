// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"fmt"
	"iter"
	"slices"
	"time"
)

// table is the leases of a set of pools in memory, and what can be done with them. It knows no lock and no disk: its
// owner calls one method at a time.
//
// Every change goes through replace, which keeps the orders and indices in step and hands the entry before and after to
// record, so that it can be written down and undone. An operation that fails has changed nothing.
type table struct {
	plain      []Pool // as they were configured
	pools      []*poolTable
	byName     map[string]*poolTable
	prefixes   prefixSet // foreign prefixes of held entries
	quarantine time.Duration
	record     func(change)
	shared     bool // by several nodes: what is displaced is kept
}

// change is one entry replaced.
type change struct {
	pool          *poolTable
	index         uint32
	before, after entry
}

// poolTable is the leases of one pool.
type poolTable struct {
	Pool
	number int     // place in table.pools
	pages  []*page // entries in runs, made when an index of theirs is first used
	owners owners
	idle   queue            // neither held nor reserved
	lent   queue            // held and not reserved, also past the end
	owed   map[string]Lease // displaced, by session
	used   uint32           // entries in use
	held   uint32           // of these, held by a session
	kept   uint32           // of these, reserved and not held
	next   uint32           // no index below was never used, except 0
}

const pageBits = 10

type page [1 << pageBits]entry

// newTable makes a table without leases for valid pools.
func newTable(pools []Pool, opts Options) *table {
	t := &table{plain: pools, byName: make(map[string]*poolTable), quarantine: opts.Quarantine, record: func(change) {}}
	for i, pool := range pools {
		p := &poolTable{Pool: pool, number: i, owners: newOwners(), owed: make(map[string]Lease), next: 1}
		p.idle.pool, p.lent.pool = p, p
		t.pools = append(t.pools, p)
		t.byName[pool.Name] = p
	}
	return t
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Quarantine == 0 {
		o.Quarantine = DefaultQuarantine
	}
	return o
}

func (t *table) pool(name string) (*poolTable, error) {
	p := t.byName[name]
	if p == nil {
		return nil, fmt.Errorf("pool %q: %w", name, ErrNoPool)
	}
	return p, nil
}

// get is the entry of an index.
func (p *poolTable) get(index uint32) entry {
	n := index >> pageBits
	if int(n) >= len(p.pages) || p.pages[n] == nil {
		return entry{}
	}
	return p.pages[n][index&(1<<pageBits-1)]
}

// all yields the entries in use.
func (p *poolTable) all() iter.Seq2[uint32, entry] {
	return func(yield func(uint32, entry) bool) {
		for n, page := range p.pages {
			if page == nil {
				continue
			}
			for i, e := range page {
				if e.is(used) && !yield(uint32(n<<pageBits+i), e) {
					return
				}
			}
		}
	}
}

// pageAt is a copy of a page, empty if nothing of it was ever used; ok is false behind the last.
func (p *poolTable) pageAt(n int) (entries page, ok bool) {
	if n >= len(p.pages) {
		return page{}, false
	}
	if p.pages[n] != nil {
		entries = *p.pages[n]
	}
	return entries, true
}

// at is the place of an entry whose page is there.
func (p *poolTable) at(index uint32) *entry { return &p.pages[index>>pageBits][index&(1<<pageBits-1)] }

// place is the place of an entry, whose page is made if need be.
func (p *poolTable) place(index uint32) *entry {
	n := int(index >> pageBits)
	if n >= len(p.pages) {
		p.pages = append(p.pages, make([]*page, n+1-len(p.pages))...)
	}
	if p.pages[n] == nil {
		p.pages[n] = new(page)
	}
	return p.at(index)
}

// find returns the indices that owner has: current without a reservation, reserved with one; 0: none.
func (p *poolTable) find(owner string) (current, reserved uint32) {
	p.owners.each(p.owners.hash(owner), func(i uint32) {
		switch e := p.at(i); {
		case e.owner() != owner: // the same hash by chance
		case e.is(kept):
			reserved = i
		default:
			current = i
		}
	})
	return current, reserved
}

// replace puts an entry in the place of another.
func (t *table) replace(p *poolTable, index uint32, after entry) {
	before := t.swap(p, index, after)
	if !before.same(after) {
		t.record(change{p, index, before, after})
	}
}

// swap is replace without a record of it, for reading and undoing.
func (t *table) swap(p *poolTable, index uint32, after entry) (before entry) {
	place := p.place(index)
	before = *place
	if before.flags == after.flags && before.blob == after.blob {
		place.since, place.end = after.since, after.end
		if q := p.queueOf(after); q != nil {
			q.fix(index)
		}
		return before
	}
	t.detach(p, index, before)
	after.slot = 0
	*place = after
	t.attach(p, index, after)
	if !after.is(used) {
		p.next = min(p.next, index) // undone
	}
	return before
}

// queueOf is the queue an entry belongs into, nil: none.
func (p *poolTable) queueOf(e entry) *queue {
	switch {
	case !e.is(used) || e.is(kept):
		return nil
	case e.is(held):
		return &p.lent
	}
	return &p.idle
}

func (t *table) detach(p *poolTable, index uint32, e entry) {
	if !e.is(used) {
		return
	}
	p.count(e, ^uint32(0))
	if owner := e.owner(); owner != "" {
		p.owners.remove(p.owners.hash(owner), index)
	}
	if q := p.queueOf(e); q != nil {
		q.remove(index)
	}
	if e.is(foreign) {
		t.prefixes.remove(e.fields().foreign)
	}
}

func (t *table) attach(p *poolTable, index uint32, e entry) {
	if !e.is(used) {
		return
	}
	p.count(e, 1)
	if owner := e.owner(); owner != "" {
		p.owners.add(p.owners.hash(owner), index)
	}
	if q := p.queueOf(e); q != nil {
		q.push(index)
	}
	if e.is(foreign) {
		t.prefixes.add(e.fields().foreign, p, index)
	}
}

// count adds n, modulo 2^32, to the counts an entry is in.
func (p *poolTable) count(e entry, n uint32) {
	p.used += n
	switch {
	case e.is(held):
		p.held += n
	case e.is(kept):
		p.kept += n
	}
}

// unused returns the lowest index never used, 0 if there is none.
func (p *poolTable) unused() uint32 {
	for ; p.next < p.Size; p.next++ {
		if e := p.get(p.next); !e.is(used) {
			return p.next
		}
	}
	return 0
}

// lease is how the world sees an entry.
func (t *table) lease(p *poolTable, index uint32, e entry) Lease {
	f := e.fields()
	l := Lease{
		Pool: p.Name, Index: index, ID: p.ID(index), Endpoint: p.Endpoint(index), Prefix: p.Prefix(index),
		Owner: f.owner, State: Idle, Expires: time.Unix(0, e.end).Add(t.quarantine),
	}
	switch {
	case e.is(held):
		l.State, l.Session, l.Node, l.Data = Active, f.session, f.node, []byte(f.data)
		l.Since, l.Expires = time.Unix(0, e.since), time.Unix(0, e.end)
		if f.foreign.IsValid() {
			l.Prefix, l.Foreign = f.foreign, true
		}
	case e.is(kept):
		l.State, l.Expires = Reserved, time.Time{}
	}
	return l
}

// displace keeps what a session leaves behind whose entry goes to one of another node.
func (t *table) displace(p *poolTable, index uint32, now time.Time, req Request) {
	e := p.get(index)
	if !t.shared || !e.is(held) || e.fields().node == req.Node {
		return
	}
	l := t.lease(p, index, e)
	l.State, l.Taker = Displaced, req.Owner
	if l.Expires.After(now) {
		l.Expires = now
	}
	p.owed[l.Session] = l
}

// preempted tells whether a session that does not hold its lease gave way to another of its owner.
func (t *table) preempted(p *poolTable, now time.Time, h Holder) bool {
	if l, ok := p.owed[h.Session]; ok {
		return l.Taker == l.Owner
	}
	return h.Owner != "" && p.holder(now, h.Owner, h.Session) != 0
}

// holder finds the lease that a session other than these holds of an owner, in any pool, before its end.
func (t *table) holder(now time.Time, owner string, sessions ...string) (Lease, bool) {
	for _, p := range t.pools {
		if index := p.holder(now, owner, sessions...); index != 0 {
			return t.lease(p, index, p.get(index)), true
		}
	}
	return Lease{}, false
}

// holder is the same in one pool, 0: none.
func (p *poolTable) holder(now time.Time, owner string, sessions ...string) uint32 {
	current, reserved := p.find(owner)
	for _, index := range []uint32{current, reserved} {
		if e := p.get(index); index != 0 && e.active(now) && !slices.Contains(sessions, e.fields().session) {
			return index
		}
	}
	return 0
}

// rested tells whether the quarantine of an entry is over: somebody else may get the index, also from a session that has
// let its lease end and not come back.
func (t *table) rested(e entry, now time.Time) bool {
	return e.end+int64(t.quarantine) <= now.UnixNano()
}

// leases appends the leases of a page that are worth telling of: not an index that was used once, by somebody who is
// forgotten, and is free again.
func (t *table) leases(p *poolTable, number int, now time.Time, out []Lease) []Lease {
	if number >= len(p.pages) || p.pages[number] == nil {
		return out
	}
	for i := range p.pages[number] {
		e := p.pages[number][i]
		if !e.is(used) || e.blob == "" && t.rested(e, now) {
			continue
		}
		out = append(out, t.lease(p, uint32(number<<pageBits+i), e))
	}
	return out
}

// usage counts the leases of every pool.
func (t *table) usage() []Usage {
	var out []Usage
	for _, p := range t.pools {
		out = append(out, Usage{
			Pool: p.Name, Size: p.Size, Active: p.held, Reserved: p.kept, Idle: p.used - p.held - p.kept, Unused: p.Size - 1 - p.used,
		})
	}
	return out
}
