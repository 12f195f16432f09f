// SPDX-License-Identifier: GPL-2.0-or-later

package host

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asHost and asRouter are States of the two ways to use a tunnel.
func asHost() State {
	return State{
		Interface: "tun", MTU: 1280,
		Address: netip.MustParseAddr("2001:db8::2"), Keepalive: netip.MustParseAddr("2001:db8::1"),
		Default: netip.MustParsePrefix("::/0"), Metric: 2048,
	}
}

func asRouter() State {
	s := asHost()
	s.Prefix = netip.MustParsePrefix("2001:db8:1::/48")
	s.LANs = []string{"lan0", "lan1"}
	return s
}

func texts(changes []change) []string {
	out := make([]string, len(changes))
	for i, c := range changes {
		out[i] = c.String()
	}
	return out
}

func TestPlan(t *testing.T) {
	quiet := asHost()
	quiet.Keepalive, quiet.Default = netip.Addr{}, netip.Prefix{}
	named := asHost()
	named.Resolv, named.Resolvers = "/run/x/resolv", []netip.Addr{netip.MustParseAddr("2001:db8::53")}
	kernel := asHost()
	kernel.Sit = Sit{Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr("192.0.2.1")}
	for _, test := range []struct {
		name  string
		state State
		want  []string
	}{
		{"host", asHost(), []string{
			"address 2001:db8::2/128 on tun", "route 2001:db8::1/128 into tun", "route ::/0 into tun",
		}},
		{"host without routes", quiet, []string{"address 2001:db8::2/128 on tun"}},
		{"host with name servers", named, []string{
			"address 2001:db8::2/128 on tun", "route 2001:db8::1/128 into tun", "route ::/0 into tun", "file /run/x/resolv",
		}},
		{"kernel device", kernel, []string{
			"sit interface tun from 192.0.2.2 to 192.0.2.1", "address 2001:db8::2/128 on tun",
			"route 2001:db8::1/128 into tun", "route ::/0 into tun",
		}},
		{"router", asRouter(), []string{
			"address 2001:db8::2/128 on tun", "route 2001:db8::1/128 into tun", "unreachable route 2001:db8:1::/48",
			"address 2001:db8:1::1/64 on lan0", "address 2001:db8:1:1::1/64 on lan1", "IPv6 forwarding", "route ::/0 into tun",
		}},
	} {
		if diff := cmp.Diff(test.want, texts(plan(test.state))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestPlanSource: what leaves through the tunnel does so from the tunnel address, and nothing else has a say in it.
func TestPlanSource(t *testing.T) {
	for _, c := range plan(asRouter()) {
		if c.Kind == kindRoute && c.Source != asRouter().Address {
			t.Errorf("%v: source %v", c, c.Source)
		}
	}
}

func TestSubnet(t *testing.T) {
	for _, test := range []struct {
		prefix string
		n      int
		want   string // "" for none
	}{
		{"2001:db8:1::/48", 0, "2001:db8:1::/64"},
		{"2001:db8:1::/48", 1, "2001:db8:1:1::/64"},
		{"2001:db8:1::/48", 65535, "2001:db8:1:ffff::/64"},
		{"2001:db8:1::/48", 65536, ""},
		{"2001:db8:1:ff00::/56", 255, "2001:db8:1:ffff::/64"},
		{"2001:db8:1:ff00::/56", 256, ""},
		{"2001:db8:1:2::/64", 0, "2001:db8:1:2::/64"},
		{"2001:db8:1:2::/64", 1, ""},
		{"2001:db8::/20", 3, "2001:0:0:3::/64"},
		{"2001:db8:1:2::/65", 0, ""},
		{"2001:db8:1::/48", -1, ""},
	} {
		got, ok := Subnet(netip.MustParsePrefix(test.prefix), test.n)
		if ok != (test.want != "") || ok && got.String() != test.want {
			t.Errorf("subnet %d of %s: %v, %v, want %q", test.n, test.prefix, got, ok, test.want)
		}
	}
}

func TestResolvConf(t *testing.T) {
	s := asHost()
	for _, a := range []string{"2001:db8::53", "192.0.2.53", "2001:db8::54", "2001:db8::55"} {
		s.Resolvers = append(s.Resolvers, netip.MustParseAddr(a))
	}
	want := "# Name servers of the provider of tun, written by tspc.\n" +
		"nameserver 2001:db8::53\nnameserver 192.0.2.53\nnameserver 2001:db8::54\n"
	if got := resolvConf(s); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
