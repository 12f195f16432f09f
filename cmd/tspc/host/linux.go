// SPDX-License-Identifier: GPL-2.0-or-later

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linux is the kernel through rtnetlink and /proc/sys.
type linux struct {
	conf string // the folder of the IPv6 settings of interfaces
}

func newLinux(procSys string) linux { return linux{conf: procSys + "/net/ipv6/conf"} }

// addrGenNone is IN6_ADDR_GEN_MODE_NONE: no link-local address.
const addrGenNone = 1

// Link implements kernel. A tunnel interface has no link: without a link-local address its kernel sends no router
// solicitations and multicast reports into the tunnel.
func (l linux) Link(name string, mtu int) error {
	link, err := linkByName(name)
	if err != nil {
		return err
	}
	if err := l.enableIPv6(name); err != nil {
		return err
	}
	attributes := link.Attrs()
	if attributes.Flags&net.FlagUp == 0 {
		// Old kernels cannot leave it out; the tunnel then drops what comes of it.
		_ = netlink.LinkSetIP6AddrGenMode(link, addrGenNone)
	}
	if attributes.MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("interface %s: MTU %d: %w", name, mtu, explain(err))
		}
	}
	if attributes.Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("interface %s: up: %w", name, explain(err))
		}
	}
	return nil
}

// enableIPv6 lets the tunnel's own interface have addresses on a machine that is set to have none by default.
func (l linux) enableIPv6(name string) error {
	path := l.conf + "/" + name + "/disable_ipv6"
	old, err := readSetting(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("this kernel has no IPv6: %w", err)
	}
	if err != nil || old == "0" {
		return err
	}
	return writeSetting(path, "0")
}

// Look implements kernel.
func (l linux) Look(c change) (old string, present bool, err error) {
	switch c.Kind {
	case kindAddress:
		return l.lookAddress(c)
	case kindForwarding:
		return l.lookForwarding()
	case kindSit, kindRoute, kindUnreachable, kindFile:
		// The interface is ours alone, and so are the file's name and a route that does not exist; one that does is an
		// error of Do.
	}
	return "", false, nil
}

func (l linux) lookAddress(c change) (string, bool, error) {
	link, err := linkByName(c.Interface)
	if err != nil {
		return "", false, err
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return "", false, err
	}
	for _, address := range addresses {
		if have, ok := netip.AddrFromSlice(address.IP); ok && have == c.Prefix.Addr() {
			return "", true, nil
		}
	}
	return "", false, nil
}

// Do implements kernel.
func (l linux) Do(c change) error {
	switch c.Kind {
	case kindSit:
		return addSit(c)
	case kindAddress:
		return onAddress(c, netlink.AddrAdd)
	case kindRoute, kindUnreachable:
		err := onRoute(c, netlink.RouteAdd)
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("there is such a route with metric %d already: %w (choose another metric)", c.Metric, err)
		}
		return err
	case kindForwarding:
		return writeSetting(l.conf+"/all/forwarding", "1")
	case kindFile:
		return WriteFile(c.Path, []byte(c.Content), 0o644)
	}
	panic("host: unknown kind of change " + string(c.Kind))
}

// Undo implements kernel.
func (l linux) Undo(c change, old string) error {
	var err error
	switch c.Kind {
	case kindSit:
		err = removeSit(c)
	case kindAddress:
		err = onAddress(c, netlink.AddrDel)
	case kindRoute, kindUnreachable:
		err = onRoute(c, netlink.RouteDel)
	case kindForwarding:
		err = l.restoreForwarding(old)
	case kindFile:
		err = os.Remove(c.Path)
	default:
		return fmt.Errorf("unknown kind of change %q", c.Kind)
	}
	var noLink netlink.LinkNotFoundError
	if errors.As(err, &noLink) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL) ||
		errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrNotExist) {
		return nil // gone already
	}
	return err
}

// onAddress adds or deletes the address of c.
func onAddress(c change, operation func(netlink.Link, *netlink.Addr) error) error {
	link, err := linkByName(c.Interface)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: ipNet(c.Prefix)}
	if c.NoDAD {
		address.Flags = unix.IFA_F_NODAD
	}
	return explain(operation(link, address))
}

// onRoute adds or deletes the route of c.
func onRoute(c change, operation func(*netlink.Route) error) error {
	route := &netlink.Route{
		Family: netlink.FAMILY_V6, Dst: ipNet(c.Prefix.Masked()), Priority: c.Metric,
		Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN,
	}
	if c.Source.IsValid() {
		route.Src = c.Source.AsSlice()
	}
	if c.Kind == kindUnreachable {
		route.Type = unix.RTN_UNREACHABLE
	} else {
		link, err := linkByName(c.Interface)
		if err != nil {
			return err
		}
		route.LinkIndex = link.Attrs().Index
	}
	return explain(operation(route))
}

// linkByName finds an interface. The error wraps netlink.LinkNotFoundError if there is none.
func linkByName(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	return link, nil
}

// explain adds what to do to an error the user can do something about.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (CAP_NET_ADMIN is needed)", err)
	}
	return err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
