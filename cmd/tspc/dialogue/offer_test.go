// SPDX-License-Identifier: GPL-2.0-or-later

package dialogue

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ddtb/tsp"
)

func good() tsp.Offer {
	return tsp.Offer{
		Type: tsp.V6UDPV4, ServerIPv4: netip.MustParseAddr("192.0.2.1"), ServerIPv6: netip.MustParseAddr("2001:db8::1"),
		ClientIPv6: netip.MustParseAddr("2001:db8::2"), Keepalive: 30 * time.Second, KeepaliveTo: netip.MustParseAddr("2001:db8::1"),
		Prefix: netip.MustParsePrefix("2001:db8:1::/56"),
	}
}

func TestCheck(t *testing.T) {
	client := func(a string) func(*tsp.Offer) {
		return func(o *tsp.Offer) { o.ClientIPv6 = netip.MustParseAddr(a) }
	}
	prefix := func(p string) func(*tsp.Offer) {
		return func(o *tsp.Offer) { o.Prefix = netip.MustParsePrefix(p) }
	}
	server := func(a string) func(*tsp.Offer) {
		return func(o *tsp.Offer) { o.Type, o.ServerIPv4 = tsp.V6V4, netip.MustParseAddr(a) }
	}
	for _, test := range []struct {
		name      string
		change    func(*tsp.Offer)
		asked     tsp.TunnelType
		transport string
		want      string // part of the error, "" if the offer is good
	}{
		{"good", func(*tsp.Offer) {}, tsp.V6AnyV4, "udp", ""},
		{"as asked", func(*tsp.Offer) {}, tsp.V6UDPV4, "udp", ""},
		{"not as asked", func(*tsp.Offer) {}, tsp.V6V4, "udp", `tunnel type "v6udpv4" for "v6v4"`},
		{"UDP tunnel over TCP", func(*tsp.Offer) {}, tsp.V6AnyV4, "tcp", "v6udpv4 over tcp"},
		{"IPv4 tunnel over TCP", server("192.0.2.1"), tsp.V6AnyV4, "tcp", ""},
		{"type of the other family", func(o *tsp.Offer) { o.Type = tsp.V4V6 }, tsp.V6AnyV4, "udp", "tunnel type"},
		{"no choice made", func(o *tsp.Offer) { o.Type = tsp.V6AnyV4 }, tsp.V6AnyV4, "udp", "tunnel type"},
		{"multicast server", server("224.0.0.1"), tsp.V6V4, "udp", "tunnel server"},
		{"broadcast server", server("255.255.255.255"), tsp.V6V4, "udp", "tunnel server"},
		{"loopback server", server("127.0.0.1"), tsp.V6V4, "udp", "tunnel server"},
		{"unspecified server", server("0.0.0.0"), tsp.V6V4, "udp", "tunnel server"},
		{"IPv6 server", server("2001:db8::9"), tsp.V6V4, "udp", "tunnel server"},
		{"no address", func(o *tsp.Offer) { o.ClientIPv6 = netip.Addr{} }, tsp.V6AnyV4, "udp", "tunnel address"},
		{"IPv4 address", client("192.0.2.9"), tsp.V6AnyV4, "udp", "tunnel address"},
		{"mapped address", client("::ffff:192.0.2.9"), tsp.V6AnyV4, "udp", "tunnel address"},
		{"link-local address", client("fe80::1"), tsp.V6AnyV4, "udp", "tunnel address"},
		{"multicast address", client("ff0e::1"), tsp.V6AnyV4, "udp", "tunnel address"},
		{"loopback address", client("::1"), tsp.V6AnyV4, "udp", "tunnel address"},
		{"the whole Internet", prefix("::/0"), tsp.V6AnyV4, "udp", "prefix"},
		{"a prefix of a country", prefix("2000::/8"), tsp.V6AnyV4, "udp", "prefix"},
		{"smaller than a LAN", prefix("2001:db8:1::/72"), tsp.V6AnyV4, "udp", "prefix"},
		{"bits behind the prefix", prefix("2001:db8:1::1/56"), tsp.V6AnyV4, "udp", "prefix"},
		{"an IPv4 prefix", prefix("10.0.0.0/16"), tsp.V6AnyV4, "udp", "prefix"},
		{"link-local prefix", prefix("fe80::/64"), tsp.V6AnyV4, "udp", "prefix"},
	} {
		offer := good()
		test.change(&offer)
		_, err := check(offer, tsp.Request{Type: test.asked}, test.transport)
		if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, ErrOffer) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestCheckPutsRight(t *testing.T) {
	self, peer, server := good().ClientIPv6, good().KeepaliveTo, netip.MustParseAddr("2001:db8::99")
	for _, test := range []struct {
		name     string
		interval time.Duration
		to       netip.Addr
		server   netip.Addr
		want     time.Duration
		wantTo   netip.Addr
	}{
		{"good", 30 * time.Second, peer, server, 30 * time.Second, peer},
		{"no address", 30 * time.Second, netip.Addr{}, server, 30 * time.Second, server},
		{"no address at all", 30 * time.Second, netip.Addr{}, netip.Addr{}, 0, netip.Addr{}},
		{"no interval", 0, peer, server, 0, netip.Addr{}},
		{"ourselves", 30 * time.Second, self, server, 0, netip.Addr{}},
		{"IPv4", 30 * time.Second, netip.MustParseAddr("192.0.2.1"), server, 0, netip.Addr{}},
		{"a storm", time.Millisecond, peer, server, time.Second, peer},
		{"a year", 365 * 24 * time.Hour, peer, server, 24 * time.Hour, peer},
	} {
		offer := good()
		offer.Keepalive, offer.KeepaliveTo, offer.ServerIPv6 = test.interval, test.to, test.server
		offer.Resolvers = make([]netip.Addr, 100)
		got, err := check(offer, tsp.Request{Type: tsp.V6AnyV4}, "udp")
		if err != nil || got.Keepalive != test.want || got.KeepaliveTo != test.wantTo || len(got.Resolvers) != maxResolvers {
			t.Errorf("%s: %v to %v, %d resolvers, %v", test.name, got.Keepalive, got.KeepaliveTo, len(got.Resolvers), err)
		}
	}
}
