// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"fmt"
	"time"

	"ddtb/aaa"
)

// Bounds of one call of Bury.
const (
	burialMost  = 4096            // sessions, about
	burialTime  = 5 * time.Minute // to read what there is and give the records; the next call goes on
	burialClaim = 8 * time.Minute // nobody else does the same meanwhile: also not while what was begun is released
)

// Left counts what there is to bury of a server that shares the lease store.
//
// Errors: ErrAlive, those of the store.
func (b *Broker) Left(ctx context.Context, node string) (left Burial, err error) {
	if err := b.dead(ctx, node); err != nil {
		return left, err
	}
	for l, err := range b.store.All(ctx) {
		if err != nil {
			return left, fmt.Errorf("leases of %.64q: %w", node, storeError(err))
		}
		if owed(l, node) {
			left.Leases++
			if m, err := readMemo(l.Data); err == nil && m.phase != phaseOffered {
				left.Sessions++
			}
		}
	}
	return left, nil
}

// Bury ends sessions of a server that is gone for good: each gets its Stop record, which names the server as nas says, or as the
// session was known if that is zero, and gives its lease back. A call does some thousand sessions; left is what the next has to
// do. The records tell what the leases were last told of; the cause is NAS-Reboot. Whoever repeats a call that failed may give
// records again, the same in every field.
//
// The server must not forward any more: the leases rest as any that are given back, and go to others then.
//
// Only one server at a time does that for another one: two would give each Stop record twice.
//
// Errors: ErrAlive, ErrClaimed, ErrBusy, those of the peers, the store and the accountant.
func (b *Broker) Bury(ctx context.Context, node string, nas aaa.NAS) (done, left Burial, err error) {
	b.burying.Lock()
	defer b.burying.Unlock()
	if err := b.dead(ctx, node); err != nil {
		return done, left, err
	}
	yield, err := b.others().Claim(ctx, node, burialClaim)
	if err != nil {
		return done, left, fmt.Errorf("bury %.64q: %w", node, err)
	}
	defer yield()
	ctx, cancel := context.WithTimeout(ctx, burialTime)
	defer cancel()
	r := b.remains(node)
	r.nas = &nas
	if nas.Identifier == "" {
		r.nas.Identifier = node
	}
	all := Burial{}
	for l, err := range b.store.All(ctx) {
		switch {
		case err != nil:
			return done, left, fmt.Errorf("leases of %.64q: %w", node, storeError(err))
		case !owed(l, node):
			continue
		}
		m, err := readMemo(l.Data)
		counts := err == nil && m.phase != phaseOffered
		if all.Leases++; counts {
			all.Sessions++
		}
		// Of two sessions of which one replaced the other, the newer one's lease tells of both: it comes with the first call.
		if len(r.sessions)+len(r.unused) < burialMost || counts && m.phase == phaseStarting {
			r.read(l)
		}
	}
	done, err = r.pay(ctx)
	b.log.Info().Str("server", node).Int("sessions", done.Sessions).Int("leases", done.Leases).Err(err).Msg("what a server has left was ended")
	if err != nil {
		return done, left, fmt.Errorf("bury %.64q: %w", node, storeError(err))
	}
	return done, Burial{all.Sessions - done.Sessions, all.Leases - done.Leases}, nil
}

// dead refuses a server that may be alive.
func (b *Broker) dead(ctx context.Context, node string) error {
	peers := b.others()
	if peers == nil || node == b.settings.Load().Node || peers.Alive(ctx, node) {
		return fmt.Errorf("server %.64q: %w", node, ErrAlive)
	}
	return nil
}
