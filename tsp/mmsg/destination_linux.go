// SPDX-License-Identifier: GPL-2.0-or-later

package mmsg

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// controlSize has room for the one control message of a datagram, of either family.
const controlSize = 64

// receiveDestination makes the kernel tell each datagram's destination address: on a socket bound to the wildcard, a
// reply has to be sent from there.
func receiveDestination(fd int, inet6 bool) error {
	if inet6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// destination reads what receiveDestination asked for; invalid if it is not there.
func destination(control []byte) netip.Addr {
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
		control = rest
	}
	return netip.Addr{}
}

// putSource writes the control message that sends a datagram from addr, and gives its size.
func putSource(b *[controlSize]byte, addr netip.Addr) int {
	clear(b[:])
	if addr.Is4() {
		octets := addr.As4()
		copy(b[unix.CmsgLen(0)+4:], octets[:]) // ipi_spec_dst
		return putControl(b, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
	}
	octets := addr.As16()
	copy(b[unix.CmsgLen(0):], octets[:]) // ipi6_addr
	return putControl(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
}

// putControl writes a struct cmsghdr, whose length is as wide as a word.
func putControl(b *[controlSize]byte, level, kind uint32, size int) int {
	word := unix.CmsgLen(0) - 8
	if word == 8 {
		binary.NativeEndian.PutUint64(b[:], uint64(unix.CmsgLen(size)))
	} else {
		binary.NativeEndian.PutUint32(b[:], uint32(unix.CmsgLen(size)))
	}
	binary.NativeEndian.PutUint32(b[word:], level)
	binary.NativeEndian.PutUint32(b[word+4:], kind)
	return unix.CmsgSpace(size)
}
