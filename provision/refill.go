// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

// fill gives sessions without tunnel theirs, or ends them: those whose lease is over, and the stale.
func (r *recovery) fill(ctx context.Context) error {
	now, over := r.now(), []*entry{}
	var tunnels []datapath.Tunnel
	r.mu.Lock()
	for _, e := range r.byID {
		e.interim = nextInterim(e, now)
		if e.sweep == r.sweeps.round || e.state != Active {
			continue
		}
		if int64(e.leaseEnd) <= now/1000 {
			over = append(over, e)
			continue
		}
		r.bare = append(r.bare, e)
		if !r.resumes {
			e.countAnew()
		}
		e.seen = now
		tunnels = append(tunnels, e.tunnel(r.s.pool(e.terms.Value().leasePool)))
	}
	r.mu.Unlock()
	if err := errors.Join(r.set(ctx, tunnels), r.countBare(ctx)); err != nil {
		return err
	}
	return r.later(errors.Join(r.finishGone(ctx, over), r.endAll(ctx, r.stale, r.endBy(aaa.CausePortPreempted)),
		r.endAll(ctx, r.misfits, r.endBy(aaa.CauseNASError))))
}

// countBare takes over what a datapath that resumes still knows of the sessions whose tunnels it got again: nothing, if the
// host was down.
func (r *recovery) countBare(ctx context.Context) error {
	if !r.resumes || len(r.bare) == 0 {
		return nil
	}
	for state, err := range r.datapath.All(ctx) {
		if err != nil {
			return fmt.Errorf("list tunnels: %w", err)
		}
		r.mu.Lock()
		if e := r.tunnels[state.ID]; e != nil && e.id.tunnel() == state.Session {
			e.counted(state.Counters)
		}
		r.mu.Unlock()
	}
	return nil
}

// finishGone ends sessions that were found gone. What a datapath that resumes still knows of their counters it tells when
// they are set once more.
func (r *recovery) finishGone(ctx context.Context, gone []*entry) error {
	r.ended += len(gone)
	if r.resumes {
		var tunnels []datapath.Tunnel
		for _, e := range gone {
			tunnels = append(tunnels, e.tunnel(r.s.pool(e.terms.Value().leasePool)))
		}
		if err := r.set(ctx, tunnels); err != nil {
			return err
		}
	}
	return r.endAll(ctx, gone, func(ctx context.Context, e *entry) error {
		last := e.raw
		if r.resumes {
			var err error
			if last, err = r.deleteTunnel(ctx, e); err != nil {
				return err
			}
		}
		r.mu.Lock()
		e.counted(last)
		r.table.end(e, &ending{cause: aaa.CauseNASReboot, at: lastAlive(r.s, e, int64(e.leaseEnd))}, e.raw)
		r.mu.Unlock()
		return r.finish(ctx, e)
	})
}
