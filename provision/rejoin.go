// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"fmt"

	"ddtb/provision/lease"
)

// keeper is what a lease.Store has besides that knows what this node served also when it was opened while the store proper was
// away. A process that starts then goes on like one that lived on: known subscribers get their sessions, and each ends when its
// time is over, its lease's too. What is owed to the store, the sweep brings when it is there again.
type keeper interface {
	// Kept gives the leases of this node, Active, as they were when the store was last written to. Not ok unless the store is
	// away since it was opened.
	Kept() (leases []lease.Lease, ok bool)
}

// readKept makes entries of what the store has kept here, if it has.
func (r *recovery) readKept() bool {
	k, ok := r.store.Store.(keeper)
	if !ok {
		return false
	}
	kept, ok := k.Kept()
	r.apart = ok
	for _, l := range kept {
		if owed(l, r.s.Node) {
			r.read(l)
		}
	}
	return ok
}

// later is an error of Recover, nil if the sweep goes on with it.
func (r *recovery) later(err error) error {
	if err == nil || !r.apart {
		return err
	}
	r.log.Warn().Err(err).Msg("the lease store is away: sessions that are over wait for it with their Stop records")
	return nil
}

// rejoin looks, once the store is there again, for what it knows of this node's sessions and what was kept here did not tell:
// those that went to another server while no process was here, and those of a login that a crash cut short. They are over,
// and their records are given.
func (b *Broker) rejoin(ctx context.Context) error {
	if !b.apart.Load() {
		return nil
	}
	r := b.remains(b.settings.Load().Node)
	var unknown []lease.Lease
	for l, err := range b.store.All(ctx) {
		if err != nil {
			return fmt.Errorf("the lease store was away at the start: %w", err)
		}
		if owed(l, r.node) && b.lookup(l.Session) == nil {
			unknown = append(unknown, l)
		}
	}
	for _, l := range unknown {
		if b.lookup(l.Session) == nil { // else it has begun meanwhile
			r.read(l)
		}
	}
	done, err := r.pay(ctx)
	if err != nil {
		return fmt.Errorf("sessions that ended before the lease store was away: %w", err)
	}
	b.apart.Store(false)
	b.log.Info().Int("ended", done.Sessions).Int("released", done.Leases).
		Msg("the lease store is there again; what it knows of this server's sessions was compared")
	return nil
}
