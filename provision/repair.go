// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"

	"ddtb/provision/datapath"
)

// findMissing looks for sessions whose tunnel the datapath did not show, if the numbers say that there may be some.
func (b *Broker) findMissing(began int64, found *due) {
	const looked = 1024 // before the lock is let go for a moment
	settled := began - ioTimeout.Milliseconds()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sessions() == found.sessions {
		return
	}
	n := 0
	for _, e := range b.tunnels {
		if e.sweep != b.sweeps.round && e.since < settled {
			found.missing = append(found.missing, e)
		}
		if n++; n%looked == 0 {
			b.mu.Unlock()
			b.mu.Lock()
		}
	}
}

// removeStrays stops tunnels that belong to no session: an undo that failed, or somebody else's doing. A tunnel is one
// only if the last sweep found it too: else its session may have ended while the datapath was listed.
func (b *Broker) removeStrays(ctx context.Context, strays map[uint32]uint64) error {
	before := b.sweeps.strays
	b.sweeps.strays = strays
	var errs []error
	for id, session := range strays {
		if before[id] != session || b.inUse(id) {
			continue
		}
		b.log.Warn().Uint32("tunnel", id).Msg("the datapath has a tunnel of no session; it is removed")
		if _, err := b.datapath.Delete(ctx, id); err != nil && !errors.Is(err, datapath.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// inUse tells whether a tunnel id is a session's, or is going to be.
func (b *Broker) inUse(id uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.offers {
		if e.tunnelID == id {
			return true
		}
	}
	return b.tunnels[id] != nil
}

// repair puts tunnels in force again that somebody took out of the datapath behind our back.
func (b *Broker) repair(ctx context.Context, s *settings, entries []*entry) error {
	return b.each(ctx, entries, func(ctx context.Context, e *entry) error {
		b.mu.Lock()
		current := e.state == Active && e.sweep != b.sweeps.round
		tunnel := e.tunnel(s.pool(e.terms.Value().leasePool))
		if current && !b.resumes {
			e.countAnew()
		}
		b.mu.Unlock()
		if !current {
			return nil
		}
		b.log.Warn().Stringer("session", e.id).Uint32("tunnel", e.tunnelID).Msg("the datapath had lost a tunnel; it is set again")
		return b.datapath.Set(ctx, tunnel)
	})
}
