// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// gateways gives a site a default route of each family.
func (s *site) gateways() (core, uplink netip.Addr) {
	s.Helper()
	core, uplink = netip.MustParseAddr("2001:db8:c::fe"), netip.MustParseAddr("192.0.2.254")
	in, up := s.link("dpcore"), s.link("dpup")
	check(s, netlink.AddrAdd(in, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("2001:db8:c::1/64")), Flags: unix.IFA_F_NODAD}))
	check(s, netlink.AddrAdd(up, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.0.2.1/24"))}))
	s.route(in, core)
	s.route(up, uplink)
	s.neighbour(in, core, 1)
	s.neighbour(up, uplink, 2)
	return core, uplink
}

func (s *site) route(l netlink.Link, gateway netip.Addr) {
	s.Helper()
	check(s, netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gateway.AsSlice()}))
}

// neighbour says that an address is at 02:00:00:00:00:last.
func (s *site) neighbour(l netlink.Link, a netip.Addr, last byte) {
	s.Helper()
	check(s, netlink.NeighSet(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, IP: a.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, last}, State: netlink.NUD_PERMANENT,
	}))
}

// fixed describes a next hop as programs see it.
func fixed(hop *fixedHop) string {
	if atomic.LoadUint64(&hop.until) == 0 {
		return "none"
	}
	return fmt.Sprintf("%x over %d, %d exceptions", hop.macs[:6], hop.ifindex, hop.exceptions)
}

// TestRootFixed follows routes and neighbours: the next hop is the default route's, whatever has another route is an
// exception, and where there is no one next hop there is none.
func TestRootFixed(t *testing.T) {
	s := newSite(t)
	core, uplink := s.gateways()
	in, up := s.link("dpcore"), s.link("dpup")
	d := s.open(Options{Mode: TC, NextHop: Fixed})
	shared := d.state.shared
	become := func(what, wantCore, wantUplink string) {
		t.Helper()
		s.await(what, func() bool { return fixed(&shared.core) == wantCore && fixed(&shared.uplink) == wantUplink })
	}
	at := func(l netlink.Link, last byte, exceptions int) string {
		return fmt.Sprintf("02000000000%d over %d, %d exceptions", last, l.Attrs().Index, exceptions)
	}
	// Exceptions: the connected networks, the server's own address.
	become("at start", at(in, 1, 2), at(up, 2, 1))
	if left := atomic.LoadUint64(&shared.core.until) - now(); left > uint64(trust) {
		t.Errorf("trusted for %d ns", left)
	}
	s.neighbour(in, core, 3)
	s.neighbour(up, uplink, 4)
	become("gateways move", at(in, 3, 2), at(up, 4, 1))

	elsewhere := &netlink.Route{LinkIndex: in.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("3fff:1::/32")), Gw: net.ParseIP("2001:db8:c::77")}
	check(t, netlink.RouteAdd(elsewhere))
	same := &netlink.Route{LinkIndex: in.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("3fff:2::/32")), Gw: core.AsSlice()}
	check(t, netlink.RouteAdd(same))
	become("another route", at(in, 3, 3), at(up, 4, 1))
	check(t, netlink.RouteDel(elsewhere))
	become("no other route", at(in, 3, 2), at(up, 4, 1))

	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Priority = netlink.FAMILY_V4, 77, 100
	check(t, netlink.RuleAdd(rule))
	become("policy routing", at(in, 3, 2), "none")
	check(t, netlink.RuleDel(rule))
	become("no policy routing", at(in, 3, 2), at(up, 4, 1))

	check(t, netlink.RouteDel(&netlink.Route{LinkIndex: in.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("::/0")), Gw: core.AsSlice()}))
	become("no default route", "none", at(up, 4, 1))
	s.route(in, core)
	become("a default route again", at(in, 3, 2), at(up, 4, 1))

	for n := range byte(maxExceptions + 1) {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, n, 0, 0}), 16)
		check(t, netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: ipNet(prefix), Gw: net.IPv4(192, 0, 2, 9)}))
	}
	become("too many exceptions", at(in, 3, 2), "none")

	check(t, d.Close())
	second := s.open(Options{Mode: TC, NextHop: FIB})
	if got := fixed(&second.state.shared.core); got != "none" {
		t.Errorf("without a watcher: %s", got)
	}
}

// TestExcept makes the fewest exceptions.
func TestExcept(t *testing.T) {
	for _, test := range []struct {
		name      string
		in, want  []string
		available bool
	}{
		{"none", nil, nil, true},
		{"within another", []string{"10.1.2.0/24", "10.0.0.0/8", "10.1.2.3/32"}, []string{"10.0.0.0/8"}, true},
		{"longer than half", []string{"2001:db8::1/128", "2001:db8::/64", "2001:db8:0:1::1/128"}, []string{"2001:db8::/64", "2001:db8:0:1::/64"}, true},
		{"too many", []string{"10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16", "10.8.0.0/16"}, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var in []netip.Prefix
			for _, p := range test.in {
				in = append(in, netip.MustParsePrefix(p))
			}
			var w way
			if err := except(&w, in); (err == nil) != test.available {
				t.Fatalf("%v, available: %v", err, test.available)
			}
			if !test.available {
				return
			}
			var got []string
			for _, p := range w.exceptions[:w.hop.exceptions] {
				got = append(got, p.String())
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("%v, expected %v", got, test.want)
			}
		})
	}
}
