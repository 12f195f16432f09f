// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/space"
)

// guardMetric is that of the routes that stand behind those to the device: if it is taken down, packets for the tunnels
// end here instead of going back to where the default route leads, and round for ever.
const guardMetric = 1 << 30

// gateway is a next hop on the device. There is nobody; but a route with a gateway makes one neighbour entry, a route
// without makes one for each client and stalls at the bound of the neighbour table.
var gateway = net.ParseIP("fe80::1")

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// toPrefix converts a route's destination; nil is the default route.
func toPrefix(n *net.IPNet, family int) netip.Prefix {
	if n == nil {
		if family == netlink.FAMILY_V4 {
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	if family == netlink.FAMILY_V4 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, bits)
}

// routeTo is our route to prefix, guardOf the one behind it.
func (d *device) routeTo(prefix netip.Prefix) *netlink.Route {
	return &netlink.Route{
		LinkIndex: d.index, Dst: ipNet(prefix), Gw: gateway, Flags: int(netlink.FLAG_ONLINK),
		Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN,
	}
}

func guardOf(prefix netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(prefix), Type: unix.RTN_UNREACHABLE, Priority: guardMetric,
		Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN,
	}
}

// setRoutes makes the routes to the device those to the given prefixes and no others.
func (d *device) setRoutes(h *host, wanted []netip.Prefix, log zerolog.Logger) error {
	there, err := ourRoutes(h)
	if err != nil {
		return err
	}
	want := map[netip.Prefix]bool{}
	for _, prefix := range wanted {
		want[prefix] = true
	}
	routed, guarded := map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
	var stale []netlink.Route
	for _, route := range there {
		prefix := toPrefix(route.Dst, netlink.FAMILY_V6)
		switch {
		case want[prefix] && route.Type == unix.RTN_UNREACHABLE:
			guarded[prefix] = true
		case want[prefix] && route.LinkIndex == d.index:
			routed[prefix] = true
		default:
			stale = append(stale, route)
		}
	}
	var errs []error
	for _, prefix := range wanted {
		if !guarded[prefix] {
			errs = append(errs, addRoute(h, guardOf(prefix)))
		}
		if !routed[prefix] {
			errs = append(errs, addRoute(h, d.routeTo(prefix)))
			log.Debug().Stringer("prefix", prefix).Str("show", fmt.Sprintf("ip -6 route show dev %s proto %d", d.name, RouteProtocol)).
				Msg("route added")
		}
	}
	for _, route := range stale {
		errs = append(errs, delRoute(h, &route))
	}
	return errors.Join(errs...)
}

// ourRoutes are all IPv6 routes of RouteProtocol in the main table, but for those to single subscribers.
func ourRoutes(h *host) ([]netlink.Route, error) {
	routes, err := space.Whole(func() ([]netlink.Route, error) {
		return h.Netlink.RouteListFiltered(netlink.FAMILY_V6,
			&netlink.Route{Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return slices.DeleteFunc(routes, func(r netlink.Route) bool { return r.Priority == datapath.LeaseMetric }), nil
}

func addRoute(h *host, route *netlink.Route) error {
	// Appended: beside a route of another device to the same prefix, which is taken away afterwards.
	if err := h.Netlink.RouteAppend(route); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add route to %s: %w", route.Dst, err)
	}
	return nil
}

func delRoute(h *host, route *netlink.Route) error {
	if err := h.Netlink.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("delete route to %s: %w", route.Dst, err)
	}
	return nil
}

// addForeign and delForeign route one prefix from outside the pools.
func (d *device) addForeign(h *host, prefix netip.Prefix, log zerolog.Logger) error {
	if err := errors.Join(addRoute(h, guardOf(prefix)), addRoute(h, d.routeTo(prefix))); err != nil {
		return err
	}
	log.Debug().Stringer("prefix", prefix).Str("show", fmt.Sprintf("ip -6 route show %s", prefix)).Msg("route added")
	return nil
}

func (d *device) delForeign(h *host, prefix netip.Prefix, log zerolog.Logger) error {
	if err := errors.Join(delRoute(h, d.routeTo(prefix)), delRoute(h, guardOf(prefix))); err != nil {
		return err
	}
	log.Debug().Stringer("prefix", prefix).Str("show", fmt.Sprintf("ip -6 route show %s", prefix)).Msg("route deleted")
	return nil
}
