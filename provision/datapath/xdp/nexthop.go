// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath/space"
)

// nudValid are the states of a neighbour entry whose link layer address may be used.
const nudValid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_PROBE | netlink.NUD_STALE | netlink.NUD_DELAY

// maxRoutes bounds how many routes are looked at; a host with more takes part in routing and has no one next hop.
const maxRoutes = 4096

// way is the next hop of all destinations but the exceptions.
type way struct {
	hop        fixedHop
	exceptions [maxExceptions]netip.Prefix
}

// findWay works out the one next hop of a family: that of the default route. The error says why there is none; packets are
// then looked up one by one. The prefixes that other routes lead to become exceptions.
func findWay(h *host, family int, ports map[*iface]uint32) (way, error) {
	if err := onlyDefaultRules(h, family); err != nil {
		return way{}, err
	}
	gate, others, err := readRoutes(h, family)
	if err != nil {
		return way{}, err
	}
	var out *iface
	for i := range ports {
		if i.index == gate.LinkIndex {
			out = i
		}
	}
	if out == nil {
		return way{}, fmt.Errorf("the default route leaves by interface %d, which is none of ours", gate.LinkIndex)
	}
	var w way
	if err := except(&w, others); err != nil {
		return way{}, err
	}
	mac, err := neighbour(h, family, gate)
	if err != nil {
		return way{}, err
	}
	w.hop.ifindex, w.hop.mtu = uint32(out.index), uint32(out.mtu)
	if gate.MTU > 0 {
		w.hop.mtu = min(w.hop.mtu, uint32(gate.MTU))
	}
	copy(w.hop.macs[:6], mac)
	for n := range 6 {
		w.hop.macs[6+n] = byte(out.mac >> (8 * n))
	}
	return w, nil
}

// onlyDefaultRules fails where policy routing may decide otherwise than the main table.
func onlyDefaultRules(h *host, family int) error {
	rules, err := space.Whole(func() ([]netlink.Rule, error) { return h.Netlink.RuleList(family) })
	if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	for _, r := range rules {
		if r.Table != unix.RT_TABLE_LOCAL && r.Table != unix.RT_TABLE_MAIN && r.Table != unix.RT_TABLE_DEFAULT {
			return fmt.Errorf("there is policy routing: %s", r)
		}
	}
	return nil
}

// readRoutes gives the best default route and the destinations of all routes that lead elsewhere.
func readRoutes(h *host, family int) (gate netlink.Route, others []netip.Prefix, err error) {
	var defaults, rest []netlink.Route
	err = h.Netlink.RouteListFilteredIter(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		switch {
		case r.Table != unix.RT_TABLE_MAIN && r.Table != unix.RT_TABLE_LOCAL:
		case r.Protocol == RouteProtocol: // programs know the tunnels' addresses
		case toPrefix(r.Dst, family).Bits() == 0:
			defaults = append(defaults, r)
		default:
			rest = append(rest, r)
		}
		return len(rest) <= maxRoutes
	})
	if err != nil {
		return gate, nil, fmt.Errorf("list routes: %w", err)
	}
	if len(rest) > maxRoutes {
		return gate, nil, fmt.Errorf("there are more than %d routes", maxRoutes)
	}
	if gate, err = best(defaults); err != nil {
		return gate, nil, err
	}
	for _, r := range rest {
		prefix := toPrefix(r.Dst, family)
		same := r.Type == unix.RTN_UNICAST && r.LinkIndex == gate.LinkIndex && r.Gw.Equal(gate.Gw) && r.MTU == 0
		if !same && matters(prefix) {
			others = append(others, prefix)
		}
	}
	return gate, others, nil
}

// best chooses among default routes as the kernel does.
func best(defaults []netlink.Route) (netlink.Route, error) {
	defaults = slices.DeleteFunc(defaults, func(r netlink.Route) bool { return r.Type != unix.RTN_UNICAST })
	if len(defaults) == 0 {
		return netlink.Route{}, errors.New("there is no default route")
	}
	slices.SortFunc(defaults, func(a, b netlink.Route) int { return cmp.Compare(uint32(a.Priority), uint32(b.Priority)) })
	if len(defaults[0].MultiPath) > 0 || len(defaults) > 1 && defaults[0].Priority == defaults[1].Priority {
		return netlink.Route{}, errors.New("there are several default routes")
	}
	if defaults[0].Gw == nil {
		return netlink.Route{}, errors.New("the default route has no gateway")
	}
	return defaults[0], nil
}

// matters tells whether a packet in a tunnel, or around one, may go to a route's destination.
func matters(prefix netip.Prefix) bool {
	a := prefix.Addr()
	return !a.IsMulticast() && !a.IsLinkLocalUnicast() && !a.IsLoopback()
}

// except makes prefixes exceptions, the fewest that cover them all. Of an IPv6 prefix only the upper half is compared: what
// is longer takes its whole /64 along, which costs a lookup and is never wrong.
func except(w *way, prefixes []netip.Prefix) error {
	for n, p := range prefixes {
		if p.Addr().Is6() && p.Bits() > 64 {
			prefixes[n] = netip.PrefixFrom(p.Addr(), 64).Masked()
		}
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Addr().Compare(b.Addr()))
	})
	n := 0
	for _, p := range prefixes {
		if slices.ContainsFunc(w.exceptions[:n], func(e netip.Prefix) bool { return e.Overlaps(p) }) {
			continue
		}
		if n == maxExceptions {
			return fmt.Errorf("there are other routes to more than %d networks", maxExceptions)
		}
		w.exceptions[n] = p
		n++
	}
	w.hop.exceptions = uint32(n)
	return nil
}

// neighbour is the link layer address of a route's gateway. If it is not known the kernel is asked to find it out.
func neighbour(h *host, family int, gate netlink.Route) (net.HardwareAddr, error) {
	neighbours, err := space.Whole(func() ([]netlink.Neigh, error) { return h.Netlink.NeighList(gate.LinkIndex, family) })
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	for _, n := range neighbours {
		if n.IP.Equal(gate.Gw) && n.State&nudValid != 0 && len(n.HardwareAddr) == 6 {
			return n.HardwareAddr, nil
		}
	}
	if err := use(h, netlink.Neigh{LinkIndex: gate.LinkIndex, Family: family, IP: gate.Gw}); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("the gateway %s has not been heard of yet", gate.Gw)
}

// use has the kernel confirm a neighbour as if a packet had been sent to it (NTF_USE). Programs send past the neighbour
// table, so nothing else would notice that one has moved.
func use(h *host, n netlink.Neigh) error {
	err := h.Netlink.NeighSet(&netlink.Neigh{LinkIndex: n.LinkIndex, Family: n.Family, IP: n.IP, Flags: netlink.NTF_USE, State: netlink.NUD_NONE})
	if err != nil {
		return fmt.Errorf("neighbour %s: %w", n.IP, err)
	}
	return nil
}

// maxWarm bounds how many neighbours of an interface are kept warm.
const maxWarm = 256

// keepWarm confirms the neighbours that have not been for a while.
func keepWarm(h *host, i *iface) error {
	neighbours, err := space.Whole(func() ([]netlink.Neigh, error) { return h.Netlink.NeighList(i.index, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("neighbours of %s: %w", i.name, err)
	}
	var errs []error
	warm := 0
	for _, n := range neighbours {
		if n.State&netlink.NUD_STALE != 0 && warm < maxWarm {
			errs = append(errs, use(h, n))
			warm++
		}
	}
	return errors.Join(errs...)
}
