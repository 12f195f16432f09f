// SPDX-License-Identifier: GPL-2.0-or-later

package machine

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"ddtb/cmd/tspc/agent"
	"ddtb/cmd/tspc/host"
	"ddtb/cmd/tspc/netnstest"
	"ddtb/tsp"
)

func TestTunnelMTU(t *testing.T) {
	for _, test := range []struct {
		name                                 string
		configured, offered, outer, overhead int
		want                                 int
	}{
		{"nobody says anything", 0, 0, 1500, 28, 1280},
		{"the server", 0, 1400, 1500, 28, 1400},
		{"the subscriber", 1300, 1400, 1500, 28, 1300},
		{"all that fits UDP", 0, 1480, 1500, 28, 1472},
		{"all that fits IPv4", 0, 1480, 1500, 20, 1480},
		{"PPPoE", 0, 1472, 1492, 28, 1464},
		{"jumbo frames beneath", 0, 8000, 9000, 28, 1480},
		{"too narrow beneath", 1400, 0, 1300, 28, 1280},
		{"unknown beneath", 0, 1400, 0, 28, 1400},
		{"a server's nonsense", 0, -5, 1500, 28, 1280},
		{"less than IPv6 allows", 0, 576, 1500, 28, 1280},
	} {
		if got := tunnelMTU(test.configured, test.offered, test.outer, test.overhead); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestWanted(t *testing.T) {
	offer := tsp.Offer{
		Type: tsp.V6UDPV4, ClientIPv6: netip.MustParseAddr("2001:db8::2"), KeepaliveTo: netip.MustParseAddr("2001:db8::1"),
		Prefix: netip.MustParsePrefix("2001:db8:1::/56"), Resolvers: []netip.Addr{netip.MustParseAddr("2001:db8::53")},
	}
	config := Config{
		Interface: "tun", RunDir: "/run/x", MTU: 1300, Default: netip.MustParsePrefix("::/0"), Metric: 7, LANs: []string{"lan"},
	}
	asHost := host.State{
		Interface: "tun", MTU: 1300, Address: offer.ClientIPv6, Keepalive: offer.KeepaliveTo, Default: config.Default, Metric: 7,
		Resolvers: offer.Resolvers, Resolv: "/run/x/tun.resolv.conf",
	}
	asRouter := asHost
	asRouter.Prefix, asRouter.LANs = offer.Prefix, config.LANs
	for router, want := range map[bool]host.State{false: asHost, true: asRouter} {
		config.Router = router
		m := &Machine{config: config}
		got := m.wanted(agent.Info{Server: netip.MustParseAddrPort("127.0.0.1:3653"), Offer: offer})
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Errorf("router %v (-want +got):\n%s", router, diff)
		}
	}
}

// TestRootNoWayThroughOneself: IPv4 that is routed into the tunnel (by an IPv4 service on top of it) is no way to the
// server.
func TestRootNoWayThroughOneself(t *testing.T) {
	netnstest.Enter(t, "tun", "wan")
	netnstest.Address(t, "tun", "192.0.2.2/24")
	netnstest.Address(t, "wan", "198.51.100.2/24")
	netnstest.Up(t, "tun", "wan")
	m, err := Open(Config{Interface: "tun", RunDir: t.TempDir(), Log: zerolog.New(zerolog.NewTestWriter(t))})
	if err != nil {
		t.Fatal(err)
	}
	if path, err := m.Path(netip.MustParseAddr("192.0.2.1")); err == nil || !strings.Contains(err.Error(), "into the tunnel tun itself") {
		t.Errorf("path %v, %v", path, err)
	}
	if path, err := m.Path(netip.MustParseAddr("198.51.100.1")); err != nil || path.Source.String() != "198.51.100.2" {
		t.Errorf("path %v, %v", path, err)
	}
	// Before anything was raised there is nothing to lower or clear.
	for _, step := range []func() error{m.Lower, m.Clear, m.Close} {
		if err := step(); err != nil {
			t.Error(err)
		}
	}
}
