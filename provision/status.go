// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

// Status is the Broker at one moment.
type Status struct {
	Node     string
	Started  time.Time
	Ready    bool // Recover has come through and Shutdown has not begun
	Drained  bool // Drain: no offers are made
	Config   Config
	Active   map[datapath.Encap]int
	Offered  int
	Ending   int               // ended, their Stop record or lease still owed
	Logins   uint64            // that came through, since the start
	Refused  uint64            // that did not
	Traffic  datapath.Counters // of all sessions since the start, as of the last sweep
	Watchers int
	Swept    time.Time // begin of the last sweep
	SweepFor time.Duration
	SweepErr error // what the last sweep could not do
}

// Status tells how the Broker does.
func (b *Broker) Status() Status {
	s, m := b.settings.Load(), b.metrics
	out := Status{
		Node:     s.Node,
		Started:  b.started,
		Ready:    b.ready.Load() && !b.draining.Load(),
		Drained:  b.drained.Load(),
		Config:   s.Config,
		Active:   make(map[datapath.Encap]int),
		Watchers: int(b.events.count.Load()),
		Traffic: datapath.Counters{
			RxPackets: m.packets[received].Load(), RxBytes: m.octets[received].Load(),
			TxPackets: m.packets[transmitted].Load(), TxBytes: m.octets[transmitted].Load(),
		},
	}
	for _, r := range results {
		if n := m.logins[r.label].Load(); r.err == nil {
			out.Logins = n
		} else {
			out.Refused += n
		}
	}
	b.mu.Lock()
	out.Active[datapath.V6UDPV4], out.Active[datapath.V6V4] = b.active[datapath.V6UDPV4], b.active[datapath.V6V4]
	out.Offered, out.Ending = len(b.offers), len(b.endings)
	b.mu.Unlock()
	b.sweeps.mu.Lock()
	defer b.sweeps.mu.Unlock()
	out.Swept, out.SweepFor, out.SweepErr = b.sweeps.last, b.sweeps.took, b.sweeps.err
	return out
}

// Shutdown refuses new logins and takes pending offers back. Then, if keep is false, it ends every session with
// CauseAdminReboot and gives an Accounting-Off record; otherwise the tunnels stay in force for the next process, which Recovers them. Run should end after
// Shutdown, not before. What could not be done is in the error, and is left to the next process.
func (b *Broker) Shutdown(ctx context.Context, keep bool) error {
	b.draining.Store(true)
	errs := []error{b.endAll(ctx, b.inState(Offered), b.expire), b.endAll(ctx, b.inState(Ending), b.endBy(0)), b.markStarted(ctx)}
	if !keep {
		errs = append(errs, b.endAll(ctx, b.inState(Active), b.endBy(aaa.CauseAdminReboot)))
	}
	errs = append(errs, b.store.flush(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	if !keep {
		b.announce(ctx, aaa.StatusOff, aaa.CauseAdminReboot)
	}
	return nil
}

// announce gives an Accounting-On or Accounting-Off record (RFC 2866 section 5.1): no session of this node goes on. It closes
// what a billing system may still have open of it, so it is given only when that is so. Nothing that is billed hangs on it.
func (b *Broker) announce(ctx context.Context, status aaa.Status, cause aaa.Cause) {
	if err := b.account.Account(ctx, aaa.Record{Status: status, Time: b.clock().UTC(), Cause: cause}); err != nil {
		b.log.Error().Err(err).Stringer("status", status).Msg("accounting record not taken; sessions that billing has open and that are none stay open there")
	}
}

func (b *Broker) inState(state State) []*entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*entry
	for _, e := range b.byID {
		if e.state == state {
			out = append(out, e)
		}
	}
	return out
}

// endAll is each, but waits for those that are being worked on.
func (b *Broker) endAll(ctx context.Context, entries []*entry, do func(context.Context, *entry) error) error {
	return b.parallel(ctx, entries, func(ctx context.Context, e *entry) error {
		if err := b.locks.lock(ctx, e.lockKey()); err != nil {
			return err
		}
		defer b.locks.unlock(e.lockKey())
		return do(ctx, e)
	})
}
