// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxSegments is what every kernel with UDP_SEGMENT takes in one message.
	maxSegments = 64
	// maxRun is the longest message of one run in octets; the kernel's limit is 65507.
	maxRun = 65000
)

// UDP is the Outer of a v6udpv4 tunnel: bare IPv6 packets on a connected UDP socket, which the kernel keeps free of
// datagrams from anybody but the server.
type UDP struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	segment atomic.Bool // UDP_SEGMENT has not failed yet
	control []byte      // of Send
	oob     []byte      // of Receive
}

// NewUDP makes a tunnel of conn, which is connected to the server's TSP port and stays the caller's. Datagrams of TSP
// itself (first half octet 0xF: late answers to retransmissions) are dropped while the UDP is in use; after Stop and a
// new deadline conn can carry the next TSP dialogue.
func NewUDP(conn *net.UDPConn) (*UDP, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("tunnel socket: %w", err)
	}
	u := &UDP{conn: conn, raw: raw, oob: make([]byte, unix.CmsgSpace(4))}
	u.control = segmentControl()
	var result error
	err = raw.Control(func(fd uintptr) {
		result = prepare(int(fd))
		// Both are welcome, not needed: before Linux 4.18 and 5.0 packets go one by one.
		_, e := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		u.segment.Store(e == nil)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	})
	if err = errors.Join(err, result); err != nil {
		return nil, fmt.Errorf("tunnel socket: %w", err)
	}
	return u, nil
}

// segmentControl is the control message UDP_SEGMENT with room for its 16-bit size.
func segmentControl() []byte {
	b := make([]byte, unix.CmsgSpace(2))
	binary.NativeEndian.PutUint64(b[0:8], uint64(unix.CmsgLen(2)))
	binary.NativeEndian.PutUint32(b[8:12], unix.IPPROTO_UDP)
	binary.NativeEndian.PutUint32(b[12:16], unix.UDP_SEGMENT)
	return b
}

// Send implements Outer.
func (u *UDP) Send(packets [][]byte) error {
	var lost error
	for len(packets) > 0 {
		n := 1
		if u.segment.Load() {
			n = runOf(packets)
		}
		if err := u.sendRun(packets[:n]); err != nil {
			if !Passing(err) {
				return err
			}
			lost = err
		}
		packets = packets[n:]
	}
	return lost
}

// runOf counts the packets at the head of packets that can go in one message: equal in size, the last perhaps shorter.
func runOf(packets [][]byte) int {
	size, total := len(packets[0]), len(packets[0])
	for n := 1; n < len(packets) && n < maxSegments; n++ {
		total += len(packets[n])
		if len(packets[n]) > size || total > maxRun {
			return n
		}
		if len(packets[n]) < size {
			return n + 1
		}
	}
	return min(len(packets), maxSegments)
}

// sendRun sends packets in one message if there are several, and one by one if that is refused: EIO comes from an
// interface that cannot compute checksums and stays; EMSGSIZE, EINVAL from a path that is too narrow just now.
func (u *UDP) sendRun(packets [][]byte) error {
	if len(packets) == 1 {
		return send(u.raw, packets, nil)
	}
	binary.NativeEndian.PutUint16(u.control[unix.CmsgLen(0):], uint16(len(packets[0])))
	err := send(u.raw, packets, u.control)
	switch {
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EOPNOTSUPP):
		u.segment.Store(false)
	case errors.Is(err, unix.EMSGSIZE), errors.Is(err, unix.EINVAL):
	default:
		return err
	}
	for i := range packets {
		if e := send(u.raw, packets[i:i+1], nil); e != nil {
			if !Passing(e) {
				return e
			}
			err = e
		} else {
			err = nil
		}
	}
	return err
}

// Receive implements Outer. TSP datagrams are left out.
func (u *UDP) Receive(buf []byte, wait bool) (run []byte, size int, err error) {
	for {
		n, controlLen, err := receive(u.raw, buf, u.oob, wait)
		if err != nil || n == 0 && !wait {
			return nil, 0, err
		}
		if n == 0 {
			continue // an empty datagram
		}
		size := n
		if s := groSize(u.oob[:controlLen]); s > 0 && s < n {
			size = s
		}
		// The kernel coalesces by sockets and sizes, not by content: a run can begin with either kind. TSP datagrams
		// inside a run fail the check for one whole IPv6 packet like any other.
		if buf[0]>>4 != tspNibble || size < n {
			return buf[:n], size, nil
		}
	}
}

// groSize reads the segment size of a UDP_GRO control message, 0 if there is none.
func groSize(control []byte) int {
	if len(control) < unix.CmsgSpace(4) ||
		binary.NativeEndian.Uint32(control[8:12]) != unix.IPPROTO_UDP ||
		binary.NativeEndian.Uint32(control[12:16]) != unix.UDP_GRO {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(control[16:20])))
}

// Stop implements Outer.
func (u *UDP) Stop() { _ = u.conn.SetDeadline(time.Unix(1, 0)) }
