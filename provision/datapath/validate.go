// SPDX-License-Identifier: GPL-2.0-or-later

package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"ddtb/provision/lease"
)

// Bounds of an MTU: what every IPv6 link carries (RFC 8200 section 5), and what an IPv4 packet has room for.
const (
	MinMTU = 1280
	MaxMTU = 65535 - 28
)

// Validate checks what every driver needs of a Config: IPv4 tunnel ends, an IPv6 server address, pools apart from each
// other and from it, an MTU within its bounds. The error joins all that is wrong.
func (c Config) Validate() error {
	errs := []error{lease.Validate(c.leasePools(), c.Server)}
	if len(c.Local) == 0 {
		errs = append(errs, errors.New("local: no tunnel end; an IPv4 address and UDP port is expected"))
	}
	for _, local := range c.Local {
		if !local.Addr().Is4() || local.Addr().IsUnspecified() || local.Port() == 0 {
			errs = append(errs, fmt.Errorf("local %s: an IPv4 address and UDP port is expected", local))
		}
	}
	if !c.Server.Is6() || c.Server.Is4In6() || !c.Server.IsGlobalUnicast() {
		errs = append(errs, fmt.Errorf("server %s: a global IPv6 unicast address is expected", c.Server))
	}
	if c.MTU < MinMTU || c.MTU > MaxMTU {
		errs = append(errs, fmt.Errorf("mtu %d: %d to %d octets expected", c.MTU, MinMTU, MaxMTU))
	}
	return errors.Join(errs...)
}

// Check tells whether the Config has room for a tunnel; the error wraps ErrInvalid. The endpoint and the prefix are
// those of the tunnel's index, or lie outside every pool, as its routes do.
func (c Config) Check(t Tunnel) error {
	if why := c.check(t); why != "" {
		return fmt.Errorf("tunnel %d: %s: %w", t.ID, why, ErrInvalid)
	}
	return nil
}

func (c Config) check(t Tunnel) string {
	pool, index, ok := c.find(t.ID)
	if !ok {
		return "the id is in no pool"
	}
	if why := c.checkEnds(t); why != "" {
		return why
	}
	if t.MTU != 0 && (t.MTU < MinMTU || t.MTU > MaxMTU) {
		return fmt.Sprintf("mtu %d: 0 or %d to %d octets expected", t.MTU, MinMTU, MaxMTU)
	}
	if t.Endpoint != pool.Endpoint(index) && (!foreignAddr(t.Endpoint) || c.inPools(netip.PrefixFrom(t.Endpoint, 128))) {
		return fmt.Sprintf("endpoint %s: %s or an address outside every pool expected", t.Endpoint, pool.Endpoint(index))
	}
	if t.Prefix.IsValid() && t.Prefix != pool.Prefix(index) && !c.foreignPrefix(t.Prefix) {
		return fmt.Sprintf("prefix %s: %s or a prefix outside every pool expected", t.Prefix, pool.Prefix(index))
	}
	return c.checkRoutes(t)
}

// checkRoutes looks at the routes; one may be to a single address.
func (c Config) checkRoutes(t Tunnel) string {
	if n := t.Routes.Len(); n > MaxRoutes {
		return fmt.Sprintf("%d routes, at most %d expected", n, MaxRoutes)
	}
	for route := range t.Routes.All() {
		if !foreignAddr(route.Addr()) || c.inPools(route) {
			return fmt.Sprintf("route %s: a prefix outside every pool expected", route)
		}
		if route == t.Prefix || route == netip.PrefixFrom(t.Endpoint, 128) {
			return fmt.Sprintf("route %s: the tunnel has it without", route)
		}
	}
	return ""
}

// checkEnds looks at the outer addresses.
func (c Config) checkEnds(t Tunnel) string {
	if t.Encap != V6UDPV4 && t.Encap != V6V4 {
		return fmt.Sprintf("encapsulation %d: %s or %s expected", t.Encap, V6UDPV4, V6V4)
	}
	remote := t.Remote.Addr()
	if !remote.Is4() || remote.IsUnspecified() || remote.IsMulticast() {
		return fmt.Sprintf("remote %s: an IPv4 unicast address expected", t.Remote)
	}
	if udp := t.Encap == V6UDPV4; udp != (t.Remote.Port() != 0) || udp != (t.Local.Port() != 0) {
		return fmt.Sprintf("ports of %s and %s: %s expected", t.Local, t.Remote, map[bool]string{true: "both", false: "none"}[udp])
	}
	for _, local := range c.Local {
		if local == t.Local || t.Encap == V6V4 && local.Addr() == t.Local.Addr() {
			return ""
		}
	}
	return fmt.Sprintf("local %s: one of %v expected", t.Local, c.Local)
}

// foreignAddr tells whether an address may be routed to a client although no pool knows it.
func foreignAddr(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && a.Zone() == "" && a.IsGlobalUnicast()
}

// foreignPrefix tells the same of a prefix; one address is none.
func (c Config) foreignPrefix(p netip.Prefix) bool {
	return p.Bits() < 128 && p == p.Masked() && foreignAddr(p.Addr()) && !c.inPools(p)
}

// find gives the pool and index of a tunnel id.
func (c Config) find(id uint32) (lease.Pool, uint32, bool) {
	for _, p := range c.Pools {
		pool := lease.Pool(p)
		if index, ok := pool.TunnelIndex(id); ok {
			return pool, index, true
		}
	}
	return lease.Pool{}, 0, false
}

// inPools tells whether a prefix shares an address with a pool or holds the server's.
func (c Config) inPools(prefix netip.Prefix) bool {
	for _, p := range c.Pools {
		if lease.Pool(p).Overlaps(prefix) {
			return true
		}
	}
	return prefix.Contains(c.Server)
}

func (c Config) leasePools() []lease.Pool {
	pools := make([]lease.Pool, 0, len(c.Pools))
	for _, p := range c.Pools {
		pools = append(pools, lease.Pool(p))
	}
	return pools
}
