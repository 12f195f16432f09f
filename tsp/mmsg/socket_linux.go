// SPDX-License-Identifier: GPL-2.0-or-later

package mmsg

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxBatch is UIO_MAXIOV, the most datagrams that the kernel takes with one call.
const maxBatch = 1024

// header is struct mmsghdr.
type header struct {
	message unix.Msghdr
	octets  uint32 // received or sent
}

// slot is what one datagram of a batch needs besides its octets.
type slot struct {
	name    [unix.SizeofSockaddrInet6]byte
	control [controlSize]byte
	vector  unix.Iovec
}

// socket is the file descriptor below a Reader or a Writer, and what is known of it.
type socket struct {
	raw      syscall.RawConn
	inet6    bool // addresses are written as struct sockaddr_in6
	wildcard bool // Local counts
	headers  []header
	slots    []slot
}

// newSocket makes room for batches of n datagrams.
func newSocket(conn *net.UDPConn, n int) (s socket, err error) {
	if n < 1 || n > maxBatch {
		return s, fmt.Errorf("batches of %d datagrams: expected 1 to %d", n, maxBatch)
	}
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return s, fmt.Errorf("udp socket on %v is not bound", conn.LocalAddr())
	}
	if s.raw, err = conn.SyscallConn(); err != nil {
		return s, err
	}
	s.wildcard = local.AddrPort().Addr().IsUnspecified()
	s.headers, s.slots = make([]header, n), make([]slot, n)
	for i := range s.headers {
		s.headers[i].message.Iov = &s.slots[i].vector
		s.headers[i].message.SetIovlen(1)
	}
	var failed error
	err = s.raw.Control(func(fd uintptr) {
		var domain int
		if domain, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); failed != nil {
			return
		}
		if s.inet6 = domain == unix.AF_INET6; s.wildcard {
			failed = receiveDestination(int(fd), s.inet6)
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return s, fmt.Errorf("udp socket on %v: %w", local, err)
	}
	return s, nil
}

// call does one recvmmsg or sendmmsg of headers. n is how many of them were used. It does not wait, so the scheduler is not
// told: to hand this thread's work to another for a moment costs more than the call.
func call(number, fd uintptr, headers []header) (n int, errno syscall.Errno) {
	for {
		done, _, errno := unix.RawSyscall6(number, fd, uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), unix.MSG_DONTWAIT, 0, 0) //nolint:gosec // the kernel is handed an array
		if errno != unix.EINTR {
			return int(done), errno
		}
	}
}

// sockaddr writes an address as the kernel wants it and gives its size; 0 if there is none.
func (s *socket) sockaddr(b *[unix.SizeofSockaddrInet6]byte, a netip.AddrPort) uint32 {
	addr := a.Addr()
	switch {
	case !addr.IsValid():
		return 0
	case s.inet6:
		octets := addr.As16()
		binary.NativeEndian.PutUint16(b[:], unix.AF_INET6)
		binary.BigEndian.PutUint16(b[2:], a.Port())
		clear(b[4:8]) // flow label
		copy(b[8:], octets[:])
		scope, err := strconv.ParseUint(addr.Zone(), 10, 32)
		if err != nil { // no zone: those read here are numbers
			scope = 0
		}
		binary.NativeEndian.PutUint32(b[24:], uint32(scope))
		return unix.SizeofSockaddrInet6
	}
	octets := addr.Unmap().As4()
	binary.NativeEndian.PutUint16(b[:], unix.AF_INET)
	binary.BigEndian.PutUint16(b[2:], a.Port())
	copy(b[4:], octets[:])
	clear(b[8:unix.SizeofSockaddrInet4])
	return unix.SizeofSockaddrInet4
}

// address reads what the kernel wrote; invalid if it is of another family. IPv4 in IPv6 stays so.
func address(b []byte) netip.AddrPort {
	if len(b) < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
	case family == unix.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6:
		addr := netip.AddrFrom16([16]byte(b[8:24]))
		if scope := binary.NativeEndian.Uint32(b[24:]); scope != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(scope), 10))
		}
		return netip.AddrPortFrom(addr, port)
	}
	return netip.AddrPort{}
}
