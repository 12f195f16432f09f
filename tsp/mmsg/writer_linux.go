// SPDX-License-Identifier: GPL-2.0-or-later

package mmsg

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Writer writes datagrams to a socket. It is not for several goroutines at once; several Writers may have one socket.
type Writer struct {
	socket
	from, to int // of headers, what is not yet sent
	failed   error
	try      func(fd uintptr) bool // made once: it is called for each batch
}

// NewWriter makes a Writer of at most n datagrams with one system call.
func NewWriter(conn *net.UDPConn, n int) (*Writer, error) {
	s, err := newSocket(conn, n)
	if err != nil {
		return nil, err
	}
	w := &Writer{socket: s}
	w.try = func(fd uintptr) bool {
		for w.from < w.to {
			n, errno := call(unix.SYS_SENDMMSG, fd, w.headers[w.from:w.to])
			switch errno {
			case 0:
				w.from += n
			case unix.EAGAIN:
				return false
			default: // of the first of them; the others may fare better
				w.failed = os.NewSyscallError("sendmmsg", errno)
				w.from++
			}
		}
		return true
	}
	return w, nil
}

// Write sends datagrams in order, waiting where the socket has no room. What cannot be sent is lost, as datagrams may be,
// and the rest is sent all the same; the error is that of the last one lost, or net.ErrClosed. Empty datagrams are passed
// over.
func (w *Writer) Write(messages []Message) error {
	w.failed = nil
	for len(messages) > 0 {
		w.from, w.to = 0, 0
		for len(messages) > 0 && w.to < len(w.headers) {
			if len(messages[0].Data) > 0 {
				w.put(w.to, &messages[0])
				w.to++
			}
			messages = messages[1:]
		}
		err := w.raw.Write(w.try)
		for i := range w.to {
			w.slots[i].vector.Base = nil // it is the caller's
		}
		if err != nil {
			return fmt.Errorf("sendmmsg: %w", err)
		}
	}
	return w.failed
}

// put fills in one header.
func (w *Writer) put(i int, m *Message) {
	h, s := &w.headers[i].message, &w.slots[i]
	s.vector.Base = &m.Data[0]
	s.vector.SetLen(len(m.Data))
	h.Name, h.Control = nil, nil
	if h.Namelen = w.sockaddr(&s.name, m.Remote); h.Namelen > 0 {
		h.Name = &s.name[0]
	}
	h.SetControllen(0)
	if w.wildcard && m.Local.IsValid() {
		h.Control = &s.control[0]
		h.SetControllen(putSource(&s.control, m.Local))
	}
}
