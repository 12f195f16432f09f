// SPDX-License-Identifier: GPL-2.0-or-later

//go:build utun

package utun

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/space"
)

// router makes a network namespace of the test's own that forwards IPv6, and stays in it. It ends with the test.
func inRouter(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // for good: the thread ends with the test
	space, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = space.Close() })
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.0.2.1/32"))}))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// shown is what `ip` shows of utun devices: a line each, its name, whether it is a client device, addresses and routes of ours.
func shown(t *testing.T) []string {
	t.Helper()
	links, err := space.Whole(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, link := range links {
		if link.Type() != kind {
			continue
		}
		line := link.Attrs().Name
		if link.Attrs().ParentIndex != 0 {
			line += " client"
		}
		addresses, err := space.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V6) })
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			line += " " + a.IP.String()
			if a.Peer != nil && !a.Peer.IP.Equal(a.IP) {
				line += " peer " + a.Peer.IP.String()
			}
		}
		routes, err := space.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(link, netlink.FAMILY_V6) })
		if err != nil {
			t.Fatal(err)
		}
		for _, route := range routes {
			if route.Protocol == RouteProtocol {
				line += " route " + route.Dst.String()
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, shown(t)); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

const sharedLine = "utun0 2001:db8::1 route 2001:db8:e::/120 route 2001:db8:f::/124 route 2001:db8:1000::/40"

// TestRootInterfaces follows what `ip` shows through the life of a tunnel with a device of its own.
func TestRootInterfaces(t *testing.T) {
	inRouter(t)
	d := open(t, Options{Layout: Interface})
	config, tunnel := exampleConfig(), exampleTunnel()
	set := func(d *Driver, tunnels ...datapath.Tunnel) {
		t.Helper()
		if err := d.Set(t.Context(), tunnels...); err != nil {
			t.Fatal(err)
		}
	}
	configure := func(d *Driver) {
		t.Helper()
		if err := d.Configure(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	configure(d)
	expect(t, "configured", sharedLine)
	set(d, tunnel)
	set(d, tunnel)
	expect(t, "set", "ac10022a_58022 client 2001:db8::1 peer 2001:db8:e::7 route 2001:db8:1007::/48", sharedLine)

	second := tunnel
	second.ID, second.Endpoint, second.Prefix = 1008, netip.MustParseAddr("2001:db8:e::8"), netip.Prefix{}
	set(d, second)
	expect(t, "two of one outer address", "ac10022a_58022 client 2001:db8::1 peer 2001:db8:e::7 route 2001:db8:1007::/48",
		"ac10022a_58022b client 2001:db8::1 peer 2001:db8:e::8", sharedLine)

	tunnel.Remote = netip.MustParseAddrPort("172.16.2.42:9")
	set(d, tunnel)
	expect(t, "another outer port", "ac10022a_58022b client 2001:db8::1 peer 2001:db8:e::8",
		"ac10022a_9 client 2001:db8::1 peer 2001:db8:e::7 route 2001:db8:1007::/48", sharedLine)

	routed := tunnel
	routed.Routes = datapath.PrefixesOf(netip.MustParsePrefix("2001:db8:f00::/48"))
	set(d, routed)
	expect(t, "routes", "ac10022a_58022b client 2001:db8::1 peer 2001:db8:e::8",
		"ac10022a_9 client 2001:db8::1 peer 2001:db8:e::7 route 2001:db8:f00::/48 route 2001:db8:1007::/48",
		strings.Replace(sharedLine, " route 2001:db8:1000", " route 2001:db8:f00::/48 route 2001:db8:1000", 1))
	set(d, tunnel)
	expect(t, "no routes", "ac10022a_58022b client 2001:db8::1 peer 2001:db8:e::8",
		"ac10022a_9 client 2001:db8::1 peer 2001:db8:e::7 route 2001:db8:1007::/48", sharedLine)

	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, Options{Layout: Interface})
	configure(d)
	expect(t, "after a restart", "ac10022a_58022b client 2001:db8::1 peer 2001:db8:e::8",
		"ac10022a_9 client 2001:db8::1 peer 2001:db8:e::7 route 2001:db8:1007::/48", sharedLine)
	if _, err := d.Delete(t.Context(), second.ID); err != nil {
		t.Error(err)
	}
	expect(t, "deleted", "ac10022a_9 client 2001:db8::1 peer 2001:db8:e::7 route 2001:db8:1007::/48", sharedLine)

	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, Options{})
	configure(d)
	expect(t, "layout shared", sharedLine)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, Options{Layout: Interface})
	configure(d)
	expect(t, "layout interface again", "ac10022a_9 client 2001:db8::1 peer 2001:db8:e::7 route 2001:db8:1007::/48", sharedLine)
	config.Device = "utun1"
	configure(d)
	expect(t, "another name", "ac10022a_9 client 2001:db8::1 peer 2001:db8:e::7 route 2001:db8:1007::/48", strings.Replace(sharedLine, "utun0", "utun1", 1))
	if err := errors.Join(d.Close(), Remove(t.Context(), config, zerolog.Nop())); err != nil {
		t.Fatal(err)
	}
	if left := shown(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	routes, err := space.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V6) })
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range routes {
		if route.Protocol == RouteProtocol {
			t.Errorf("left: %v", route)
		}
	}
}

