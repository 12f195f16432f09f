// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath/space"
)

const (
	// kind is that of `ip link add type`.
	kind = "utun"
	// addrGenModeNone keeps the kernel from giving a device a link-local address of its own (IN6_ADDR_GEN_MODE_NONE): it has no
	// neighbours, without such an address the stack sends no redirects from one tunnel to another, and with thousands of
	// client devices those addresses are half of what they cost.
	addrGenModeNone = 1
)

// device is the shared device.
type device struct {
	name  string
	index int
}

// openDevice makes the device, or takes over the one that is there: by its name, or by another if it is the one our routes
// lead to, which then gets this name.
func openDevice(h *host, name string, log zerolog.Logger) (*device, error) {
	d, err := findOrMake(h, name, log)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	for _, setting := range []struct {
		name  string
		value int
	}{
		{"ipv6/conf/" + name + "/disable_ipv6", 0},
		{"ipv6/conf/" + name + "/forwarding", 1},
		{"ipv6/conf/" + name + "/accept_ra", 0},
	} {
		if err := h.SetSysctl(setting.name, setting.value); err != nil {
			return nil, fmt.Errorf("device %s: %w", name, err)
		}
	}
	return d, nil
}

func findOrMake(h *host, name string, log zerolog.Logger) (*device, error) {
	link, err := h.Netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		if link, err = ours(h); link != nil && err == nil {
			log.Info().Str("device", name).Str("before", link.Attrs().Name).Msg("device renamed")
			err = h.Netlink.LinkSetName(link, name)
		}
	}
	if err != nil {
		return nil, err
	}
	if link == nil {
		return makeDevice(h, name, 0)
	}
	if link.Type() != kind || link.Attrs().ParentIndex != 0 {
		return nil, fmt.Errorf("there is an interface of that name which is not a shared utun device but %s; with a datapath of another driver in force "+
			"run `ddtb remove` with that driver first", link.Type())
	}
	d := &device{name: name, index: link.Attrs().Index}
	return d, d.up(h)
}

// ours finds the shared device that routes of ours lead to, nil if there is none.
func ours(h *host) (netlink.Link, error) {
	routes, err := ourRoutes(h)
	if err != nil {
		return nil, err
	}
	for _, route := range routes {
		if route.LinkIndex == 0 {
			continue
		}
		link, err := h.Netlink.LinkByIndex(route.LinkIndex)
		if err == nil && link.Type() == kind && link.Attrs().ParentIndex == 0 {
			return link, nil
		}
	}
	return nil, nil
}

// makeDevice makes a shared device, or a client device of the parent.
func makeDevice(h *host, name string, parent int) (*device, error) {
	link := &netlink.GenericLink{LinkAttrs: netlink.NewLinkAttrs(), LinkType: kind}
	link.Name, link.ParentIndex = name, parent
	if err := h.Netlink.LinkAdd(link); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = errNoModule
		}
		return nil, explain(err)
	}
	made, err := h.Netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	d := &device{name: name, index: made.Attrs().Index}
	if err := h.Netlink.LinkSetIP6AddrGenMode(made, addrGenModeNone); err != nil {
		return nil, errors.Join(fmt.Errorf("no link-local address: %w", err), d.remove(h))
	}
	if err := d.up(h); err != nil {
		return nil, errors.Join(err, d.remove(h))
	}
	return d, nil
}

// link is what the netlink library wants to have.
func (d *device) link() netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: d.name, Index: d.index}, LinkType: kind}
}

func (d *device) up(h *host) error {
	if err := h.Netlink.LinkSetUp(d.link()); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}

// remove deletes the device; that it is gone already is no error.
func (d *device) remove(h *host) error {
	if err := h.Netlink.LinkDel(d.link()); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("device %s: delete: %w", d.name, err)
	}
	return nil
}

// setAddress gives the device this address and no other: the server's; peer is the client's on a client device, else invalid.
func (d *device) setAddress(h *host, server, peer netip.Addr) error {
	there, err := space.Whole(func() ([]netlink.Addr, error) { return h.Netlink.AddrList(d.link(), netlink.FAMILY_V6) })
	if err != nil {
		return fmt.Errorf("device %s: list addresses: %w", d.name, err)
	}
	wanted := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(server, 128)), Flags: unix.IFA_F_NODAD}
	if peer.IsValid() {
		wanted.Peer = ipNet(netip.PrefixFrom(peer, 128))
	}
	found := false
	for _, a := range there {
		if a.IP.Equal(wanted.IP) && (!peer.IsValid() || a.Peer != nil && a.Peer.IP.Equal(wanted.Peer.IP)) {
			found = true
			continue
		}
		if err := h.Netlink.AddrDel(d.link(), &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("device %s: delete address %s: %w", d.name, a.IPNet, err)
		}
	}
	if found {
		return nil
	}
	if err := h.Netlink.AddrAdd(d.link(), wanted); err != nil {
		return fmt.Errorf("device %s: add address %s: %w", d.name, server, err)
	}
	return nil
}
