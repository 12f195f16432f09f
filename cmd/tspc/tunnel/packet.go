// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import (
	"encoding/binary"
	"net/netip"
)

const (
	ipv6HeaderLen = 40
	ipv4HeaderLen = 20
	protocolIPv6  = 41 // RFC 4213
	// tspNibble is the first half octet of a TSP datagram, where a tunnelled packet has its IP version (RFC 5572
	// section 4.4.1.2).
	tspNibble = 0xF
)

// whole says whether p is exactly one IPv6 packet: version 6 and a payload length that fills p. Jumbograms (RFC 2675)
// do not fit a tunnel.
func whole(p []byte) bool {
	return len(p) >= ipv6HeaderLen && p[0]>>4 == 6 &&
		int(binary.BigEndian.Uint16(p[4:6])) == len(p)-ipv6HeaderLen
}

// acceptable says whether a packet that came out of the tunnel may go to the kernel: one whole IPv6 packet between two
// addresses that make sense beyond a link, and not from the subscriber himself (RFC 4213 section 4.1).
func acceptable(p []byte, self netip.Addr) bool {
	if !whole(p) {
		return false
	}
	source, destination := addresses(p)
	return source != self && beyondLink(source) && beyondLink(destination)
}

// sendable says whether a packet of the kernel belongs into the tunnel. The router solicitations and multicast listener
// reports every kernel sends on a new interface do not.
func sendable(p []byte) bool {
	if !whole(p) {
		return false
	}
	source, destination := addresses(p)
	return beyondLink(source) && beyondLink(destination)
}

// addresses gives source and destination of a whole packet.
func addresses(p []byte) (source, destination netip.Addr) {
	return netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
}

// beyondLink says whether a unicast packet with this address can leave a link. Multicast of wider scope is refused too:
// no tunnel server takes part in multicast routing.
func beyondLink(a netip.Addr) bool {
	return !a.IsMulticast() && !a.IsLinkLocalUnicast() && !a.IsLoopback() && !a.IsUnspecified() && !a.Is4In6()
}

// stripIPv4 gives the payload of a protocol 41 packet from remote as a raw socket delivers it, IPv4 header in front, or
// nil if it is not one.
func stripIPv4(p []byte, remote netip.Addr) []byte {
	if len(p) < ipv4HeaderLen || p[0]>>4 != 4 || p[9] != protocolIPv6 {
		return nil
	}
	header, total := int(p[0]&0xF)*4, int(binary.BigEndian.Uint16(p[2:4]))
	if header < ipv4HeaderLen || total > len(p) || header > total {
		return nil
	}
	if netip.AddrFrom4([4]byte(p[12:16])) != remote {
		return nil
	}
	return p[header:total]
}
