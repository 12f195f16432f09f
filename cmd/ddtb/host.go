// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/cmd/ddtb/config"
)

// host is what a configuration may leave to this machine.
type host struct {
	name       func() (string, error)
	uplink     func(family int) (string, error)        // interface of the default route; family is unix.AF_INET or AF_INET6
	addresses  func(link string) ([]netip.Addr, error) // IPv4 addresses of an interface, the first one first
	owns       func(addr netip.Addr) (bool, error)     // whether an address is this host's
	linkExists func(link string) (index int, up bool, err error)
}

// errNoRoute: there is no default route.
var errNoRoute = errors.New("no default route")

// thisHost asks the kernel.
func thisHost() host {
	return host{name: os.Hostname, uplink: defaultLink, addresses: linkAddresses, owns: ownsAddress, linkExists: linkState}
}

// complete fills in what the configuration left to the host: name, interfaces, addresses. What it cannot know it asks the operator
// for, by the key's name.
func (h host) complete(c *config.Config) error {
	if c.Server.Name == "" {
		name, err := h.name()
		if err != nil {
			return fmt.Errorf("server.name is not set, and the host has none: %w", err)
		}
		c.Server.Name, _, _ = strings.Cut(name, ".")
	}
	if err := h.completeLinks(&c.Datapath); err != nil {
		return err
	}
	if len(c.Server.Listen) > 0 {
		return nil
	}
	for _, link := range c.Datapath.Uplinks {
		addrs, err := h.addresses(link)
		if err != nil {
			return fmt.Errorf("server.listen is not set, and datapath.uplinks has %s: %w", link, err)
		}
		if len(addrs) == 0 {
			return fmt.Errorf("server.listen is not set, and the uplink %s has no IPv4 address: set server.listen", link)
		}
		c.Server.Listen = append(c.Server.Listen, addrs[0])
	}
	if len(c.Server.Listen) == 0 {
		return errors.New("server.listen is not set, and there is no uplink to take the address from: set server.listen")
	}
	return nil
}

func (h host) completeLinks(c *config.Datapath) error {
	if c.Driver == "null" {
		return nil
	}
	if len(c.Uplinks) == 0 {
		link, err := h.uplink(unix.AF_INET)
		if err != nil {
			return fmt.Errorf("datapath.uplinks is not set, and the IPv4 default route says nothing: %w", err)
		}
		c.Uplinks = []string{link}
	}
	if len(c.Cores) == 0 {
		link, err := h.uplink(unix.AF_INET6)
		switch {
		case errors.Is(err, errNoRoute):
			c.Cores = c.Uplinks
		case err != nil:
			return fmt.Errorf("datapath.cores is not set, and the IPv6 default route says nothing: %w", err)
		default:
			c.Cores = []string{link}
		}
	}
	return nil
}

// defaultLink finds the interface of the default route with the lowest metric.
func defaultLink(family int) (string, error) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return "", fmt.Errorf("read routes: %w", err)
	}
	best, found := netlink.Route{}, false
	for _, route := range routes {
		if isDefault(route.Dst) && route.Type == unix.RTN_UNICAST && (!found || route.Priority < best.Priority) {
			best, found = route, true
		}
	}
	index := best.LinkIndex
	if len(best.MultiPath) > 0 {
		index = best.MultiPath[0].LinkIndex
	}
	if !found || index == 0 {
		return "", errNoRoute
	}
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return "", fmt.Errorf("interface %d: %w", index, err)
	}
	return link.Attrs().Name, nil
}

func isDefault(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0 && dst.IP.IsUnspecified()
}

func linkAddresses(name string) ([]netip.Addr, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	list, err := netlink.AddrList(link, unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP.To4()); ok && !addr.IsLinkLocalUnicast() {
			out = append(out, addr)
		}
	}
	return out, nil
}

func ownsAddress(addr netip.Addr) (bool, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false, err
	}
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && (prefix.Addr() == addr || prefix.Addr().IsLoopback() && prefix.Contains(addr)) {
			return true, nil
		}
	}
	return false, nil
}

func linkState(name string) (index int, up bool, err error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, false, err
	}
	attrs := link.Attrs()
	return attrs.Index, attrs.Flags&net.FlagUp != 0, nil
}
