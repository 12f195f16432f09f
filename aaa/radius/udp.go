// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// udpReadBuffer asks the kernel for room for a burst of replies, octets.
const udpReadBuffer = 1 << 20

// dialTimeout bounds the opening of a link, TLS handshake included.
const dialTimeout = 5 * time.Second

// open makes a new link to the server.
func (s *server) open(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if s.TLS != nil {
		return s.openTLS(ctx)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", s.Address) // connected: the kernel drops what comes from elsewhere
	if err != nil {
		return nil, err
	}
	if udp, ok := conn.(*net.UDPConn); ok {
		_ = udp.SetReadBuffer(udpReadBuffer) // a smaller one only loses bursts
	}
	l := newLink(func(wire []byte) error {
		_, err := conn.Write(wire)
		if errors.Is(err, syscall.ECONNREFUSED) {
			_, err = conn.Write(wire) // the error was about an earlier datagram
		}
		return err
	}, conn.Close)
	go s.readDatagrams(conn, l)
	return l, nil
}

// readDatagrams delivers replies until the link is closed.
func (s *server) readDatagrams(conn net.Conn, l *link) {
	buf := make([]byte, maxLen)
	for {
		n, err := conn.Read(buf)
		switch {
		case err == nil:
			s.take(buf[:n], l)
		case errors.Is(err, syscall.ECONNREFUSED):
			l.refuse()
		default:
			l.fail(err)
			return
		}
	}
}

// take hands one message to its waiter, or counts why not.
func (s *server) take(b []byte, l *link) {
	reply, err := trim(b)
	if err == nil {
		err = l.deliver(reply, s)
	}
	if err != nil {
		s.metrics.bad(s.Name, err)
	}
}

// openTLS makes a RadSec link (RFC 6614).
func (s *server) openTLS(ctx context.Context) (*link, error) {
	config := s.TLS.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(s.Address)
	}
	dialer := tls.Dialer{Config: config, NetDialer: &net.Dialer{KeepAlive: 30 * time.Second}}
	conn, err := dialer.DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, err
	}
	l := newLink(func(wire []byte) error {
		if err := conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err != nil {
			return err
		}
		_, err := conn.Write(wire) // tls.Conn serialises writers
		return err
	}, conn.Close)
	go s.readStream(conn, l)
	return l, nil
}

// readStream delivers replies until the connection ends; what is pending then fails with errLinkDown.
func (s *server) readStream(conn net.Conn, l *link) {
	var err error
	defer func() { l.fail(err) }()
	buf := make([]byte, maxLen)
	for {
		if _, err = io.ReadFull(conn, buf[:headerLen]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buf[2:]))
		if n < headerLen || n > maxLen { // the framing is lost for good
			s.metrics.bad(s.Name, errShort)
			err = errShort
			return
		}
		if _, err = io.ReadFull(conn, buf[headerLen:n]); err != nil {
			return
		}
		s.take(buf[:n], l)
	}
}
