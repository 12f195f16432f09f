// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/space"
	"ddtb/provision/lease"
)

const (
	// guardMetric is that of the routes that stand behind those to the device: if it is taken down, packets for the tunnels end
	// here instead of going back to where the default route leads, and round for ever.
	guardMetric = 1 << 30
	// clientMetric is that of routes to client devices: they go before those to the shared device, for pools (1024) and for
	// single subscribers (datapath.LeaseMetric).
	clientMetric = 256

	tcpHeaders = 40 + 20 // of IPv6 and of TCP
)

// gateway is a next hop on the device. There is nobody; but a route with a gateway makes one neighbour entry, a route without
// makes one for each client and stalls at the bound of the neighbour table.
var gateway = net.ParseIP("fe80::1")

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// toPrefix converts a route's destination; nil is the default route.
func toPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr, bits)
}

// router keeps the routes of one Config. They have no MTU: the stack would measure forwarded packets by it too and answer each that
// is above it. The module knows each tunnel's and limits how many it answers. They only tell the server's own TCP what to offer.
type router struct {
	host *host
	mtu  int
}

// route leads to a device, guard stands behind it.
func (r router) route(prefix netip.Prefix, index, metric int) *netlink.Route {
	return &netlink.Route{
		LinkIndex: index, Dst: ipNet(prefix), Gw: gateway, Flags: int(netlink.FLAG_ONLINK), Priority: metric, AdvMSS: r.mtu - tcpHeaders,
		Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN,
	}
}

func (r router) guard(prefix netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(prefix), Type: unix.RTN_UNREACHABLE, Priority: guardMetric,
		Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN,
	}
}

// add routes a prefix to the shared device.
func (r router) add(prefix netip.Prefix, index int) error {
	return errors.Join(r.put(r.guard(prefix)), r.put(r.route(prefix, index, 0)))
}

// delete takes that back.
func (r router) delete(prefix netip.Prefix, index int) error {
	return errors.Join(r.take(r.route(prefix, index, 0)), r.take(r.guard(prefix)))
}

func (r router) put(route *netlink.Route) error {
	if err := r.host.Netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route to %s: %w", route.Dst, err)
	}
	return nil
}

func (r router) take(route *netlink.Route) error {
	route.AdvMSS = 0
	if err := r.host.Netlink.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("delete route to %s: %w", route.Dst, err)
	}
	return nil
}

// set makes the routes to the shared device those to the wanted prefixes and no others. Routes to client devices and those for routing daemons stay.
func (r router) set(wanted []netip.Prefix, index int) error {
	there, err := ourRoutes(r.host)
	if err != nil {
		return err
	}
	want, routed, guarded := map[netip.Prefix]bool{}, map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
	for _, prefix := range wanted {
		want[prefix] = true
	}
	var stale []netlink.Route
	for _, route := range there {
		prefix := toPrefix(route.Dst)
		switch {
		case route.Priority == clientMetric || route.Priority == datapath.LeaseMetric:
		case want[prefix] && route.Type == unix.RTN_UNREACHABLE:
			guarded[prefix] = true
		case want[prefix] && route.LinkIndex == index && route.AdvMSS == r.mtu-tcpHeaders && route.MTU == 0:
			routed[prefix] = true
		case want[prefix] && route.LinkIndex == index: // replaced below
		default:
			stale = append(stale, route)
		}
	}
	var errs []error
	for _, prefix := range wanted {
		if !guarded[prefix] {
			errs = append(errs, r.put(r.guard(prefix)))
		}
		if !routed[prefix] {
			errs = append(errs, r.put(r.route(prefix, index, 0)))
		}
	}
	for _, route := range stale {
		errs = append(errs, r.take(&route))
	}
	return errors.Join(errs...)
}

// ourRoutes are all IPv6 routes of RouteProtocol in the main table.
func ourRoutes(h *host) ([]netlink.Route, error) {
	routes, err := space.Whole(func() ([]netlink.Route, error) {
		return h.Netlink.RouteListFiltered(netlink.FAMILY_V6,
			&netlink.Route{Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// aggregates are the fewest prefixes that cover the addresses of the pools and nothing else.
func aggregates(config datapath.Config) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range config.Pools {
		pool := lease.Pool(p)
		all = append(all, cover(p.Size, func(i uint32) netip.Prefix { return netip.PrefixFrom(pool.Endpoint(i), 128) })...)
		if p.PrefixLen > 0 {
			all = append(all, cover(p.Size, pool.Prefix)...)
		}
	}
	return all
}

// cover joins n prefixes of one length that follow each other to the fewest.
func cover(n uint32, at func(uint32) netip.Prefix) []netip.Prefix {
	var covered []netip.Prefix
	for i := uint64(0); i < uint64(n); {
		first, bits := at(uint32(i)), 0 // a block of 1<<bits prefixes
		for bits < first.Bits() && i+2<<bits <= uint64(n) && begins(first, bits+1) {
			bits++
		}
		covered = append(covered, netip.PrefixFrom(first.Addr(), first.Bits()-bits))
		i += 1 << bits
	}
	return covered
}

// begins tells whether a block of 1<<bits prefixes can begin with this one.
func begins(first netip.Prefix, bits int) bool {
	return netip.PrefixFrom(first.Addr(), first.Bits()-bits).Masked().Addr() == first.Addr()
}
