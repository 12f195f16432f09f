// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// oobSize has room for the control messages of one datagram.
const oobSize = 64

// receiveDestination makes the kernel tell each datagram's destination address: on a socket bound to the wildcard, a reply has to be
// sent from there.
func receiveDestination(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		switch {
		case err != nil:
			failed = err
		case domain == unix.AF_INET6:
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		default:
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("destination addresses on %s: %w", conn.LocalAddr(), err)
	}
	return nil
}

// destination reads what receiveDestination asked for; false if it is not there.
func destination(oob []byte) (netip.Addr, bool) {
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return netip.Addr{}, false
		}
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[8:12])), true // in_pktinfo.ipi_addr
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data[:16])).Unmap(), true
		}
		oob = rest
	}
	return netip.Addr{}, false
}

// sendFrom makes the control message that sends a datagram from addr.
func sendFrom(addr netip.Addr) []byte {
	if addr.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: addr.As16()})
}
