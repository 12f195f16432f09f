// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import (
	"encoding/binary"
	"math/bits"
)

// Checksums of TCP and UDP behind an IPv6 header without extension headers (RFC 8200 section 8.1).

const (
	protocolTCP = 6
	protocolUDP = 17

	udpHeader   = 8
	udpChecksum = 6 // its offset
)

// repairZero makes the UDP checksum 0 that was computed FFFF, as RFC 768 has it: 0 means that there is none, which IPv6
// hosts refuse. The TUN library, which completes the checksums of the kernel's packets, does not; one datagram of 65,535
// would be lost. A datagram that has none on purpose (RFC 6935) stays as it is.
func repairZero(packet []byte) {
	if len(packet) < ipv6HeaderLen+udpHeader || packet[6] != protocolUDP {
		return
	}
	udp := packet[ipv6HeaderLen:]
	if udp[udpChecksum] == 0 && udp[udpChecksum+1] == 0 && fold(uint64(pseudoHeader(packet))+sum(udp)) == 0xffff {
		binary.BigEndian.PutUint16(udp[udpChecksum:], 0xffff)
	}
}

// pseudoHeader is the sum of addresses, length and protocol of a whole packet without extension headers.
func pseudoHeader(packet []byte) uint16 {
	return fold(sum(packet[8:ipv6HeaderLen]) + uint64(len(packet)-ipv6HeaderLen) + uint64(packet[6]))
}

// sum adds up 16-bit words in ones' complement (RFC 1071), unfolded.
func sum(b []byte) uint64 {
	var total, carry uint64
	for ; len(b) >= 8; b = b[8:] {
		total, carry = bits.Add64(total, binary.BigEndian.Uint64(b), carry)
	}
	var tail [8]byte
	copy(tail[:], b)
	total, carry = bits.Add64(total, binary.BigEndian.Uint64(tail[:]), carry)
	total, carry = bits.Add64(total, 0, carry)
	return total>>32 + total&0xffffffff + carry
}

// fold brings a sum down to 16 bits.
func fold(total uint64) uint16 {
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
