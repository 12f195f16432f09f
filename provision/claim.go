// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"fmt"
	"net/netip"
	"slices"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

// claims are the prefixes from outside the pools that sessions in force have, static ones and routes, in order. Two overlap only
// if they are one subscriber's: his new session takes the place of the old one.
type claims []claim

type claim struct {
	prefix netip.Prefix
	e      *entry
}

// maxOwn is how many claims one subscriber may have: those of an old session and of the one that takes its place.
const maxOwn = 2 * (datapath.MaxRoutes + 1)

// outside are the prefixes from outside the pools that a session has, nil for most.
func (e *entry) outside() []netip.Prefix {
	foreign, routes := e.foreign(), e.terms.Value().routes
	if !foreign.IsValid() && routes.Len() == 0 {
		return nil
	}
	out := slices.Collect(routes.All())
	if foreign.IsValid() {
		out = append(out, foreign)
	}
	return out
}

// seek is where the first claim stands that is not before a prefix.
func (c claims) seek(p netip.Prefix) int {
	at, _ := slices.BinarySearchFunc(c, p, func(have claim, want netip.Prefix) int { return have.prefix.Compare(want) })
	return at
}

// contend refuses e if a session of another subscriber has a part of what it is to have.
func (c claims) contend(e *entry) error {
	for _, p := range e.outside() {
		if have, ok := c.overlapping(p, e.lockKey()); ok {
			return fmt.Errorf("prefix %v: session %v of %q has %v: %w", p, have.e.id, have.e.name, have.prefix, ErrBusy)
		}
	}
	return nil
}

// overlapping gives a claim to a part of a prefix by somebody other than the named one.
func (c claims) overlapping(p netip.Prefix, lockKey string) (claim, bool) {
	at := c.seek(p)
	// What holds p stands before it, with nothing but claims of the same subscriber between; what lies in p behind.
	for _, have := range c[max(0, at-maxOwn):] {
		if have.prefix.Compare(p) > 0 && !p.Overlaps(have.prefix) {
			break
		}
		if p.Overlaps(have.prefix) && have.e.lockKey() != lockKey {
			return have, true
		}
	}
	return claim{}, false
}

// Overlapping gives a session in force here that has, by a static prefix or a route from outside the pools, a part of what another
// server says a subscriber has there. It asks nobody.
func (b *Broker) Overlapping(name string, prefixes ...netip.Prefix) (Session, bool) {
	s := b.settings.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range prefixes {
		if have, ok := b.claims.overlapping(p, name); ok && have.e.state == Active {
			return have.e.session(s), true
		}
	}
	return Session{}, false
}

// add puts in what a session has.
func (c *claims) add(e *entry) {
	for _, p := range e.outside() {
		*c = slices.Insert(*c, c.seek(p), claim{p, e})
	}
}

// remove takes out what a session has, if it is in.
func (c *claims) remove(e *entry) {
	for _, p := range e.outside() {
		for at := c.seek(p); at < len(*c) && (*c)[at].prefix == p; at++ {
			if (*c)[at].e == e {
				*c = slices.Delete(*c, at, at+1)
				break
			}
		}
	}
}

// claimsOf are those of many sessions.
func claimsOf(sessions map[uint32]*entry) (c claims) {
	for _, e := range sessions {
		for _, p := range e.outside() {
			c = append(c, claim{p, e})
		}
	}
	slices.SortFunc(c, func(a, b claim) int { return a.prefix.Compare(b.prefix) })
	return c
}

// disclaim takes back what a session claimed that did not come into force.
func (b *Broker) disclaim(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.state != Active {
		b.claims.remove(e)
	}
}

// minRoute is the length of the largest prefix that is routed to a subscriber, in bits.
const minRoute = 16

// routes are the prefixes that a subscriber is to have beside endpoint and delegated prefix (RFC 3162 section 2.5), all from
// outside the pools, and those of them that are delegated (RFC 4818 section 3), which only a router gets. What lies in a static
// prefix or endpoint of his needs no route. Anonymous sessions have none: one account stands for many of them.
func (s *settings) routes(sub aaa.Subscriber, router bool) (routes, further datapath.Prefixes, err error) {
	if sub.Anonymous {
		return routes, further, nil
	}
	var wanted, delegated []netip.Prefix
	for _, r := range sub.Routes {
		switch p := r.Prefix.Masked(); {
		case r.Delegated && (!router || sub.NoPrefix):
		case sub.Prefix.IsValid() && sub.Prefix.Bits() <= p.Bits() && sub.Prefix.Overlaps(p):
		case sub.Endpoint.IsValid() && p == netip.PrefixFrom(sub.Endpoint, 128):
		default:
			if err := s.checkRoute(p); err != nil {
				return routes, further, fmt.Errorf("route of %q: %w", sub.Name, err)
			}
			if wanted = append(wanted, p); r.Delegated {
				delegated = append(delegated, p)
			}
		}
	}
	if routes = datapath.PrefixesOf(wanted...); routes.Len() > datapath.MaxRoutes {
		return routes, further, fmt.Errorf("%q has %d routes, at most %d expected", sub.Name, routes.Len(), datapath.MaxRoutes)
	}
	return routes, datapath.PrefixesOf(delegated...), nil
}

// checkRoute refuses what cannot be routed to a subscriber.
func (s *settings) checkRoute(p netip.Prefix) error {
	if a := p.Addr(); !a.Is6() || a.Is4In6() || !a.IsGlobalUnicast() || p.Bits() < minRoute {
		return fmt.Errorf("prefix %v: a unicast prefix of %d to 128 bits expected", p, minRoute)
	}
	for _, pool := range s.Pools {
		if pool.Overlaps(p) {
			return fmt.Errorf("prefix %v: it overlaps pool %q, one outside every pool expected", p, pool.Name)
		}
	}
	if p.Contains(s.Server) {
		return fmt.Errorf("prefix %v: it holds the server's own address %v", p, s.Server)
	}
	return nil
}

// checkGateways refuses routes through somebody else: the next hop of all is the tunnel.
func checkGateways(sub aaa.Subscriber, endpoint netip.Addr, prefix netip.Prefix) error {
	for _, r := range sub.Routes {
		if !sub.Anonymous && r.Gateway.IsValid() && r.Gateway != endpoint && !prefix.Contains(r.Gateway) {
			return fmt.Errorf("route of %q to %v: its gateway is %v, expected :: or an address of his own (endpoint %v)", sub.Name, r.Prefix, r.Gateway, endpoint)
		}
	}
	return nil
}
