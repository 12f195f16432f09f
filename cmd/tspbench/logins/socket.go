// SPDX-License-Identifier: GPL-2.0-or-later

package logins

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/tsp/mmsg"
)

// maxDatagram is what clients in the field can receive (client fact 6), with the header.
const maxDatagram = 4096 + headerLength

// batch is how many datagrams are sent or received at once, at most.
const batch = 32

// socket is one UDP socket to the server that serves one client, or many with an address each.
type socket struct {
	conn    *net.UDPConn
	server  netip.AddrPort
	many    bool // sends from, and is reached at, any local address
	reader  *mmsg.Reader
	writer  *mmsg.Writer
	waiting []mmsg.Message // to be sent
}

// dial opens a socket for one client. The kernel chooses address and port.
func dial(server netip.AddrPort) (*socket, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, err
	}
	return newSocket(conn, server, 1)
}

// listen opens a socket that speaks from every local address, on one port.
func listen(server netip.AddrPort, port uint16) (*socket, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(port)})
	if err != nil {
		return nil, err
	}
	s, err := newSocket(conn, server, batch)
	if err != nil {
		return nil, err
	}
	s.many = true
	if err := s.enlarge(); err != nil {
		return nil, fmt.Errorf("UDP port %d: %w", port, errors.Join(err, conn.Close()))
	}
	return s, nil
}

// newSocket takes conn over, and closes it if it fails.
func newSocket(conn *net.UDPConn, server netip.AddrPort, batch int) (*socket, error) {
	reader, err := mmsg.NewReader(conn, batch, maxDatagram)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	writer, err := mmsg.NewWriter(conn, batch)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &socket{conn: conn, server: server, reader: reader, writer: writer}, nil
}

// enlarge gives the socket a receive buffer for the answers to many clients.
func (s *socket) enlarge() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	})
	return errors.Join(err, inner)
}

// local is the address a dialing socket got.
func (s *socket) local() netip.AddrPort {
	address, ok := s.conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		panic("the address of a UDP socket is none of UDP")
	}
	return address.AddrPort()
}

// send leaves a datagram to be sent by flush from an address, which counts only where there are many.
func (s *socket) send(datagram []byte, from netip.Addr) {
	message := mmsg.Message{Data: datagram}
	if s.many {
		message.Remote, message.Local = s.server, from
	}
	s.waiting = append(s.waiting, message)
}

// flush sends what waits for it. What the network refuses is lost like what it drops (ECONNREFUSED of an earlier
// datagram, mostly): retransmission deals with it.
func (s *socket) flush() {
	_ = s.writer.Write(s.waiting)
	s.waiting = s.waiting[:0]
}

// receive waits for datagrams until a deadline, at which there are none. They are valid until the next call, and tell in
// Local which address they came to.
func (s *socket) receive(deadline time.Time) ([]mmsg.Message, error) {
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	messages, err := s.reader.Read()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	if !s.many {
		for i := range messages {
			messages[i].Local = s.local().Addr()
		}
	}
	return messages, err
}
