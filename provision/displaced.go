// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"unique"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// displaced is a session that ended without this server: its lease went to a login at another one while the process was not
// there, almost always of the same subscriber. The kernel forwarded all the same, to a client that had gone.
type displaced struct {
	memo
	tunnel    bool // it had one when the process started again
	preempted bool // by a later session of its owner
}

// readDisplaced makes an entry of what a session has left. It is in no table.
func (r *recovery) readDisplaced(id sid, l lease.Lease, m memo) {
	e := m.entry
	placed(e, id, l)
	if m.prev != nil {
		r.replaced[m.prev.entry.id] = true
	}
	if m.phase != phaseEnding {
		e.more().end = &ending{cause: aaa.CauseNASReboot, at: max(e.since, l.Expires.UnixMilli())}
	} else {
		e.extra.end.step = endMarked
	}
	e.state, e.extra.end.lost = Ending, true
	r.displaced[id] = &displaced{memo: m, preempted: l.Taker == l.Owner}
}

// placed gives an entry what its lease tells.
func placed(e *entry, id sid, l lease.Lease) {
	t := e.terms.Value()
	t.leasePool = l.Pool
	e.terms = unique.Make(t)
	e.id, e.index, e.tunnelID = id, l.Index, l.ID
	if l.Foreign {
		e.more().foreign = l.Prefix
	}
}

// stray notes a tunnel of no session that goes on, to be deleted. It may be that of a displaced one.
func (r *recovery) stray(state datapath.State) {
	r.strays = append(r.strays, state.ID)
	for id, d := range r.displaced {
		if id.tunnel() == state.Session && d.phase != phaseEnding {
			d.entry.counted(state.Counters)
			if d.tunnel = true; d.preempted {
				d.entry.extra.end.cause = aaa.CausePortPreempted
			}
		}
	}
}

// cut takes the last counters of a tunnel that was deleted.
func (r *recovery) cut(tunnel uint32, last datapath.Counters) {
	for _, d := range r.displaced {
		if d.tunnel && d.entry.tunnelID == tunnel {
			d.entry.counted(last)
		}
	}
}

// resume finds what a datapath still knows that goes on counting behind a deletion: the last process may have ended just
// behind that of the tunnel.
func (r *recovery) resume(ctx context.Context, d *displaced) error {
	if e := d.entry; r.resumes && !d.tunnel && d.phase != phaseEnding && r.tunnels[e.tunnelID] == nil {
		if err := r.set(ctx, []datapath.Tunnel{e.tunnel(r.s.pool(e.terms.Value().leasePool))}); err != nil {
			return err
		}
		last, err := r.deleteTunnel(ctx, e)
		if err != nil {
			return err
		}
		e.counted(last)
	}
	return nil
}

// startDisplaced gives the Start records of displaced sessions that may not have been given.
func (r *recovery) startDisplaced(ctx context.Context) error {
	for _, d := range r.displaced {
		if d.phase == phaseStarting {
			if err := r.payStart(ctx, r.s, d.memo, d.entry.record(r.s, aaa.StatusStart, d.entry.since)); err != nil {
				return err
			}
		}
	}
	return nil
}

// stopDisplaced gives their Stop records. What they left stays in the store until all is done.
func (r *recovery) stopDisplaced(ctx context.Context) error {
	for _, d := range r.displaced {
		r.ended++
		if err := r.resume(ctx, d); err != nil {
			return err
		}
		if err := r.finish(ctx, d.entry); err != nil {
			return err
		}
		r.unused = append(r.unused, d.entry.holder())
	}
	return nil
}
