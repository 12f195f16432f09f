// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// Next headers of the packets made here.
const (
	protoUDP    = 17
	protoICMPv6 = 58
)

// ipv6 puts an IPv6 header (RFC 8200 section 3) before a payload.
func ipv6(source, destination netip.Addr, next byte, payload []byte) []byte {
	packet := make([]byte, 40, 40+len(payload))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], uint16(len(payload)))
	packet[6] = next
	packet[7] = 64
	copy(packet[8:], source.AsSlice())
	copy(packet[24:], destination.AsSlice())
	return append(packet, payload...)
}

// udpPacket makes an IPv6 packet with a UDP datagram in it.
func udpPacket(source, destination netip.AddrPort, data []byte) []byte {
	datagram := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(datagram[0:], source.Port())
	binary.BigEndian.PutUint16(datagram[2:], destination.Port())
	binary.BigEndian.PutUint16(datagram[4:], uint16(8+len(data)))
	datagram = append(datagram, data...)
	binary.BigEndian.PutUint16(datagram[6:], checksum(source.Addr(), destination.Addr(), protoUDP, datagram))
	return ipv6(source.Addr(), destination.Addr(), protoUDP, datagram)
}

// echoRequest makes an IPv6 packet with an ICMPv6 echo request in it (RFC 4443 section 4.1).
func echoRequest(source, destination netip.Addr, sequence uint16, data []byte) []byte {
	message := make([]byte, 8, 8+len(data))
	message[0] = 128
	binary.BigEndian.PutUint16(message[4:], 0xee) // identifier
	binary.BigEndian.PutUint16(message[6:], sequence)
	message = append(message, data...)
	binary.BigEndian.PutUint16(message[2:], checksum(source, destination, protoICMPv6, message))
	return ipv6(source, destination, protoICMPv6, message)
}

// isEchoReply says whether a packet is the answer to echoRequest with the same arguments.
func isEchoReply(packet []byte, source, destination netip.Addr, sequence uint16, data []byte) bool {
	request := echoRequest(source, destination, sequence, data)
	return len(packet) == len(request) &&
		packet[6] == protoICMPv6 && packet[40] == 129 &&
		bytes.Equal(packet[8:24], request[24:40]) && bytes.Equal(packet[24:40], request[8:24]) &&
		bytes.Equal(packet[44:], request[44:])
}

// checksum is that of RFC 8200 section 8.1: the message's own checksum field is still zero.
func checksum(source, destination netip.Addr, next byte, message []byte) uint16 {
	pseudo := append(source.AsSlice(), destination.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(message)))
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(next))
	sum := uint32(0)
	for _, part := range [][]byte{pseudo, message} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
