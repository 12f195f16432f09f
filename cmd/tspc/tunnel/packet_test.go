// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// packet makes an IPv6 packet with a payload of n octets.
func packet(source, destination string, n int) []byte {
	p := make([]byte, ipv6HeaderLen+n)
	p[0] = 6 << 4
	binary.BigEndian.PutUint16(p[4:6], uint16(n))
	p[6], p[7] = 59, 64
	from, to := netip.MustParseAddr(source).As16(), netip.MustParseAddr(destination).As16()
	copy(p[8:24], from[:])
	copy(p[24:40], to[:])
	return p
}

func TestAcceptableAndSendable(t *testing.T) {
	const self, far = "2001:db8::2", "2001:db8:ffff::1"
	longer, shorter, version4 := packet(far, self, 8), packet(far, self, 8), packet(far, self, 8)
	longer[5]++
	shorter[5]--
	version4[0] = 4<<4 | 5
	signalling := packet(far, self, 8)
	signalling[0] = tspNibble << 4
	for _, test := range []struct {
		name                 string
		packet               []byte
		acceptable, sendable bool
	}{
		{"ordinary", packet(far, self, 8), true, true},
		{"no payload", packet(far, self, 0), true, true},
		{"to the delegated prefix", packet(far, "2001:db8:1::5", 8), true, true},
		{"from ourselves", packet(self, far, 8), false, true},
		{"payload length beyond the end", longer, false, false},
		{"octets behind the payload", shorter, false, false},
		{"version 4", version4, false, false},
		{"TSP", signalling, false, false},
		{"shorter than a header", packet(far, self, 0)[:39], false, false},
		{"empty", nil, false, false},
		{"router solicitation", packet("fe80::1", "ff02::2", 8), false, false},
		{"multicast listener report", packet("::", "ff02::16", 8), false, false},
		{"multicast of global scope", packet(far, "ff0e::1", 8), false, false},
		{"from multicast", packet("ff02::1", self, 8), false, false},
		{"to link-local", packet(far, "fe80::1", 8), false, false},
		{"from loopback", packet("::1", self, 8), false, false},
		{"to loopback", packet(far, "::1", 8), false, false},
		{"from unspecified", packet("::", self, 8), false, false},
		{"from a mapped address", packet("::ffff:192.0.2.1", self, 8), false, false},
	} {
		if got := acceptable(test.packet, netip.MustParseAddr(self)); got != test.acceptable {
			t.Errorf("%s: acceptable %v, want %v", test.name, got, test.acceptable)
		}
		if got := sendable(test.packet); got != test.sendable {
			t.Errorf("%s: sendable %v, want %v", test.name, got, test.sendable)
		}
	}
}

// ipv4 puts an IPv4 header with options in front of inner.
func ipv4(remote string, protocol byte, options int, inner []byte) []byte {
	b := make([]byte, ipv4HeaderLen+options, ipv4HeaderLen+options+len(inner))
	b[0] = 4<<4 | byte(len(b)/4)
	binary.BigEndian.PutUint16(b[2:4], uint16(len(b)+len(inner)))
	b[9] = protocol
	from := netip.MustParseAddr(remote).As4()
	copy(b[12:16], from[:])
	return append(b, inner...)
}

func TestStripIPv4(t *testing.T) {
	inner := packet("2001:db8::1", "2001:db8::2", 8)
	server := netip.MustParseAddr("192.0.2.1")
	tooLong, badHeader := ipv4("192.0.2.1", 41, 0, inner), ipv4("192.0.2.1", 41, 0, inner)
	tooLong[3]++
	badHeader[0] = 4<<4 | 4
	short := ipv4("192.0.2.1", 41, 0, nil)
	binary.BigEndian.PutUint16(short[2:4], 12)
	for _, test := range []struct {
		name string
		in   []byte
		want []byte
	}{
		{"ordinary", ipv4("192.0.2.1", 41, 0, inner), inner},
		{"options", ipv4("192.0.2.1", 41, 12, inner), inner},
		{"octets behind the end", append(ipv4("192.0.2.1", 41, 0, inner), 0, 0), inner},
		{"another sender", ipv4("192.0.2.9", 41, 0, inner), nil},
		{"another protocol", ipv4("192.0.2.1", 17, 0, inner), nil},
		{"total length beyond the end", tooLong, nil},
		{"header shorter than 20", badHeader, nil},
		{"total length within the header", short, nil},
		{"header beyond the end", []byte{0x4F, 0, 0, 20, 0, 0, 0, 0, 64, 41, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0}, nil},
		{"empty", nil, nil},
	} {
		if got := stripIPv4(test.in, server); !bytes.Equal(got, test.want) {
			t.Errorf("%s: %x, want %x", test.name, got, test.want)
		}
	}
}

// FuzzPacket feeds both parsers with anything: what they let through must be one whole packet.
func FuzzPacket(f *testing.F) {
	f.Add(packet("2001:db8::1", "2001:db8::2", 8))
	f.Add(ipv4("192.0.2.1", 41, 4, packet("2001:db8::1", "2001:db8::2", 8)))
	self := netip.MustParseAddr("2001:db8::2")
	f.Fuzz(func(t *testing.T, b []byte) {
		inner := stripIPv4(b, netip.MustParseAddr("192.0.2.1"))
		if len(inner) > len(b)-ipv4HeaderLen && inner != nil {
			t.Fatalf("%d octets out of %d", len(inner), len(b))
		}
		for _, p := range [][]byte{b, inner} {
			if acceptable(p, self) {
				if source, destination := addresses(p); source == self || destination.IsMulticast() || !sendable(p) {
					t.Fatalf("accepted %x", p)
				}
			}
		}
	})
}
