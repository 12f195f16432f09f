// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// Config is what an operator decides about sessions. The zero value of every optional field is a good default, put in
// place by New and Reload.
type Config struct {
	Node          string     // name of this tunnel server in the lease store
	Server        netip.Addr // IPv6 address of the server inside the tunnels: <server> and the target of keepalives
	Pools         []lease.Pool
	DefaultPool   string // of subscribers whose backend names none; "" is the first pool
	AnonymousPool string // of anonymous logins; "" is DefaultPool

	Lifetime    time.Duration // of a session; 0: 7 days
	Keepalive   Keepalive
	LostAfter   int           // a session ends after so many keepalive intervals of silence; 0: 3
	LostUnasked time.Duration // the silence allowed to a client that asked for no keepalive and may send none; 0: 1 hour
	IdleTimeout time.Duration // of subscribers who have none of their own; 0: none. Keepalives count as activity
	MTU         int           // largest inner packet, octets; 0: 1280, which fits every path (RFC 4213 section 3.2)

	Sessions            Sessions
	MaxSessions         int           // in all; 0: 1,000,000. Beyond it a login gets ErrFull
	MaxNegotiating      int           // offers not yet accepted; 0: 10,000. Beyond it a login gets ErrBusy
	AnonymousPerAddress int           // anonymous sessions from one IPv4 address (RFC 5572 section 8); 0: 4
	OfferTimeout        time.Duration // an offer is withdrawn after this; 0: 1 minute

	SweepInterval time.Duration // between two looks at counters and last-seen times; 0: 10 s
	LeaseTTL      time.Duration // how long leases outlive this daemon; 0: 1 hour. They are extended at half of it
	Interim       time.Duration // between Interim records where the subscriber has no interval of his own; 0: none
}

// Keepalive bounds the interval between a client's keepalives (RFC 5572 section 4.6). Zero fields: 10 s, 30 s, 5 min.
type Keepalive struct {
	Min, Default, Max time.Duration
}

// Sessions says how many sessions a subscriber may have at a time, at all servers together, and what happens to one more.
// The zero value is one session, the newest.
type Sessions struct {
	Limit int  // 0: one. A subscriber's own SessionLimit goes before it
	Deny  bool // a login beyond Limit is refused; otherwise it replaces the session longest silent
}

// MaxSlots bounds Sessions.Limit and aaa.Subscriber.SessionLimit.
const MaxSlots = 256

// withDefaults gives c with every zero field that has a default filled in.
func (c Config) withDefaults() Config {
	if c.DefaultPool == "" && len(c.Pools) > 0 {
		c.DefaultPool = c.Pools[0].Name
	}
	fill(&c.AnonymousPool, c.DefaultPool)
	fill(&c.Lifetime, 7*24*time.Hour)
	fill(&c.Keepalive.Min, 10*time.Second)
	fill(&c.Keepalive.Max, max(5*time.Minute, c.Keepalive.Min))
	fill(&c.Keepalive.Default, min(max(30*time.Second, c.Keepalive.Min), c.Keepalive.Max))
	fill(&c.LostAfter, 3)
	fill(&c.LostUnasked, time.Hour)
	fill(&c.MTU, datapath.MinMTU)
	fill(&c.Sessions.Limit, 1)
	fill(&c.MaxSessions, 1_000_000)
	fill(&c.MaxNegotiating, 10_000)
	fill(&c.AnonymousPerAddress, 4)
	fill(&c.OfferTimeout, time.Minute)
	fill(&c.SweepInterval, 10*time.Second)
	fill(&c.LeaseTTL, time.Hour)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate says everything that is wrong with c, each error beginning with the key it is about, or nil. Zero fields
// that have a default are right.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(c.Node != "" && len(c.Node) <= 64, "node: %q: expected a name of 1 to 64 octets", c.Node)
	need(c.Server.Is6() && !c.Server.Is4In6(), "server: %v: expected the IPv6 address of the server inside the tunnels", c.Server)
	errs = append(errs, c.validatePools()...)
	need(c.Lifetime >= time.Minute, "lifetime: %v: expected at least 1m", c.Lifetime)
	k := c.Keepalive
	need(k.Min >= time.Second, "keepalive.min: %v: expected at least 1s", k.Min)
	need(k.Max >= k.Min && k.Max <= 12*time.Hour, "keepalive.max: %v: expected keepalive.min (%v) to 12h", k.Max, k.Min)
	need(k.Default >= k.Min && k.Default <= k.Max, "keepalive.default: %v: expected %v to %v", k.Default, k.Min, k.Max)
	need(c.LostAfter > 0, "lost_after: %d: expected more than 0", c.LostAfter)
	need(c.LostUnasked >= k.Min, "lost_unasked: %v: expected at least keepalive.min (%v)", c.LostUnasked, k.Min)
	need(c.IdleTimeout == 0 || c.IdleTimeout >= k.Min, "idle_timeout: %v: expected at least keepalive.min (%v), or 0 for none", c.IdleTimeout, k.Min)
	need(c.MTU >= datapath.MinMTU && c.MTU <= datapath.MaxMTU, "mtu: %d: expected %d to %d", c.MTU, datapath.MinMTU, datapath.MaxMTU)
	need(c.Sessions.Limit >= 1 && c.Sessions.Limit <= MaxSlots, "sessions: %d: expected 1 to %d", c.Sessions.Limit, MaxSlots)
	need(c.MaxSessions > 0, "max_sessions: %d: expected more than 0", c.MaxSessions)
	need(c.MaxNegotiating > 0, "max_negotiating: %d: expected more than 0", c.MaxNegotiating)
	need(c.AnonymousPerAddress > 0, "anonymous_per_address: %d: expected more than 0", c.AnonymousPerAddress)
	need(c.OfferTimeout >= time.Second, "offer_timeout: %v: expected at least 1s", c.OfferTimeout)
	need(c.SweepInterval >= time.Second, "sweep_interval: %v: expected at least 1s", c.SweepInterval)
	need(c.LeaseTTL >= 4*c.SweepInterval, "lease_ttl: %v: expected at least four times sweep_interval (%v)", c.LeaseTTL, c.SweepInterval)
	need(c.Interim == 0 || c.Interim >= time.Minute, "interim: %v: expected at least 1m, or 0 for none", c.Interim)
	return errors.Join(errs...)
}

// validatePools says what is wrong with pools and with what refers to them.
func (c Config) validatePools() []error {
	var errs []error
	if err := lease.Validate(c.Pools); err != nil {
		errs = append(errs, fmt.Errorf("pools: %w", err))
	}
	for _, pool := range c.Pools {
		if i, ok := pool.Index(c.Server); ok && i != 0 { // index 0 is never leased
			errs = append(errs, fmt.Errorf("server: %v lies in pool %q, where a subscriber could get it", c.Server, pool.Name))
		}
	}
	for _, ref := range []struct{ key, name string }{{"default_pool", c.DefaultPool}, {"anonymous_pool", c.AnonymousPool}} {
		if !slices.ContainsFunc(c.Pools, func(p lease.Pool) bool { return p.Name == ref.name }) {
			errs = append(errs, fmt.Errorf("%s: there is no pool %q", ref.key, ref.name))
		}
	}
	return errs
}