// TestRootOthersDevice finds an interface of another kind under the device's name.
func TestRootOthersDevice(t *testing.T) {
	inRouter(t)
	config := exampleConfig()
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: config.Device}}); err != nil {
		t.Fatal(err)
	}
	d := open(t, Options{})
	if err := d.Configure(t.Context(), config); err == nil || !strings.Contains(err.Error(), "ddtb remove") {
		t.Errorf("%v", err)
	}
	bad := 0
	for _, check := range Probe(config) {
		if !check.OK {
			bad++
		}
	}
	if bad != 1 {
		t.Errorf("%d bad checks, 1 expected: %+v", bad, Probe(config))
	}
	if err := Remove(t.Context(), config, zerolog.Nop()); err != nil {
		t.Error(err)
	}
	if _, err := netlink.LinkByName(config.Device); err != nil {
		t.Errorf("another's device was removed: %v", err)
	}
}

// TestRootRefused wants more of the module than it gives: the error says what the kernel says.
func TestRootRefused(t *testing.T) {
	inRouter(t)
	d := open(t, Options{})
	config := exampleConfig()
	config.Pools = []datapath.Pool{{Name: "vast", First: 1, Size: 1<<24 + 1, EndpointBase: netip.MustParseAddr("2001:db8:e::")}}
	err := d.Configure(t.Context(), config)
	if err == nil {
		t.Fatal("a pool of 16777217 tunnels is taken")
	}
	t.Log(err)
	if !strings.Contains(err.Error(), ": ") || !strings.Contains(err.Error(), "utun0") {
		t.Errorf("%v", err)
	}
}

// TestRootRoutesRefused asks the module for routes that the driver would not: the error says what the kernel says.
func TestRootRoutesRefused(t *testing.T) {
	inRouter(t)
	d := open(t, Options{})
	if err := d.Configure(t.Context(), exampleConfig()); err != nil {
		t.Fatal(err)
	}
	first := exampleTunnel()
	first.ID, first.Endpoint, first.Prefix = 1008, netip.MustParseAddr("2001:db8:e::8"), netip.Prefix{}
	outside := func(n int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("2001:db8:f%02x::/48", n)) }
	first.Routes = datapath.PrefixesOf(outside(0))
	if err := d.Set(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	var many []netip.Prefix
	for n := range datapath.MaxRoutes + 1 {
		many = append(many, outside(n+1))
	}
	for text, spoil := range map[string]func(*datapath.Tunnel){
		"a prefix outside every pool is expected": func(d *datapath.Tunnel) {
			d.Routes = datapath.PrefixesOf(outside(1), netip.MustParsePrefix("2001:db8:1005::/48"))
		},
		"the tunnel has it already": func(d *datapath.Tunnel) { d.Prefix, d.Routes = outside(1), datapath.PrefixesOf(outside(1)) },
		"it is another tunnel's":    func(d *datapath.Tunnel) { d.Routes = datapath.PrefixesOf(outside(0), outside(1)) },
		"at most 16 routes":         func(d *datapath.Tunnel) { d.Routes = datapath.PrefixesOf(many...) },
	} {
		tunnel := exampleTunnel()
		spoil(&tunnel)
		err := d.send([]change{{placed: placed{Tunnel: tunnel}}})
		if !invalid(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, expected: %s", err, text)
		}
	}
	second := exampleTunnel() // of what was refused nothing is kept
	second.Routes = datapath.PrefixesOf(many[1:]...)
	if err := d.Set(t.Context(), second); err != nil {
		t.Error(err)
	}
}
