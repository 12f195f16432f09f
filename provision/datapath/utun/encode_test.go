// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"ddtb/provision/datapath"
)

// octets reads hexadecimal, blanks and comments behind "#" left out. The golden octets are those of a little-endian machine.
func octets(t *testing.T, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func exampleConfig() datapath.Config {
	return datapath.Config{
		Device: "utun0", Local: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3653")},
		Server: netip.MustParseAddr("2001:db8::1"), MTU: 1400,
		Pools: []datapath.Pool{
			{Name: "homes", First: 1000, Size: 256, EndpointBase: netip.MustParseAddr("2001:db8:e::"), PrefixBase: netip.MustParseAddr("2001:db8:1000::"), PrefixLen: 48},
			{Name: "guests", First: 5, Size: 16, EndpointBase: netip.MustParseAddr("2001:db8:f::")},
		},
	}
}

func exampleTunnel() datapath.Tunnel {
	return datapath.Tunnel{
		ID: 1007, Session: 0x0102030405060708, Encap: datapath.V6UDPV4,
		Local: netip.MustParseAddrPort("192.0.2.1:3653"), Remote: netip.MustParseAddrPort("172.16.2.42:58022"),
		Endpoint: netip.MustParseAddr("2001:db8:e::7"), Prefix: netip.MustParsePrefix("2001:db8:1007::/48"), MTU: 1300,
	}
}

const goldenTunnel = `
	0800 0200 ef030000                                  # id
	0c00 0300 0807060504030201                          # session
	0500 0400 01000000                                  # encap UDP
	0800 0500 c0000201                                  # local
	0800 0700 ac10022a                                  # remote
	0600 0600 0e450000                                  # local port
	0600 0800 e2a60000                                  # remote port
	1400 0900 20010db8000e00000000000000000007          # endpoint
	1400 0a00 20010db8100700000000000000000000          # prefix
	0500 0b00 30000000                                  # its length
	0800 0c00 14050000                                  # mtu
`

func TestEncode(t *testing.T) {
	direct := exampleTunnel()
	direct.Encap, direct.Prefix, direct.MTU = datapath.V6V4, netip.Prefix{}, 0
	direct.Local, direct.Remote = netip.AddrPortFrom(direct.Local.Addr(), 0), netip.AddrPortFrom(direct.Remote.Addr(), 0)
	routed := direct
	routed.Routes = datapath.PrefixesOf(netip.MustParsePrefix("2001:db8:f01::5/128"), netip.MustParsePrefix("2001:db8:f00::/48"))
	for _, test := range []struct {
		name   string
		got    message
		golden string
	}{
		{"device", encodeDevice(7, exampleConfig(), Pipe), `
			01 01 0000                                          # DEV_SET, version 1
			0800 0200 07000000                                  # ifindex
			1400 0480                                           # local
			  0800 0100 c0000201
			  0600 0200 0e450000
			4400 0580                                           # pool homes
			  0800 0100 e8030000
			  0800 0200 00010000
			  1400 0300 20010db8000e00000000000000000000
			  1400 0400 20010db8100000000000000000000000
			  0500 0500 30000000
			2800 0580                                           # pool guests
			  0800 0100 05000000
			  0800 0200 10000000
			  1400 0300 20010db8000f00000000000000000000
			1400 0600 20010db8000000000000000000000001          # server
			0800 0700 78050000                                  # mtu
			0800 0800 ffffffff                                  # keep
			0800 0900 06000000                                  # flags PIPE, TSP`},
		{"tunnel", encodeSet(7, []placed{{Tunnel: exampleTunnel()}}), `
			05 01 0000
			0800 0200 07000000
			7800 0c80` + goldenTunnel},
		{"protocol 41 on a client device", encodeSet(7, []placed{{Tunnel: direct, link: 9}}), `
			05 01 0000
			0800 0200 07000000
			4c00 0c80
			  0800 0200 ef030000
			  0c00 0300 0807060504030201
			  0500 0400 02000000
			  0800 0500 c0000201
			  0800 0700 ac10022a
			  1400 0900 20010db8000e00000000000000000007
			  0800 0d00 09000000                                # ifindex`},
		{"routes", encodeSet(7, []placed{{Tunnel: routed}}), `
			05 01 0000
			0800 0200 07000000
			8400 0c80
			  0800 0200 ef030000
			  0c00 0300 0807060504030201
			  0500 0400 02000000
			  0800 0500 c0000201
			  0800 0700 ac10022a
			  1400 0900 20010db8000e00000000000000000007
			  2000 1880  1400 0100 20010db80f0000000000000000000000  0500 0200 30000000
			  2000 1880  1400 0100 20010db80f0100000000000000000005  0500 0200 80000000`},
		{"delete", encodeDelete(7, []uint32{1007, 5}), `06 01 0000  0800 0200 07000000  0800 0d00 ef030000  0800 0d00 05000000`},
		{"dump", encodeDump(cmdTunnelGet, 7, 1008), `07 01 0000  0800 0200 07000000  0800 0e00 f0030000`},
		{"drops", encodeAbout(cmdDropsGet, 7), `08 01 0000  0800 0200 07000000`},
		{"socket", encodeSocket(7, 11), `03 01 0000  0800 0200 07000000  0800 0300 0b000000`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if want := octets(t, test.golden); string(test.got) != string(want) {
				t.Errorf("\n% x, expected\n% x", []byte(test.got), want)
			}
		})
	}
}
