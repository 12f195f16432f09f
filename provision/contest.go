// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

// Rival is a session that another server says it has put in force.
type Rival struct {
	ID       string
	Owner    string // of its lease
	Pool     string
	Endpoint netip.Addr
	Since    time.Time
}

// Contest ends what another server's login has put an end to: the session here that has the same lease, if the store says
// that it has lost it; and that of the same owner with a lease of another pool, if it is the older one. What the rival
// is said to be is not believed otherwise.
//
// Errors: those of the store or the accountant; the sweep goes on with what was begun.
func (b *Broker) Contest(ctx context.Context, rival Rival) error {
	s := b.settings.Load()
	contested, replaced := b.rivals(s, rival)
	ctx, cancel := detach(ctx)
	defer cancel()
	lost := make(map[*entry]aaa.Cause)
	var err error
	if contested != nil {
		lost, err = b.extend(ctx, s, []*entry{contested}, []lease.Holder{contested.holder()})
	}
	if replaced != nil {
		lost[replaced] = aaa.CausePortPreempted
	}
	return errors.Join(err, b.endAll(ctx, slices.Collect(maps.Keys(lost)), b.endOf(lost)))
}

// rivals finds the session on the same lease, and the older one of the same owner that has another, nil if there is none.
func (b *Broker) rivals(s *settings, rival Rival) (contested, replaced *entry) {
	pool := s.pool(rival.Pool)
	b.mu.Lock()
	defer b.mu.Unlock()
	if index, ok := pool.EndpointIndex(rival.Endpoint); ok {
		contested = b.tunnels[pool.ID(index)]
	}
	if contested != nil && contested.id.String() == rival.ID {
		contested = nil
	}
	replaced = b.owners[rival.Owner]
	if replaced == nil || replaced == contested || replaced.state != Active || replaced.id.String() == rival.ID ||
		replaced.terms.Value().leasePool == rival.Pool || replaced.since >= rival.Since.UnixMilli() {
		replaced = nil
	}
	return contested, replaced
}

// Contested tells whether Contest would have something to do. It asks nobody.
func (b *Broker) Contested(rival Rival) bool {
	contested, replaced := b.rivals(b.settings.Load(), rival)
	return contested != nil || replaced != nil
}

// Reassert extends the leases of all sessions now rather than when their time comes, and ends the sessions that have lost
// theirs: after a time in which other servers could not be heard of.
func (b *Broker) Reassert(ctx context.Context) error {
	s := b.settings.Load()
	return b.extendLeases(ctx, s, b.inState(Active))
}

// Drain refuses offers from now on (ErrBusy), or no longer. Sessions go on.
func (b *Broker) Drain(on bool) { b.drained.Store(on) }
