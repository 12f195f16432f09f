// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"time"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

// remains are leases of a node, and what its sessions have left, that nobody knows who could go on with them. Each session is
// given its Stop record, and all is taken out of the store.
type remains struct {
	*Broker
	s        *settings
	node     string
	nas      *aaa.NAS // how records name the node, nil: it is this one
	sessions []memo
	unused   []lease.Holder
	before   []lease.Holder // sessions whose end a newer one's lease tells
}

// Burial counts what a server has left in the store.
type Burial struct {
	Sessions int // without Stop record
	Leases   int // theirs, and of logins that were not accepted
}

func (b *Broker) remains(node string) *remains {
	return &remains{Broker: b, s: b.settings.Load(), node: node}
}

// owed tells whether a lease is of a node, or what a session of it has left.
func owed(l lease.Lease, node string) bool {
	return (l.State == lease.Active || l.State == lease.Displaced) && l.Node == node
}

// read reads what a session has left.
func (r *remains) read(l lease.Lease) {
	id, ok := parseID(l.Session)
	m, err := readMemo(l.Data)
	if !ok || err != nil || m.phase == phaseOffered {
		if m.phase != phaseOffered {
			r.log.Error().Err(err).Str("session", l.Session).Str("owner", l.Owner).Msg("a lease tells of no session that could be billed; it is released")
		}
		r.unused = append(r.unused, lease.Holder{Pool: l.Pool, Index: l.Index, Session: l.Session})
		return
	}
	e := m.entry
	placed(e, id, l)
	if m.phase == phaseEnding {
		e.extra.end.step = endMarked
	} else {
		at := max(e.since, l.Expires.UnixMilli())
		if l.State == lease.Active {
			at = lastAlive(r.s, e, l.Expires.Unix())
		}
		e.more().end = &ending{cause: aaa.CauseNASReboot, at: at}
	}
	e.state, e.extra.end.nas = Ending, r.nas
	e.extra.end.lost = l.State == lease.Displaced
	if m.prev != nil {
		r.replaced(&m)
	}
	r.sessions = append(r.sessions, m)
}

// replaced notes the session before, whose Stop record is given with the Start record of the newer one, unless it goes on here.
func (r *remains) replaced(m *memo) {
	e := m.prev.entry
	if r.lookup(e.id.String()) != nil {
		m.prev = nil
		return
	}
	e.extra.end.nas = r.nas
	for _, p := range r.s.Pools {
		if index := e.tunnelID - p.First; e.tunnelID >= p.First && index < p.Size {
			r.before = append(r.before, lease.Holder{Pool: p.Name, Index: index, Session: e.id.String()})
		}
	}
}

// pay gives the records of what was read, and takes it out of the store. What the sessions before have left goes first: once
// the newer ones' leases are released, nothing tells that they have their Stop records. done is what was done also with an error.
func (r *remains) pay(ctx context.Context) (done Burial, err error) {
	covered := make(map[string]bool)
	for _, h := range r.before {
		covered[h.Session] = true
	}
	if err := r.release(ctx, r.before); err != nil {
		return done, err
	}
	var entries []*entry
	for _, m := range r.sessions {
		if covered[m.entry.id.String()] {
			continue
		}
		if m.phase == phaseStarting {
			if err := r.payStart(ctx, r.s, m, m.entry.record(r.s, aaa.StatusStart, m.entry.since)); err != nil {
				return done, err
			}
		}
		entries = append(entries, m.entry)
	}
	paid := make(chan lease.Holder, len(entries))
	err = r.parallel(ctx, entries, func(ctx context.Context, e *entry) error {
		if err := r.finish(ctx, e); err != nil {
			return err
		}
		paid <- e.holder()
		return nil
	})
	close(paid)
	for h := range paid {
		r.unused = append(r.unused, h)
		done.Sessions++
	}
	if failed := r.release(ctx, r.unused); failed != nil {
		return done, failed
	}
	done.Leases = len(r.unused)
	return done, err
}

// payStart gives the Start record of a session that was starting, after the Stop record of the one it replaced.
func (b *Broker) payStart(ctx context.Context, s *settings, m memo, start aaa.Record) error {
	if m.prev != nil {
		if err := b.account.Account(ctx, m.prev.record(s, aaa.StatusStop)); err != nil {
			return err
		}
	}
	return b.account.Account(ctx, start)
}

func (r *remains) release(ctx context.Context, holders []lease.Holder) error {
	if len(holders) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return r.store.Release(ctx, holders...)
}
