// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"fmt"
	"math"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

// settle picks the slot and gives the session that is in it now, which Activate will replace, or nil.
func (b *Broker) settle(ctx context.Context, s *settings, e *entry, sub aaa.Subscriber) (*entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.contend(e); err != nil || sub.Anonymous {
		return nil, err
	}
	slot, err := b.choose(s, e, sub)
	if err != nil {
		return nil, err
	}
	e.slot = uint16(slot)
	current := b.owners[e.owner()]
	if current == nil && len(b.byID)+b.offering > s.MaxSessions {
		return nil, fmt.Errorf("%d sessions, and the subscriber has slot %d free: %w", len(b.byID), slot, ErrFull)
	}
	if current == nil || current.state == Active {
		return current, nil
	}
	b.mu.Unlock()
	err = b.finish(ctx, current)
	b.mu.Lock()
	return nil, err
}

// contend refuses e when its outer address ends a v6v4 tunnel of somebody else who was heard of lately (RFC 5572,
// status 506). Whoever speaks from an address has proved to be there, so an anonymous session keeps nobody out.
func (b *Broker) contend(e *entry) error {
	other := b.clients[e.from()]
	if other == nil || e.terms.Value().encap != datapath.V6V4 {
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

// choose picks the slot for a further session of a subscriber: the one of the same outer address, else the lowest free
// one, so that each keeps its lease, else by policy the one longest silent.
func (b *Broker) choose(s *settings, e *entry, sub aaa.Subscriber) (int, error) {
	limit := s.Sessions.Limit
	if sub.SessionLimit > 0 {
		limit = min(sub.SessionLimit, MaxSlots)
	}
	if e.index != 0 || e.foreign().IsValid() {
		limit = 1 // a static address is in one place at a time
	}
	free, victim, quietest, pending := limit+1, 0, int64(math.MaxInt64), false
	for slot := 1; slot <= limit; slot++ {
		owner := Owner(e.name, slot)
		current, offer := b.owners[owner], b.offers[owner]
		vacant := current == nil || current.state == Ending
		if !vacant && current.from() == e.from() || offer != nil && offer.from() == e.from() {
			return slot, nil
		}
		pending = pending || offer != nil
		if vacant && offer == nil {
			free = min(free, slot)
			continue
		}
		if s.Sessions.Deny && (offer != nil || !b.silent(current)) {
			continue
		}
		if last := lastSign(current, offer); last < quietest {
			victim, quietest = slot, last
		}
	}
	switch {
	case free <= limit:
		return free, nil
	case victim != 0:
		return victim, nil
	case pending:
		return 0, fmt.Errorf("another login of the subscriber is not done: %w", ErrInProgress)
	}
	return 0, fmt.Errorf("%d sessions: %w", limit, ErrDenied)
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
