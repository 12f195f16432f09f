// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import "encoding/binary"

// A raw socket is given packets as they leave the kernel's receive offload, which merges TCP segments of a stream, those
// inside protocol 41 too, and leaves the checksum half done: only the sum of the pseudo-header, for a device to complete.
// (TCP and UDP of a sender on the same machine, whose device promises to compute checksums, look the same.) Nobody
// completes it on the way through a raw socket and a TUN interface, so it is done here.

const (
	minMTU    = 1280 // RFC 8200 section 5: fits every tunnel
	tcpHeader = 20   // without options

	// Offsets in a TCP header (RFC 9293 section 3.1).
	tcpSequence = 4
	tcpOffset   = 12
	tcpFlags    = 13
	tcpChecksum = 16

	flagFIN, flagPSH, flagCWR = 1 << 0, 1 << 3, 1 << 7
)

// unmerge gives a packet from a raw socket as a run of packets that are whole: if its checksum is half done, it is
// completed, and TCP is cut into segments of at most minMTU octets, made in buf.
func unmerge(buf, packet []byte) (run []byte, size int) {
	header, checksum, half := halfDone(packet)
	switch {
	case !half:
		return packet, len(packet)
	case len(packet) <= minMTU || packet[6] != protocolTCP:
		complete(packet, checksum)
		return packet, len(packet)
	}
	room, run := minMTU-header, buf[:0]
	for offset := header; offset < len(packet); offset += room {
		begin, end := len(run), min(offset+room, len(packet))
		run = append(append(run, packet[:header]...), packet[offset:end]...)
		segment := run[begin:]
		binary.BigEndian.PutUint16(segment[4:6], uint16(len(segment)-ipv6HeaderLen))
		tcp := segment[ipv6HeaderLen:]
		sequence := binary.BigEndian.Uint32(tcp[tcpSequence:]) + uint32(offset-header)
		binary.BigEndian.PutUint32(tcp[tcpSequence:], sequence)
		if end < len(packet) {
			tcp[tcpFlags] &^= flagFIN | flagPSH
		}
		if offset > header {
			tcp[tcpFlags] &^= flagCWR // RFC 3168 section 6.1.2: said once
		}
		complete(segment, checksum)
	}
	return run, minMTU
}

// halfDone says whether a packet is TCP or UDP with nothing but the pseudo-header in its checksum, how long its headers
// are, and where the checksum is.
func halfDone(packet []byte) (header, checksum int, half bool) {
	if !whole(packet) {
		return 0, 0, false
	}
	switch payload := packet[ipv6HeaderLen:]; {
	case packet[6] == protocolTCP && len(payload) >= tcpHeader:
		header, checksum = ipv6HeaderLen+int(payload[tcpOffset]>>4)*4, ipv6HeaderLen+tcpChecksum
		if header < ipv6HeaderLen+tcpHeader || header > len(packet) {
			return 0, 0, false
		}
	case packet[6] == protocolUDP && len(payload) >= udpHeader:
		header, checksum = ipv6HeaderLen+udpHeader, ipv6HeaderLen+udpChecksum
	default:
		return 0, 0, false
	}
	return header, checksum, binary.BigEndian.Uint16(packet[checksum:]) == pseudoHeader(packet)
}

// complete computes the checksum of a whole TCP or UDP packet (RFC 8200 section 8.1).
func complete(packet []byte, checksum int) {
	binary.BigEndian.PutUint16(packet[checksum:], pseudoHeader(packet))
	done := ^fold(sum(packet[ipv6HeaderLen:]))
	if done == 0 && packet[6] == protocolUDP {
		done = 0xffff // 0 would mean that there is none
	}
	binary.BigEndian.PutUint16(packet[checksum:], done)
}
