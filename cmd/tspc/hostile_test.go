// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"ddtb/cmd/tspc/agent"
	"ddtb/tsp"
)

// echoRequest makes an ICMPv6 echo request in an IPv6 packet, told from others by id.
func echoRequest(source, destination string, id uint16) []byte {
	p := make([]byte, 48)
	p[0], p[5], p[6], p[7] = 6<<4, 8, 58, 64
	from, to := netip.MustParseAddr(source).As16(), netip.MustParseAddr(destination).As16()
	copy(p[8:24], from[:])
	copy(p[24:40], to[:])
	p[40] = 128
	binary.BigEndian.PutUint16(p[44:46], id)
	sum := uint32(8 + 58) // the pseudo-header's length and next header (RFC 8200 section 8.1)
	for i := 8; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i : i+2]))
	}
	for sum > 0xFFFF {
		sum = sum&0xFFFF + sum>>16
	}
	binary.BigEndian.PutUint16(p[42:44], ^uint16(sum))
	return p
}

// TestRootHostileTunnel: the kernel sees only what the server itself sent, and of that only what is in order. What is
// dropped is shown by the answers that do not come before the one to a last, good request.
func TestRootHostileTunnel(t *testing.T) {
	for _, kind := range []tsp.TunnelType{tsp.V6UDPV4, tsp.V6V4} {
		t.Run(string(kind), func(t *testing.T) {
			l := newLab(t)
			s := l.serve(1, nil)
			c := l.start(account, fmt.Sprintf("proto41 = \"raw\"\ntunnel = %q", kind)) // a sit device is the kernel's affair
			self := c.next(agent.Up).Address.String()
			l.ping("client", beyond)
			senders, _ := s.seen()
			client := senders[0]

			// From others: another port of the server, another address.
			var others []*net.UDPConn
			var raw *net.IPConn
			l.inside("server", func() {
				for _, from := range []string{"192.0.2.1:9", "192.0.2.2:3653"} {
					conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)))
					if err != nil {
						t.Error(err)
						return
					}
					others = append(others, conn)
				}
				var err error
				if raw, err = net.ListenIP("ip4:41", &net.IPAddr{IP: net.IPv4(192, 0, 2, 2)}); err != nil {
					t.Error(err)
				}
			})
			if t.Failed() {
				return
			}
			for _, conn := range others {
				defer conn.Close()
				if kind == tsp.V6UDPV4 {
					s.sendFrom(t, conn, nil, client, echoRequest(beyond, self, 1))
				}
			}
			defer raw.Close()
			s.sendFrom(t, nil, raw, client, echoRequest(beyond, self, 2))

			// From the server itself.
			longer, shorter, version := echoRequest(beyond, self, 3), echoRequest(beyond, self, 4), echoRequest(beyond, self, 5)
			longer[5]++
			shorter = append(shorter, 0)
			version[0] = 4 << 4
			for _, bad := range [][]byte{
				longer, shorter, version, echoRequest(self, self, 6), echoRequest("fe80::1", self, 7), echoRequest(beyond, "ff02::1", 8),
				{0x60}, {0xF0, 0, 0, 1, 0, 0, 0, 1, '2', '0', '0'},
			} {
				s.send(t, client, bad)
			}
			s.send(t, client, echoRequest(beyond, self, 100))
			l.await("an answer to the last request", func() error {
				if ids := s.answered(); !slices.Contains(ids, 100) {
					return fmt.Errorf("answers %v", ids)
				}
				return nil
			})
			if ids := s.answered(); !slices.Equal(ids, []uint16{100}) {
				t.Errorf("answers %v, want that to 100 alone", ids)
			}
			l.ping("client", beyond)
		})
	}
}

// send sends a packet into the tunnel of the client at an outer address.
func (s *server) send(t *testing.T, client netip.AddrPort, packet []byte) {
	t.Helper()
	s.sendFrom(t, s.udp, s.raw, client, packet)
}

// sendFrom is send over other sockets; protocol 41 if the client has port 0 or there is no UDP socket.
func (s *server) sendFrom(t *testing.T, udp *net.UDPConn, raw *net.IPConn, client netip.AddrPort, packet []byte) {
	t.Helper()
	var err error
	if client.Port() == 0 || udp == nil {
		_, err = raw.WriteToIP(packet, &net.IPAddr{IP: client.Addr().AsSlice()})
	} else {
		_, err = udp.WriteToUDPAddrPort(packet, client)
	}
	if err != nil {
		t.Error(err)
	}
}
