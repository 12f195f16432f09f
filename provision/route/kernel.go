// SPDX-License-Identifier: GPL-2.0-or-later

package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// Kernel is the main routing table, as far as it leads to the tunnels' device with datapath.LeaseMetric.
type Kernel struct {
	device string
	nl     *netlink.Handle
}

var _ Table = (*Kernel)(nil)

// gateway is a next hop on the device. There is nobody; but a route with a gateway needs one neighbour entry for all
// subscribers, routes without one for each address.
var gateway = net.ParseIP("fe80::1")

// Open makes a Kernel of the network namespace of the calling thread. The device has to be there when it is used.
func Open(device string) (*Kernel, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &Kernel{device: device, nl: nl}, nil
}

// Close lets go of the kernel; the routes stay.
func (k *Kernel) Close() error {
	k.nl.Close()
	return nil
}

// route is ours to a destination.
func (k *Kernel) route(prefix netip.Prefix) (*netlink.Route, error) {
	link, err := k.nl.LinkByName(k.device)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", k.device, err)
	}
	return &netlink.Route{
		LinkIndex: link.Attrs().Index, Gw: gateway, Flags: int(netlink.FLAG_ONLINK), Protocol: datapath.RouteProtocol,
		Priority: datapath.LeaseMetric, Table: unix.RT_TABLE_MAIN,
		Dst: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())},
	}, nil
}

// List implements Table.
func (k *Kernel) List() ([]netip.Prefix, error) {
	var out []netip.Prefix
	filter := &netlink.Route{Protocol: datapath.RouteProtocol, Priority: datapath.LeaseMetric, Table: unix.RT_TABLE_MAIN}
	err := k.nl.RouteListFilteredIter(netlink.FAMILY_V6, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_PRIORITY|netlink.RT_FILTER_TABLE,
		func(r netlink.Route) bool {
			if addr, ok := netip.AddrFromSlice(r.Dst.IP); ok {
				bits, _ := r.Dst.Mask.Size()
				out = append(out, netip.PrefixFrom(addr, bits))
			}
			return true
		})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return out, nil
}

// Add implements Table.
func (k *Kernel) Add(prefix netip.Prefix) error {
	r, err := k.route(prefix)
	if err == nil {
		err = k.nl.RouteReplace(r)
	}
	if err != nil {
		return fmt.Errorf("add route to %s: %w", prefix, err)
	}
	return nil
}

// Delete implements Table.
func (k *Kernel) Delete(prefix netip.Prefix) error {
	r, err := k.route(prefix)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // its routes went with it
	}
	if err == nil {
		err = k.nl.RouteDel(r)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("delete route to %s: %w", prefix, err)
	}
	return nil
}
