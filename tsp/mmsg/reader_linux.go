// SPDX-License-Identifier: GPL-2.0-or-later

package mmsg

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Reader reads datagrams of a socket. It is not for several goroutines at once.
type Reader struct {
	socket
	messages []Message
	buffers  [][]byte
	got      int
	failed   error
	try      func(fd uintptr) bool // made once: it is called for each batch
}

// NewReader makes a Reader of at most n datagrams at a time, of at most size octets each; a longer one is cut. On a
// socket bound to the wildcard it makes the kernel tell where each came to.
func NewReader(conn *net.UDPConn, n, size int) (*Reader, error) {
	s, err := newSocket(conn, n)
	if err != nil {
		return nil, err
	}
	r := &Reader{socket: s, messages: make([]Message, n), buffers: make([][]byte, n)}
	memory := make([]byte, n*size) // of which only what is written to is ever really there
	for i := range n {
		r.buffers[i] = memory[i*size : (i+1)*size : (i+1)*size]
		r.slots[i].vector.Base = &r.buffers[i][0]
		r.slots[i].vector.SetLen(size)
		r.headers[i].message.Name = &r.slots[i].name[0]
		if s.wildcard {
			r.headers[i].message.Control = &r.slots[i].control[0]
		}
	}
	r.try = func(fd uintptr) bool {
		r.got, r.failed = 0, nil
		n, errno := call(unix.SYS_RECVMMSG, fd, r.headers)
		if errno == unix.EAGAIN {
			return false
		}
		if errno != 0 {
			r.failed = os.NewSyscallError("recvmmsg", errno)
			return true
		}
		r.got = n
		return true
	}
	return r, nil
}

// Read waits for datagrams and gives all that are there, at least one; they are valid until the next call. Local is
// invalid on a socket with an address of its own, or if the kernel did not tell. The error is net.ErrClosed once the socket
// is closed, os.ErrDeadlineExceeded at its read deadline.
func (r *Reader) Read() ([]Message, error) {
	for i := range r.headers { // what the kernel has written over
		h := &r.headers[i].message
		h.Namelen = unix.SizeofSockaddrInet6
		if r.wildcard {
			h.SetControllen(controlSize)
		}
	}
	if err := r.raw.Read(r.try); err != nil {
		return nil, fmt.Errorf("recvmmsg: %w", err)
	}
	if r.failed != nil {
		return nil, r.failed
	}
	for i := range r.got {
		h := &r.headers[i]
		m := &r.messages[i]
		m.Data = r.buffers[i][:h.octets]
		m.Remote = address(r.slots[i].name[:min(int(h.message.Namelen), unix.SizeofSockaddrInet6)])
		m.Local = netip.Addr{}
		if r.wildcard {
			m.Local = destination(r.slots[i].control[:h.message.Controllen])
		}
	}
	return r.messages[:r.got], nil
}
