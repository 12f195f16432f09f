// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// segment makes a TCP packet with n octets of data and a right checksum; every data octet differs from its neighbours.
func segment(sequence uint32, flags byte, n int) []byte {
	p := packet("2001:db8::1", "2001:db8:ffff::2", 32+n)
	p[6] = protocolTCP
	tcp := p[ipv6HeaderLen:]
	binary.BigEndian.PutUint32(tcp[tcpSequence:], sequence)
	tcp[tcpOffset], tcp[tcpFlags] = 8<<4, flags
	for i := range tcp[20:] {
		tcp[20+i] = byte(sequence) + byte(i*7)
	}
	complete(p, ipv6HeaderLen+tcpChecksum)
	return p
}

// datagram makes a UDP packet with n octets of data and a right checksum.
func datagram(n int) []byte {
	p := packet("2001:db8::1", "2001:db8:ffff::2", udpHeader+n)
	p[6] = protocolUDP
	for i := range n {
		p[ipv6HeaderLen+udpHeader+i] = byte(i * 7)
	}
	complete(p, ipv6HeaderLen+udpChecksum)
	return p
}

// slowSum is RFC 1071 as it stands there: a receiver's check over pseudo-header and message gives ffff.
func slowSum(p []byte) uint16 {
	pseudo := append(bytes.Clone(p[8:40]), 0, 0, p[4], p[5], 0, 0, 0, p[6])
	total := uint32(0)
	for _, part := range [][]byte{pseudo, p[40:]} {
		for i := 0; i < len(part); i += 2 {
			word := uint32(part[i]) << 8
			if i+1 < len(part) {
				word |= uint32(part[i+1])
			}
			total += word
			total = total>>16 + total&0xffff
		}
	}
	return uint16(total)
}

// half makes a checksum half done.
func half(p []byte) []byte {
	checksum := map[byte]int{protocolTCP: tcpChecksum, protocolUDP: udpChecksum}[p[6]]
	p = bytes.Clone(p)
	binary.BigEndian.PutUint16(p[ipv6HeaderLen+checksum:], pseudoHeader(p))
	return p
}

// TestUnmergeUDP: there is nothing to cut, but the checksum to complete; 0 stands for none and is written ffff.
func TestUnmergeUDP(t *testing.T) {
	for _, n := range []int{0, 1, 100, 1400} {
		want := datagram(n)
		if slowSum(want) != 0xffff {
			t.Fatalf("%d octets: the checksum made for the test is wrong", n)
		}
		if run, size := unmerge(nil, half(want)); !bytes.Equal(run, want) || size != len(want) {
			t.Errorf("%d octets: % x, want % x", n, run[40:48], want[40:48])
		}
	}
	zero := datagram(2)
	binary.BigEndian.PutUint16(zero[48:], binary.BigEndian.Uint16(zero[48:])+binary.BigEndian.Uint16(zero[46:]))
	if complete(zero, ipv6HeaderLen+udpChecksum); binary.BigEndian.Uint16(zero[46:]) != 0xffff {
		t.Errorf("checksum %x, want ffff", zero[46:48])
	}
}

func TestUnmergeLeavesWholePackets(t *testing.T) {
	for _, p := range [][]byte{segment(1, 0x10, 0), segment(1, 0x18, 1208), segment(9, 0x10, 1408), datagram(9), packet("2001:db8::1", "2001:db8::2", 30), nil, {6 << 4}} {
		if slowSum := len(p) > 60 && p[6] == protocolTCP && slowSum(p) != 0xffff; slowSum {
			t.Fatalf("packet of %d octets: the checksum made for the test is wrong", len(p))
		}
		run, size := unmerge(nil, bytes.Clone(p))
		if !bytes.Equal(run, p) || size != len(p) {
			t.Errorf("packet of %d octets became %d of %d each", len(p), len(run), size)
		}
	}
}

func TestUnmerge(t *testing.T) {
	for _, n := range []int{0, 1, 1207, 1208, 1209, 2416, 6040, 6041, 65000} {
		const flags = 0x10 | flagFIN | flagPSH | flagCWR
		merged := segment(0xffffff00, flags, n)
		run, size := unmerge(make([]byte, 0, receiveSize), half(merged))
		var data []byte
		for begin := 0; begin < len(run); begin += size {
			p := run[begin:min(begin+size, len(run))]
			first, last := begin == 0, begin+size >= len(run)
			if len(p) > minMTU || !whole(p) || slowSum(p) != 0xffff {
				t.Fatalf("%d octets of data: a segment of %d octets, whole %v, sum %x", n, len(p), whole(p), slowSum(p))
			}
			tcp := p[ipv6HeaderLen:]
			if got, want := binary.BigEndian.Uint32(tcp[tcpSequence:]), uint32(0xffffff00)+uint32(len(data)); got != want {
				t.Errorf("%d octets of data: sequence %x, want %x", n, got, want)
			}
			want := byte(0x10)
			if first {
				want |= flagCWR
			}
			if last {
				want |= flagFIN | flagPSH
			}
			if tcp[tcpFlags] != want {
				t.Errorf("%d octets of data: flags %x, want %x", n, tcp[tcpFlags], want)
			}
			if !bytes.Equal(tcp[20:32], merged[ipv6HeaderLen+20:ipv6HeaderLen+32]) {
				t.Errorf("%d octets of data: options %x", n, tcp[20:32])
			}
			data = append(data, tcp[32:]...)
		}
		if !bytes.Equal(data, merged[ipv6HeaderLen+32:]) {
			t.Errorf("%d octets of data became %d others", n, len(data))
		}
	}
}

func FuzzUnmerge(f *testing.F) {
	f.Add(half(segment(1, 0x10, 3000)))
	f.Add(segment(1, 0x10, 100))
	f.Add(half(datagram(100)))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > receiveSize {
			return
		}
		run, size := unmerge(nil, p)
		if size == 0 && len(p) > 0 || size > max(minMTU, len(p)) || len(run) < len(p) {
			t.Errorf("%d octets became %d of %d each", len(p), len(run), size)
		}
	})
}
