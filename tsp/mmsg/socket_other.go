// SPDX-License-Identifier: GPL-2.0-or-later

//go:build !linux

package mmsg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Reader reads datagrams of a socket, outside Linux one at a time. It is not for several goroutines at once.
type Reader struct {
	conn    *net.UDPConn
	buffer  []byte
	message [1]Message
}

// NewReader makes a Reader of datagrams of at most size octets each. A socket bound to the wildcard is refused.
func NewReader(conn *net.UDPConn, _, size int) (*Reader, error) {
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("udp socket on %v is not bound", conn.LocalAddr())
	}
	if local.AddrPort().Addr().IsUnspecified() {
		return nil, errors.New("bind one UDP socket for each address: the wildcard needs Linux")
	}
	return &Reader{conn: conn, buffer: make([]byte, size)}, nil
}

// Read waits for a datagram, which is valid until the next call. The error is net.ErrClosed once the socket is closed,
// os.ErrDeadlineExceeded at its read deadline.
func (r *Reader) Read() ([]Message, error) {
	n, remote, err := r.conn.ReadFromUDPAddrPort(r.buffer)
	if err != nil {
		return nil, err
	}
	r.message[0] = Message{Data: r.buffer[:n], Remote: remote}
	return r.message[:], nil
}

// Writer writes datagrams to a socket.
type Writer struct{ conn *net.UDPConn }

// NewWriter makes a Writer.
func NewWriter(conn *net.UDPConn, _ int) (*Writer, error) { return &Writer{conn: conn}, nil }

// Write sends datagrams in order. What cannot be sent is lost, and the rest is sent all the same; the error is that of the
// last one lost. Empty datagrams are passed over.
func (w *Writer) Write(messages []Message) (failed error) {
	for _, m := range messages {
		var err error
		switch {
		case len(m.Data) == 0:
		case m.Remote == netip.AddrPort{}:
			_, err = w.conn.Write(m.Data)
		default:
			_, err = w.conn.WriteToUDPAddrPort(m.Data, m.Remote)
		}
		if err != nil {
			failed = err
		}
	}
	return failed
}
