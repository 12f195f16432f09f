// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ddtb/aaa"
	"ddtb/aaa/radius/radiustest"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

const grantedUsers = `
pooled	Cleartext-Password := "wonderland"
	Framed-IPv6-Pool = "homes"

delegated	Cleartext-Password := "wonderland"
	Delegated-IPv6-Prefix-Pool = "homes", Framed-IPv6-Pool = "business"

address	Cleartext-Password := "wonderland"
	Framed-IPv6-Address = "2001:db8:f000:1::77"

interface	Cleartext-Password := "wonderland"
	Framed-IPv6-Prefix = "2001:db8:f000:1::/64", Framed-Interface-Id = 0:0:0:78

host	Cleartext-Password := "wonderland"
	Framed-IPv6-Prefix = "2001:db8:f000:1::79/128"

prefix	Cleartext-Password := "wonderland"
	Delegated-IPv6-Prefix = "2001:db8:7777::/48", Framed-IPv6-Route = "2001:db8:8888::/48 :: 1", Chargeable-User-Identity = "cui"

planned	Cleartext-Password := "wonderland"
	Filter-Id = "gold"

mikrotik	Cleartext-Password := "wonderland"
	Mikrotik-Rate-Limit = "2M/10M 4M/20M"

wispr	Cleartext-Password := "wonderland"
	WISPr-Bandwidth-Max-Up = 2000000, WISPr-Bandwidth-Max-Down = 10000000

cisco	Cleartext-Password := "wonderland"
	Cisco-AVPair = "lcp:interface-config#1=rate-limit input 2000000 8000 8000 conform-action transmit",
	Cisco-AVPair += "lcp:interface-config#1=rate-limit output 10000000 8000 8000 conform-action transmit"

nowhere	Cleartext-Password := "wonderland"
	Framed-IPv6-Pool = "there is none"

twice	Cleartext-Password := "wonderland"
	Port-Limit = 2
`

// TestDaemonGrants: what a real server grants is what the client is told and what is in force, attribute by attribute.
func TestDaemonGrants(t *testing.T) {
	server := radiustest.Start(t, grantedUsers)
	s := radiusSite(t, server)
	s.lines["tsp"] += "\n[[pool]]\nname = \"business\"\nendpoints = \"2001:db8:f000:3::/112\"\nprefixes = \"2001:db8:2000::/40\"\n"
	s.lines["session"] = strings.Replace(s.lines["session"], "[aaa.radius]", "[[aaa.plan]]\nname = \"gold\"\nrate = \"10M/2M\"\n[aaa.radius]", 1)
	r := s.start(t)
	client := func(user string) tsp.Client {
		return tsp.Client{User: user, Password: "wonderland", Mechanisms: []sasl.Mechanism{sasl.Plain}}
	}
	rate := aaa.Rate{Up: 2e6, Down: 10e6}
	homes, homesPrefixes := netip.MustParsePrefix("2001:db8:f000:1::/112"), netip.MustParsePrefix("2001:db8:1000::/40")
	first, firstPrefixes := netip.MustParsePrefix("2001:db8:f000:3::/112"), netip.MustParsePrefix("2001:db8:2000::/40")
	for _, tt := range []struct {
		user             string
		endpoint, prefix netip.Prefix // that contain what is given
		rate             aaa.Rate
	}{
		{"pooled", homes, homesPrefixes, aaa.Rate{}},
		{"delegated", homes, homesPrefixes, aaa.Rate{}},
		{"address", netip.MustParsePrefix("2001:db8:f000:1::77/128"), homesPrefixes, aaa.Rate{}},
		{"interface", netip.MustParsePrefix("2001:db8:f000:1::78/128"), homesPrefixes, aaa.Rate{}},
		{"host", netip.MustParsePrefix("2001:db8:f000:1::79/128"), homesPrefixes, aaa.Rate{}},
		{"prefix", first, netip.MustParsePrefix("2001:db8:7777::/48"), aaa.Rate{}},
		{"planned", first, firstPrefixes, rate},
		{"mikrotik", first, firstPrefixes, rate},
		{"wispr", first, firstPrefixes, rate},
		{"cisco", first, firstPrefixes, rate},
	} {
		offer, err := s.login(t, "udp", client(tt.user), tsp.Request{Type: tsp.V6UDPV4, Router: true})
		if err != nil {
			t.Errorf("%s: %v", tt.user, err)
			continue
		}
		if !tt.endpoint.Contains(offer.ClientIPv6) || !tt.prefix.Contains(offer.Prefix.Addr()) {
			t.Errorf("%s: endpoint %v and prefix %v, want %v and %v", tt.user, offer.ClientIPv6, offer.Prefix, tt.endpoint, tt.prefix)
		}
		if got := r.broker.Owned(tt.user)[0].Subscriber.Rate; got != tt.rate {
			t.Errorf("%s: rate %+v, want %+v", tt.user, got, tt.rate)
		}
	}
	if got := r.broker.Owned("prefix")[0].Routes.String(); got != "2001:db8:8888::/48" {
		t.Errorf("routes are %q", got)
	}
	if _, err := s.login(t, "udp", client("nowhere"), tsp.Request{Type: tsp.V6UDPV4}); err == nil {
		t.Error("a pool that there is not gave a tunnel")
	}
	for range 3 {
		if _, err := s.login(t, "udp", client("twice"), tsp.Request{Type: tsp.V6UDPV4}); err != nil {
			t.Error(err)
		}
	}
	if n := len(r.broker.Owned("twice")); n != 2 {
		t.Errorf("%d sessions with Port-Limit 2", n)
	}
	checkIdentity(t, server, s, r)
}

// checkIdentity restarts the daemon and wants the Chargeable-User-Identity in the Stop record as in the Start.
func checkIdentity(t *testing.T, server *radiustest.Server, s *site, r *running) {
	t.Helper()
	id := r.broker.Owned("prefix")[0].ID
	await(t, "Start record", func() bool { kinds, _ := billed(server, id); return len(kinds) == 1 })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = s.start(t)
	if _, err := r.ctl.KickUser(t.Context(), "prefix"); err != nil {
		t.Fatal(err)
	}
	await(t, "Stop record", func() bool { kinds, _ := billed(server, id); return slices.Equal(kinds, []string{"Start", "Stop"}) })
	if _, stop := billed(server, id); stop["Chargeable-User-Identity"] != "0x637569" {
		t.Errorf("Stop record %v", stop)
	}
}
