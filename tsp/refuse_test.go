// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"ddtb/tsp/sasl"
)

// refusing is a Backend that offers what it does not give.
type refusing struct{ capability Capability }

func (r refusing) Capability(Peer) Capability { return r.capability }

func (refusing) Authenticate(context.Context, Peer, sasl.Credential) (Session, string, error) {
	return nil, "", errors.New("nobody is known here")
}

// idle makes a Server that is not run: its datagrams are called by hand.
func idle(tb testing.TB, limits Limits) (*Server, *udpSocket) {
	tb.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { socket.Close() })
	server, err := NewServer(ServerConfig{UDP: []*net.UDPConn{socket}, Limits: limits, Backend: refusing{Capability{Realm: "r",
		Tunnels: []TunnelType{V6V4, V6UDPV4}, Mechanisms: []sasl.Mechanism{sasl.Plain, sasl.DigestMD5}}}})
	if err != nil {
		tb.Fatal(err)
	}
	return server, server.sockets[0]
}

// refused are the datagrams a forger can send without having heard anything of us.
var refused = map[string]string{
	"garbage":      "\x00\x01\x02",
	"empty":        "",
	"inner":        "`" + strings.Repeat("\x00", 47),
	"version":      "\xf0\x00\x00\xf0\x00\x00\x00\x01VERSION=2.0.2\r\n",
	"bad version":  "\xf0\x00\x00\xf0\x00\x00\x00\x01VERSION=1.0.1\r\n",
	"echo":         "\xf0\x00\x00\xf0\x00\x00\x00\x01ECHO REQUEST",
	"no mechanism": "\xf0\x00\x00\xf1\x00\x00\x00\x01AUTHENTICATE ANONYMOUS\r\n",
	"unknown":      "\xf0\x00\x00\xf2\x00\x00\x00\x01" + "Content-length: 35\r\n<tunnel action=\"accept\"></tunnel>\r\n",
	"poll":         "\xf0\x00\x00\xf2\x00\x00\x00\x01",
}

// TestRefusingAllocatesNothing: neither memory nor a place in a table is spent on a forged datagram.
func TestRefusingAllocatesNothing(t *testing.T) {
	for _, rate := range []float64{Unlimited, 0.001} {
		for name, datagram := range refused {
			server, socket := idle(t, Limits{Rate: rate, Burst: 50})
			scratch, local, b := make([]byte, 0, 2*maxDatagram), socket.local, []byte(datagram)
			remote := netip.MustParseAddrPort("192.0.2.2:1024")
			if n := testing.AllocsPerRun(100, func() { server.udp.datagram(socket, local, remote, b, scratch) }); n != 0 {
				t.Errorf("%s, rate %v: %v allocations", name, rate, n)
			}
			if n := len(server.udp.dialogues); n != 0 {
				t.Errorf("%s: %d dialogues", name, n)
			}
		}
	}
}

// BenchmarkRefuse is what a forged datagram costs, without the system calls that bring it and take the answer away.
func BenchmarkRefuse(b *testing.B) {
	for name, datagram := range refused {
		b.Run(name, func(b *testing.B) {
			server, socket := idle(b, Limits{Rate: Unlimited})
			scratch, octets := make([]byte, 0, 2*maxDatagram), []byte(datagram)
			remote := netip.MustParseAddrPort("192.0.2.2:1024")
			b.ReportAllocs()
			for b.Loop() {
				server.udp.datagram(socket, socket.local, remote, octets, scratch)
			}
		})
	}
}

// BenchmarkFlood is a flood of AUTHENTICATE from forged addresses into a full table: the dearest thing a forger can ask for.
func BenchmarkFlood(b *testing.B) {
	for _, mechanism := range []sasl.Mechanism{sasl.Plain, sasl.DigestMD5} {
		b.Run(string(mechanism), func(b *testing.B) {
			server, socket := idle(b, Limits{})
			scratch, datagram := make([]byte, 0, 2*maxDatagram), fmt.Appendf(nil, "\xf0\x00\x00\xf1\x00\x00\x00\x01AUTHENTICATE %s\r\n", mechanism)
			i := uint32(0)
			b.ReportAllocs()
			for b.Loop() {
				i++
				remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), 1024)
				server.udp.datagram(socket, socket.local, remote, datagram, scratch)
			}
		})
	}
}

func BenchmarkParseMessage(b *testing.B) {
	text := []byte(fullOfferXML)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseMessage(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendOffer(b *testing.B) {
	space := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		m := offerMessage(fullOffer)
		m.append(space)
	}
}
