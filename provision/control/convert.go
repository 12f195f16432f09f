// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

func traffic(c datapath.Counters) Traffic {
	return Traffic{RxPackets: c.RxPackets, RxOctets: c.RxBytes, TxPackets: c.TxPackets, TxOctets: c.TxBytes}
}

func sessionOf(s provision.Session) Session {
	return Session{
		ID:        s.ID,
		User:      s.Subscriber.Name,
		Anonymous: s.Subscriber.Anonymous,
		Backend:   s.Subscriber.Backend,
		State:     s.State.String(),
		Pool:      s.Pool,
		TunnelID:  s.TunnelID,
		Encap:     s.Encap.String(),
		Client:    s.Client,
		Local:     s.Local,
		Endpoint:  s.Endpoint,
		Prefix:    prefixOf(s.Prefix),
		Routes:    slices.Collect(s.Routes.All()),
		MTU:       s.MTU,
		Keepalive: Duration(s.Keepalive),
		Since:     s.Since,
		Seen:      s.Seen,
		Expires:   timeOf(s.Since.Add(s.Lifetime)),
		Traffic:   traffic(s.Traffic),
	}
}

// prefixOf gives nil for no prefix, timeOf nil for no time.
func prefixOf(p netip.Prefix) *netip.Prefix {
	if !p.IsValid() {
		return nil
	}
	return &p
}

func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func eventOf(e provision.Event) Event {
	out := Event{Time: e.Time.UTC(), Kind: string(e.Kind), Lost: e.Lost}
	if e.Cause != 0 {
		out.Cause = e.Cause.String()
	}
	if e.Kind != provision.EventLost {
		session := sessionOf(e.Session)
		out.Session = &session
	}
	return out
}

func leaseOf(l lease.Lease) Lease {
	out := Lease{
		Pool: l.Pool, Index: l.Index, TunnelID: l.ID, User: l.Owner, State: stateName(l.State), Session: l.Session, Node: l.Node, Taker: l.Taker,
		Endpoint: l.Endpoint, Prefix: prefixOf(l.Prefix), Foreign: l.Foreign, Expires: timeOf(l.Expires),
	}
	if l.State == lease.Active || l.State == lease.Displaced {
		out.Since = timeOf(l.Since)
	}
	return out
}

func stateName(s lease.State) string {
	switch s {
	case lease.Active:
		return "active"
	case lease.Idle:
		return "idle"
	case lease.Reserved:
		return "reserved"
	case lease.Displaced:
		return "displaced"
	}
	return "unknown"
}

// poolOf shows a pool; its ranges as the smallest prefixes of their size.
func poolOf(p lease.Pool, u lease.Usage) Pool {
	span := bits.Len32(p.Size - 1)
	out := Pool{
		Name: p.Name, Endpoints: netip.PrefixFrom(p.EndpointBase, 128-span), FirstID: p.First, Size: p.Size,
		Active: int(u.Active), Idle: int(u.Idle), Reserved: int(u.Reserved), Free: int(u.Unused),
	}
	if p.PrefixLen > 0 {
		out.Prefixes, out.PrefixLen = netip.PrefixFrom(p.PrefixBase, max(0, p.PrefixLen-span)), p.PrefixLen
	}
	return out
}

// contextUntil is ctx, done too when closing is closed.
func contextUntil(ctx context.Context, closing <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
