// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ddtb/provision/lease"
)

// Peers is what is known of the other servers that share the lease store.
type Peers interface {
	// Alive tells whether the server of this name may have sessions in force: false only if it is known to be gone.
	Alive(ctx context.Context, node string) bool
	// Seen is when the client of another server's session was last heard of, zero if that is not known.
	Seen(ctx context.Context, session string) time.Time
	// Claim makes this server the only one that ends what another has left, until yield is called or the time of keep is over.
	// ErrClaimed if another one is that already, with its name; any other error tells that it cannot be known.
	Claim(ctx context.Context, node string, keep time.Duration) (yield func(), err error)
}

// Join makes the Broker mind the sessions of other servers: a subscriber's limit is one for all of them together. It is called before
// anything is offered.
func (b *Broker) Join(peers Peers) { b.peers.Store(&peers) }

// others are the other servers, nil if there are none.
func (b *Broker) others() Peers {
	if peers := b.peers.Load(); peers != nil {
		return *peers
	}
	return nil
}

// seated is a session, perhaps another server's, that holds the lease of a slot that is free here.
type seated struct {
	slot int
	lease.Lease
	memo memo
}

// pending tells whether it is an offer that nobody has accepted.
func (s seated) pending() bool { return s.memo.phase == phaseOffered }

// seat puts e into a slot that is free at all servers. If there is none it takes the place of a session that keeps nobody
// out, else by policy of the one longest silent. The lease store is the judge: what it gives is e's, whoever else asks.
func (b *Broker) seat(ctx context.Context, s *settings, e *entry, peers Peers, seats seats) (*entry, error) {
	var found []seated
	for _, slot := range seats.free {
		held, err := b.takeSeat(ctx, s, e, slot, "")
		if !errors.Is(err, lease.ErrHeld) {
			return nil, err
		}
		m, _ := readMemo(held.Data) // what cannot be read says nothing
		found = append(found, seated{slot, held, m})
	}
	for _, other := range found {
		if !b.keepsOut(ctx, s, e, peers, other) {
			return nil, b.unseat(ctx, s, e, other)
		}
		seats.pending = seats.pending || other.pending()
	}
	quietest, last := -1, seats.lastSign
	for i, other := range found {
		if at := lastHeard(ctx, peers, other); !seats.deny && at < last {
			quietest, last = i, at
		}
	}
	if quietest >= 0 {
		return nil, b.unseat(ctx, s, e, found[quietest])
	}
	slot, err := seats.replace()
	if err != nil {
		return nil, err
	}
	return b.occupy(ctx, s, e, slot)
}

// takeSeat asks for the lease of a slot that is free here. With lease.ErrHeld it gives the lease as it is held by a session
// other than over.
func (b *Broker) takeSeat(ctx context.Context, s *settings, e *entry, slot int, over string) (lease.Lease, error) {
	if _, err := b.occupy(ctx, s, e, slot); err != nil {
		return lease.Lease{}, err
	}
	return b.reserve(ctx, s, e, func(r *lease.Request) { r.Yield, r.Over = true, over })
}

// unseat takes the place of another server's session, unless somebody else has done so meanwhile.
func (b *Broker) unseat(ctx context.Context, s *settings, e *entry, other seated) error {
	_, err := b.takeSeat(ctx, s, e, other.slot, other.Session)
	if errors.Is(err, lease.ErrHeld) {
		return fmt.Errorf("another login of the subscriber was faster: %w: %w", ErrInProgress, err)
	}
	return err
}

// keepsOut tells whether a session counts for the limit: not one of a server that is gone, nor one whose client is the one
// that asks, nor what is left in the store of a session of this server, which knows all that it has.
func (b *Broker) keepsOut(ctx context.Context, s *settings, e *entry, peers Peers, other seated) bool {
	if old := other.memo.entry; old != nil && old.client == e.client && old.port == e.port && old.terms.Value().encap == e.terms.Value().encap {
		return false
	}
	return other.Node != s.Node && peers.Alive(ctx, other.Node)
}

// lastHeard is when a session was last heard of, in Unix ms: when it began if nobody knows.
func lastHeard(ctx context.Context, peers Peers, other seated) int64 {
	if seen := peers.Seen(ctx, other.Session); seen.After(other.Since) {
		return seen.UnixMilli()
	}
	return other.Since.UnixMilli()
}
