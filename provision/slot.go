// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"fmt"
	"math"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

// settle picks the slot and gives the session that is in it now, which Activate will replace, or nil. Where the lease store
// had to be asked for the slot, e holds its lease then.
func (b *Broker) settle(ctx context.Context, s *settings, e *entry, sub aaa.Subscriber) (*entry, error) {
	b.mu.Lock()
	if err := b.contend(e); err != nil || sub.Anonymous {
		b.mu.Unlock()
		return nil, err
	}
	seats := b.seats(s, e, sub)
	b.mu.Unlock()
	if peers := b.others(); peers != nil && seats.open() && (seats.limit > 1 || seats.deny) {
		return b.seat(ctx, s, e, peers, seats)
	}
	slot, err := seats.pick()
	if err != nil {
		return nil, err
	}
	return b.occupy(ctx, s, e, slot)
}

// occupy puts e into a slot, and gives the session in force there, or nil.
func (b *Broker) occupy(ctx context.Context, s *settings, e *entry, slot int) (*entry, error) {
	e.slot = uint16(slot)
	b.mu.Lock()
	defer b.mu.Unlock()
	current := b.owners[e.owner()]
	if current == nil && len(b.byID)+b.offering > s.MaxSessions {
		return nil, fmt.Errorf("%d sessions, and the subscriber has slot %d free: %w", len(b.byID), slot, ErrFull)
	}
	if current == nil || current.state == Active {
		return current, nil
	}
	b.mu.Unlock()
	err := b.finish(ctx, current)
	b.mu.Lock()
	return nil, err
}

// contend refuses e when its outer address ends a v6v4 tunnel of somebody else who was heard of lately (RFC 5572,
// status 506), or when a prefix of his is another's. Whoever speaks from an address and port has proved to be there, and who was there
// before has gone, unless nothing was proved: then he keeps them as long as he is heard of. An anonymous session keeps nobody out.
func (b *Broker) contend(e *entry) error {
	if err := b.claims.contend(e); err != nil {
		return err
	}
	other := b.clients[e.from()]
	if other == nil || e.terms.Value().encap != datapath.V6V4 && !e.forgeable {
		return nil
	}
	if terms := other.terms.Value(); terms.anonymous || other.name == e.name && !e.terms.Value().anonymous || b.silent(other) {
		return nil
	}
	return fmt.Errorf("session %v: %w", other.id, ErrAddressInUse)
}

func (b *Broker) silent(e *entry) bool {
	silence := e.terms.Value().lost
	if idle := e.limits.Value().idle; idle > 0 {
		silence = min(silence, idle)
	}
	return b.now()-e.seen > silence.Milliseconds()
}

// seats are the slots for a further session of a subscriber, as this server knows them.
type seats struct {
	limit    int
	deny     bool
	same     int   // the one with a session or an offer from the same outer address, 0: none
	free     []int // with neither
	victim   int   // the one longest silent of those that may be replaced, 0: none
	lastSign int64 // when that was heard of, Unix ms
	pending  bool  // there is an offer in one
}

// seats looks at the slots of e's subscriber. mu is held.
func (b *Broker) seats(s *settings, e *entry, sub aaa.Subscriber) seats {
	out := seats{limit: s.Sessions.Limit, deny: s.Sessions.Deny, lastSign: math.MaxInt64}
	if sub.SessionLimit > 0 {
		out.limit = min(sub.SessionLimit, MaxSlots)
	}
	if e.index != 0 || e.foreign().IsValid() || e.terms.Value().routes.Len() > 0 {
		out.limit = 1 // a static address is in one place at a time
	}
	for slot := 1; slot <= out.limit; slot++ {
		owner := Owner(e.name, slot)
		current, offer := b.owners[owner], b.offers[owner]
		vacant := current == nil || current.state == Ending
		if !vacant && current.from() == e.from() || offer != nil && offer.from() == e.from() {
			out.same = slot
			return out
		}
		out.pending = out.pending || offer != nil
		if vacant && offer == nil {
			out.free = append(out.free, slot)
			continue
		}
		if out.deny && (offer != nil || !b.silent(current)) {
			continue
		}
		if last := lastSign(current, offer); last < out.lastSign {
			out.victim, out.lastSign = slot, last
		}
	}
	return out
}

// open tells whether a slot would be taken that nobody here is in.
func (s seats) open() bool { return s.same == 0 && len(s.free) > 0 }

// pick gives the slot of the same outer address, else the lowest free one, so that each keeps its lease, else by policy the
// one longest silent.
func (s seats) pick() (int, error) {
	switch {
	case s.same != 0:
		return s.same, nil
	case len(s.free) > 0:
		return s.free[0], nil
	}
	return s.replace()
}

// replace gives the slot whose session has to go.
func (s seats) replace() (int, error) {
	switch {
	case s.victim != 0:
		return s.victim, nil
	case s.pending:
		return 0, fmt.Errorf("another login of the subscriber is not done: %w", ErrInProgress)
	}
	return 0, fmt.Errorf("%d sessions: %w", s.limit, ErrDenied)
}

// lastSign is when a slot was last heard of.
func lastSign(current, offer *entry) int64 {
	last := int64(0)
	for _, e := range []*entry{current, offer} {
		if e != nil {
			last = max(last, e.seen)
		}
	}
	return last
}
