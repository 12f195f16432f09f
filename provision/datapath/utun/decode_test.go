// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ddtb/provision/datapath"
)

var comparers = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b datapath.Prefixes) bool { return a == b }),
	cmp.AllowUnexported(state{}, placed{}),
}

// all are the tunnels of a message.
func all(b []byte) (tunnels []state, err error) {
	err = decodeTunnels(b, func(s state) error {
		tunnels = append(tunnels, s)
		return nil
	})
	return tunnels, err
}

func TestDecodeTunnels(t *testing.T) {
	for _, test := range []struct {
		name   string
		golden string
		want   []state
		ok     bool
	}{
		{"nothing", ``, nil, true},
		{"what was set", `7800 0c80` + goldenTunnel, []state{{placed: placed{Tunnel: exampleTunnel()}}}, true},
		{"counters", `
			5c00 0c00
			  0800 0200 05000000
			  0800 0d00 09000000                        # client device
			  0400 0100                                 # padding
			  0c00 1200 0100000000000000                # packets and octets from the client
			  0c00 1300 0200000000000000
			  0c00 1400 0300000000000000                # to the client
			  0c00 1500 0400000000000000
			  0c00 1600 d007000000000000                # idle
			  0400 1700                                 # seen
			  0400 ff00                                 # something new`, []state{{
			placed:   placed{Tunnel: datapath.Tunnel{ID: 5}, link: 9},
			Counters: datapath.Counters{RxPackets: 1, RxBytes: 2, TxPackets: 3, TxBytes: 4}, idle: 2 * time.Second,
		}}, true},
		{"two, and the device", `0800 0200 07000000  0c00 0c80 0800 0200 01000000  0c00 0c80 0800 0200 02000000`,
			[]state{{placed: placed{Tunnel: datapath.Tunnel{ID: 1}}}, {placed: placed{Tunnel: datapath.Tunnel{ID: 2}}}}, true},
		{"without an end", `0c00 0c80 0800 0200 0100`, nil, false},
		{"inside without an end", `0c00 0c80 0900 0200 01000000`, nil, false},
		{"too short for a header", `0300 0d80`, nil, false},
		{"half a header", `0c`, nil, false},
		{"id of three octets", `0c00 0c80 0700 0200 01000000`, nil, false},
		{"no such encapsulation", `0c00 0c80 0500 0400 09000000`, []state{{}}, true},
		{"route", `2400 0c80  2000 1880  1400 0100 20010db80f0000000000000000000000  0500 0200 30000000`,
			[]state{{placed: placed{Tunnel: datapath.Tunnel{Routes: datapath.PrefixesOf(netip.MustParsePrefix("2001:db8:f00::/48"))}}}}, true},
		{"route twice", `4400 0c80` + strings.Repeat(` 2000 1880  1400 0100 20010db80f0000000000000000000000  0500 0200 30000000`, 2), nil, false},
		{"route too long", `2400 0c80  2000 1880  1400 0100 20010db80f0000000000000000000000  0500 0200 81000000`, nil, false},
		{"route with host bits", `2400 0c80  2000 1880  1400 0100 20010db80f0000000000000000000001  0500 0200 30000000`, nil, false},
		{"route without address", `1000 0c80  0c00 1880  0500 0200 30000000`, nil, false},
		{"prefix too long", `2000 0c80 1400 0a00 20010db8100700000000000000000000 0500 0b00 81000000`, nil, false},
		{"prefix with host bits", `2000 0c80 1400 0a00 20010db8100700000000000000000001 0500 0b00 30000000`, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := all(octets(t, test.golden))
			if (err == nil) != test.ok {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(test.want, got, comparers); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeDrops(t *testing.T) {
	now := time.Unix(1700000000, 0)
	got, err := decodeDrops(octets(t, `
		5800 0f80
		  0500 0200 04000000                                # outer source
		  0c00 0300 0500000000000000
		  0c00 0400 b80b000000000000                        # age
		  0800 0500 ef030000
		  0500 0600 01000000
		  0800 0700 ac10022a
		  0600 0800 e2a60000
		  1400 0900 20010db8000e00000000000000000007
		1800 0f80
		  0500 0200 0e000000                                # rate
		  0c00 0300 0100000000000000
		0c00 0f80
		  0500 0200 c8000000                                # something new`), now)
	if err != nil {
		t.Fatal(err)
	}
	want := []datapath.Drop{
		{
			Reason: datapath.OuterSource, Packets: 5, Tunnel: 1007, Remote: netip.MustParseAddrPort("172.16.2.42:58022"),
			Inner: netip.MustParseAddr("2001:db8:e::7"), Last: now.Add(-3 * time.Second),
		},
		{Reason: datapath.RateExceeded, Packets: 1},
	}
	if diff := cmp.Diff(want, got, comparers); diff != "" {
		t.Error(diff)
	}
	if _, err := decodeDrops(octets(t, `0c00 0f80 0600 0200 04000000`), now); err == nil {
		t.Error("a reason of two octets is taken")
	}
}

func TestDecodeTally(t *testing.T) {
	id, got, err := decodeTally(octets(t, `
		0800 0200 07000000                                        # interface
		0800 0d00 ef030000                                        # id
		1800 0f80
		  0500 0200 04000000                                # outer source
		  0c00 0300 0500000000000000`))
	if err != nil || id != 1007 {
		t.Errorf("tunnel %d, %v", id, err)
	}
	if diff := cmp.Diff([]datapath.Drop{{Reason: datapath.OuterSource, Packets: 5}}, got, comparers); diff != "" {
		t.Error(diff)
	}
	if _, _, err := decodeTally(octets(t, `0600 0d00 ef030000`)); err == nil {
		t.Error("an id of two octets is taken")
	}
}

// FuzzDecode feeds the decoders; what they take as a tunnel comes out of the encoder as it went in.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(encodeSet(7, []placed{{Tunnel: exampleTunnel(), link: 3}})[genlHeader:]))
	routed := exampleTunnel()
	routed.Routes = datapath.PrefixesOf(netip.MustParsePrefix("2001:db8:f01::5/128"), netip.MustParsePrefix("2001:db8:f00::/48"))
	f.Add([]byte(encodeSet(7, []placed{{Tunnel: routed}})[genlHeader:]))
	f.Add([]byte{5, 0, 12, 128, 0})
	f.Add([]byte{12, 0, 15, 128, 5, 0, 2, 0, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeDrops(b, time.Unix(0, 0))
		_, _, _ = decodeTally(b)
		tunnels, err := all(b)
		if err != nil {
			return
		}
		for _, s := range tunnels {
			whole := s.Local.IsValid() && s.Remote.IsValid() && s.Endpoint.IsValid() && s.Encap != 0 && (s.Encap == datapath.V6UDPV4 || s.Local.Port() == 0 && s.Remote.Port() == 0)
			if !whole {
				continue
			}
			again, err := all(encodeSet(1, []placed{s.placed})[genlHeader:])
			if err != nil || len(again) != 1 {
				t.Fatalf("%+v: %v, %v", s, again, err)
			}
			if diff := cmp.Diff(s.placed, again[0].placed, comparers); diff != "" {
				t.Error(diff)
			}
		}
	})
}
