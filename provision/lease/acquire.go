// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// What a Request may hold, in octets.
const (
	MaxOwner   = 255
	MaxSession = 64
	MaxNode    = 255
)

// acquire is Store.Acquire.
func (t *table) acquire(now time.Time, req Request) (Lease, error) {
	p, err := t.pool(req.Pool)
	if err == nil {
		err = check(p.Pool, t.plain, req)
	}
	if err != nil {
		return Lease{}, requestError(req, err)
	}
	if l, ok := t.holder(now, req.Owner, req.Session, req.Over); ok && req.Yield {
		return l, requestError(req, ErrHeld)
	}
	current, reserved := p.find(req.Owner)
	index, err := t.choose(p, now, req, current, reserved)
	if err == nil {
		err = t.clearForeign(p, now, req, index, current, reserved)
	}
	if err != nil {
		return Lease{}, requestError(req, err)
	}
	for _, i := range []uint32{current, reserved, index} {
		if e := p.get(i); e.is(held) && e.fields().session != req.Session {
			t.displace(p, i, now, req)
		}
	}
	delete(p.owed, req.Session)
	// He has one index of the pool at a time; only a reservation stays his besides.
	if current != 0 && current != index {
		t.replace(p, current, p.get(current).disowned(now.UnixNano()))
	}
	if reserved != 0 && reserved != index && p.at(reserved).is(held) {
		t.replace(p, reserved, p.get(reserved).ended(now.UnixNano()))
	}
	after := taken(p.get(index), now, req)
	t.replace(p, index, after)
	return t.lease(p, index, after), nil
}

// taken is e once the request is fulfilled.
func taken(e entry, now time.Time, req Request) entry {
	since := now.UnixNano()
	if f := e.fields(); e.is(held) && f.owner == req.Owner && f.session == req.Session {
		since = e.since
	}
	f := fields{owner: req.Owner, session: req.Session, node: req.Node, foreign: req.Foreign, data: string(req.Data)}
	after := entry{blob: f.blob(), since: since, end: now.Add(req.TTL).UnixNano(), flags: used | held | e.flags&kept}
	if req.Forget {
		after.flags |= forget
	}
	if req.Foreign.IsValid() {
		after.flags |= foreign
	}
	return after
}

// check refuses what can never be fulfilled: of one of all pools.
func check(p Pool, all []Pool, req Request) error {
	switch {
	case req.Owner == "" || len(req.Owner) > MaxOwner:
		return fmt.Errorf("owner of %d octets, 1 to %d expected: %w", len(req.Owner), MaxOwner, ErrInvalid)
	case req.Session == "" || len(req.Session) > MaxSession:
		return fmt.Errorf("session of %d octets, 1 to %d expected: %w", len(req.Session), MaxSession, ErrInvalid)
	case len(req.Node) > MaxNode:
		return fmt.Errorf("node of %d octets, at most %d expected: %w", len(req.Node), MaxNode, ErrInvalid)
	case len(req.Data) > MaxData:
		return fmt.Errorf("%d octets of data, at most %d expected: %w", len(req.Data), MaxData, ErrInvalid)
	case req.TTL <= 0:
		return fmt.Errorf("time to live %v: %w", req.TTL, ErrInvalid)
	case req.Index >= p.Size:
		return fmt.Errorf("index %d, below %d expected: %w", req.Index, p.Size, ErrInvalid)
	case req.Foreign != netip.Prefix{}:
		return ValidForeign(all, req.Foreign)
	}
	return nil
}

// ValidForeign refuses a prefix that no subscriber can have beside the pools.
func ValidForeign(pools []Pool, prefix netip.Prefix) error {
	if validBase(prefix.Addr()) != nil || prefix.Masked() != prefix || prefix.Bits() < 16 || prefix.Bits() > 64 {
		return fmt.Errorf("foreign prefix %v, a unicast prefix of 16 to 64 bits expected: %w", prefix, ErrInvalid)
	}
	for _, p := range pools {
		if p.Overlaps(prefix) {
			return fmt.Errorf("foreign prefix %v lies in pool %q, ask for its index instead: %w", prefix, p.Name, ErrInvalid)
		}
	}
	return nil
}

// choose returns the index that the owner gets.
func (t *table) choose(p *poolTable, now time.Time, req Request, current, reserved uint32) (uint32, error) {
	switch {
	case req.Index != 0:
		e := p.get(req.Index)
		free := !e.is(used) || e.owner() == req.Owner || !e.is(kept) && t.rested(e, now)
		if !free {
			return 0, fmt.Errorf("index %d: %w", req.Index, ErrTaken)
		}
		return req.Index, nil
	case reserved != 0:
		return reserved, nil
	case current != 0:
		return current, nil
	}
	if i := p.unused(); i != 0 {
		return i, nil
	}
	// A session that let its lease end and never came back goes last: its broker may still owe a record.
	for _, i := range []uint32{p.idle.first(), p.lent.first()} {
		if i != 0 && t.rested(p.get(i), now) {
			return i, nil
		}
	}
	return 0, ErrFull
}

