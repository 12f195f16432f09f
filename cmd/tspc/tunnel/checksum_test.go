// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// unsummed makes a UDP packet; its checksum is 0 for just one value of the first two octets of data.
func checksummed(word uint16) []byte {
	p := packet("2001:db8::1", "2001:db8:ffff::2", udpHeader+200)
	p[6] = protocolUDP
	binary.BigEndian.PutUint16(p[ipv6HeaderLen+4:], udpHeader+200)
	binary.BigEndian.PutUint16(p[ipv6HeaderLen+udpHeader:], word)
	return p
}

func TestRepairZero(t *testing.T) {
	repaired := 0
	for word := range 1 << 16 {
		p := checksummed(uint16(word)) // as the library leaves one whose checksum comes out 0, and as one without checksum
		before := bytes.Clone(p)
		repairZero(p)
		if bytes.Equal(p, before) {
			continue
		}
		repaired++
		if slowSum(p) != 0xffff || !bytes.Equal(p[:ipv6HeaderLen+udpChecksum], before[:ipv6HeaderLen+udpChecksum]) ||
			!bytes.Equal(p[ipv6HeaderLen+udpHeader:], before[ipv6HeaderLen+udpHeader:]) {
			t.Fatalf("word %#x: repaired wrongly: %x", word, p)
		}
	}
	if repaired != 1 {
		t.Errorf("%d of 65536 datagrams repaired, want the one whose checksum is 0", repaired)
	}
	for _, p := range [][]byte{nil, packet("2001:db8::1", "2001:db8::2", 0), checksummed(1)[:ipv6HeaderLen+7], segment(1, 0x10, 10)} {
		before := bytes.Clone(p)
		if repairZero(p); !bytes.Equal(p, before) {
			t.Errorf("%x became %x", before, p)
		}
	}
}
