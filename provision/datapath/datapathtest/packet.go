// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Sizes of headers, octets.
const (
	ethernetHeader = 14
	ipv4Header     = 20
	ipv6Header     = 40
	udpHeader      = 8
	icmpHeader     = 8
)

var be = binary.BigEndian

// frame is an Ethernet frame.
type frame struct {
	to, from net.HardwareAddr
	protocol uint16
	payload  []byte
}

func (f frame) bytes() []byte {
	b := append(append([]byte{}, f.to...), f.from...)
	return append(be.AppendUint16(b, f.protocol), f.payload...)
}

func parseFrame(b []byte) (frame, bool) {
	if len(b) < ethernetHeader {
		return frame{}, false
	}
	return frame{to: b[:6], from: b[6:12], protocol: be.Uint16(b[12:]), payload: b[ethernetHeader:]}, true
}

// ip4 is an IPv4 packet.
type ip4 struct {
	from, to netip.Addr
	tos, ttl byte
	protocol byte
	id       uint16
	fragment uint16 // flags and offset
	options  []byte // a multiple of 4
	payload  []byte
	excess   int // octets behind the packet, as in a frame that was padded
}

func (p ip4) bytes() []byte {
	header := ipv4Header + len(p.options)
	b := make([]byte, header, header+len(p.payload))
	b[0], b[1] = 0x40|byte(header/4), p.tos
	be.PutUint16(b[2:], uint16(header+len(p.payload)))
	be.PutUint16(b[4:], p.id)
	be.PutUint16(b[6:], p.fragment)
	b[8], b[9] = p.ttl, p.protocol
	copy(b[12:], p.from.AsSlice())
	copy(b[16:], p.to.AsSlice())
	copy(b[20:], p.options)
	be.PutUint16(b[10:], checksum(b))
	return append(b, p.payload...)
}

func parse4(b []byte) (ip4, error) {
	if len(b) < ipv4Header || b[0] != 0x45 {
		return ip4{}, fmt.Errorf("no IPv4 header: % x", b[:min(len(b), ipv4Header)])
	}
	if checksum(b[:ipv4Header]) != 0 {
		return ip4{}, fmt.Errorf("the IPv4 header's checksum is wrong: % x", b[:ipv4Header])
	}
	total := int(be.Uint16(b[2:]))
	if total < ipv4Header || total > len(b) {
		return ip4{}, fmt.Errorf("IPv4 packet of %d octets in %d", total, len(b))
	}
	return ip4{
		from: netip.AddrFrom4([4]byte(b[12:])), to: netip.AddrFrom4([4]byte(b[16:])), tos: b[1], ttl: b[8], protocol: b[9],
		id: be.Uint16(b[4:]), fragment: be.Uint16(b[6:]), payload: b[ipv4Header:total], excess: len(b) - total,
	}, nil
}

// ip6 is an IPv6 packet.
type ip6 struct {
	from, to netip.Addr
	class    byte
	hops     byte
	next     byte
	payload  []byte
	excess   int
}

func (p ip6) bytes() []byte {
	b := make([]byte, ipv6Header, ipv6Header+len(p.payload))
	be.PutUint32(b, 6<<28|uint32(p.class)<<20|0x12345)
	be.PutUint16(b[4:], uint16(len(p.payload)))
	b[6], b[7] = p.next, p.hops
	copy(b[8:], p.from.AsSlice())
	copy(b[24:], p.to.AsSlice())
	return append(b, p.payload...)
}

func parse6(b []byte) (ip6, error) {
	if len(b) < ipv6Header || b[0]>>4 != 6 {
		return ip6{}, fmt.Errorf("no IPv6 header: % x", b[:min(len(b), ipv6Header)])
	}
	length := int(be.Uint16(b[4:]))
	if length > len(b)-ipv6Header {
		return ip6{}, fmt.Errorf("IPv6 payload of %d octets in %d", length, len(b)-ipv6Header)
	}
	return ip6{
		from: netip.AddrFrom16([16]byte(b[8:])), to: netip.AddrFrom16([16]byte(b[24:])),
		class: byte(be.Uint16(b) >> 4), next: b[6], hops: b[7],
		payload: b[ipv6Header : ipv6Header+length], excess: len(b) - ipv6Header - length,
	}, nil
}

// udp is a datagram without checksum.
func udp(from, to uint16, payload []byte) []byte {
	b := be.AppendUint16(nil, from)
	b = be.AppendUint16(b, to)
	b = be.AppendUint16(b, uint16(udpHeader+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// icmp6 is an ICMPv6 message with its checksum.
func icmp6(from, to netip.Addr, kind, code byte, word uint32, body []byte) []byte {
	b := be.AppendUint32([]byte{kind, code, 0, 0}, word)
	b = append(b, body...)
	be.PutUint16(b[2:], checksum(pseudo(from, to, len(b), unix.IPPROTO_ICMPV6), b))
	return b
}

// goodICMP tells whether the checksum of an ICMPv6 packet is right.
func goodICMP(p ip6) bool {
	return checksum(pseudo(p.from, p.to, len(p.payload), unix.IPPROTO_ICMPV6), p.payload) == 0
}

func pseudo(from, to netip.Addr, length int, next byte) []byte {
	b := append(from.AsSlice(), to.AsSlice()...)
	b = be.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, next)
}

// checksum is that of RFC 1071 over parts of which all but the last have an even length.
func checksum(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, b := range parts {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(be.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// summed is a datagram with its checksum over IPv6.
func summed(from, to netip.Addr, source, destination uint16, payload []byte) []byte {
	b := udp(source, destination, payload)
	be.PutUint16(b[6:], checksum(pseudo(from, to, len(b), unix.IPPROTO_UDP), b))
	return b
}