// clearForeign ends the leases whose foreign prefixes stand in the way of a wanted one and whose time is over. It
// refuses the prefix if others are in the way. Those of the same owner, which are going, are not.
func (t *table) clearForeign(p *poolTable, now time.Time, req Request, going ...uint32) error {
	prefix := req.Foreign
	if !prefix.IsValid() {
		return nil
	}
	var over []heldPrefix
	for _, h := range t.prefixes.overlapping(prefix) {
		switch {
		case h.pool == p && slices.Contains(going, h.index):
		case h.pool.at(h.index).active(now):
			return fmt.Errorf("foreign prefix %v: %w", prefix, ErrTaken)
		default:
			over = append(over, h)
		}
	}
	for _, h := range over {
		e := h.pool.get(h.index)
		t.displace(h.pool, h.index, now, req)
		t.replace(h.pool, h.index, e.ended(e.end))
	}
	return nil
}

// holding returns the pool and entry of a lease, if the holder has it; no pool if there cannot be such a lease.
func (t *table) holding(h Holder) (*poolTable, entry, bool) {
	p := t.byName[h.Pool]
	if p == nil || h.Index == 0 || h.Index >= p.Size {
		return nil, entry{}, false
	}
	e := p.get(h.Index)
	return p, e, e.is(held) && e.fields().session == h.Session
}

// note puts the data of a displaced session in the place of what it left.
func (p *poolTable) note(h Holder) {
	if l, ok := p.owed[h.Session]; ok && h.Data != nil {
		l.Data = h.Data
		p.owed[h.Session] = l
	}
}

// extend is Store.Extend.
func (t *table) extend(now time.Time, ttl time.Duration, holders []Holder) (lost []Lost) {
	for _, h := range holders {
		p, e, ok := t.holding(h)
		if !ok {
			if p != nil {
				p.note(h)
			}
			lost = append(lost, Lost{Holder: h, Preempted: p != nil && t.preempted(p, now, h)})
			continue
		}
		if h.Data != nil {
			f := e.fields()
			f.data = string(h.Data)
			e.blob = f.blob()
		}
		e.end = now.Add(ttl).UnixNano()
		t.replace(p, h.Index, e)
	}
	return lost
}

// release is Store.Release.
func (t *table) release(now time.Time, holders []Holder) {
	for _, h := range holders {
		p, e, ok := t.holding(h)
		if ok {
			t.replace(p, h.Index, e.ended(now.UnixNano()))
		}
		if p != nil {
			delete(p.owed, h.Session)
		}
	}
}

// reserve is Store.Reserve.
func (t *table) reserve(now time.Time, pool string, index uint32, owner string, on bool) error {
	p, err := t.pool(pool)
	if err != nil {
		return err
	}
	if err := checkReserve(p.Pool, index, owner); err != nil {
		return err
	}
	e := p.get(index)
	other := e.owner() != owner
	if other && (e.is(kept) || on && e.is(used) && !t.rested(e, now)) {
		return fmt.Errorf("pool %q index %d: %w", pool, index, ErrTaken)
	}
	if e.is(kept) == on {
		return nil
	}
	current, reserved := p.find(owner)
	if !on {
		t.unreserve(p, now, index, e, current)
		return nil
	}
	if reserved != 0 {
		return fmt.Errorf("pool %q: %q has index %d reserved: %w", pool, owner, reserved, ErrTaken)
	}
	if current != 0 && current != index && !p.at(current).is(held) {
		t.replace(p, current, p.get(current).disowned(0))
	}
	if other {
		t.displace(p, index, now, Request{Owner: owner})
		e = entry{blob: ownerBlob(owner), end: e.end}
	}
	e.flags |= used | kept
	t.replace(p, index, e)
	return nil
}

// unreserve ends a reservation. Its owner keeps the index as anybody keeps his last one, unless he has another; it rests
// from now on.
func (t *table) unreserve(p *poolTable, now time.Time, index uint32, e entry, current uint32) {
	e.flags &^= kept
	if end := now.UnixNano(); !e.is(held) || e.end < end {
		e.end = end
	}
	if current != 0 && !e.is(held) {
		e = e.disowned(0)
	}
	t.replace(p, index, e)
}

func checkReserve(p Pool, index uint32, owner string) error {
	if index == 0 || index >= p.Size || owner == "" || len(owner) > MaxOwner {
		return fmt.Errorf("pool %q: index %d, 1 to %d expected, for an owner of 1 to %d octets: %w", p.Name, index, p.Size-1, MaxOwner, ErrInvalid)
	}
	return nil
}

func requestError(req Request, err error) error {
	return fmt.Errorf("lease for %q in pool %q: %w", req.Owner, req.Pool, err)
}
