// SPDX-License-Identifier: GPL-2.0-or-later

package keepalive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	typeEchoRequest = 128 // RFC 4443 section 4.1
	typeEchoReply   = 129 // RFC 4443 section 4.2
	headerLen       = 8
	// payloadLen is what the clients in the field send (client fact 24); some servers echo no more.
	payloadLen = 16
)

// ICMPv6 is the Echo of a tunnel: a raw socket bound to the tunnel's interface and address. It needs CAP_NET_RAW.
type ICMPv6 struct {
	conn       *net.IPConn
	identifier uint16
	payload    [payloadLen]byte
}

// NewICMPv6 opens the socket on interface name, from the subscriber's tunnel address to the server's keepalive address.
// random gives identifier and payload, by which answers are known.
func NewICMPv6(name string, from, to netip.Addr, random io.Reader) (*ICMPv6, error) {
	e := &ICMPv6{}
	var identifier [2]byte
	if _, err := io.ReadFull(random, identifier[:]); err != nil {
		return nil, fmt.Errorf("keepalive: random: %w", err)
	}
	if _, err := io.ReadFull(random, e.payload[:]); err != nil {
		return nil, fmt.Errorf("keepalive: random: %w", err)
	}
	e.identifier = binary.BigEndian.Uint16(identifier[:])
	dialer := net.Dialer{
		LocalAddr: &net.IPAddr{IP: from.AsSlice()},
		Control: func(_, _ string, raw syscall.RawConn) error {
			return prepare(raw, name)
		},
	}
	conn, err := dialer.DialContext(context.Background(), "ip6:ipv6-icmp", to.String())
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("keepalive: raw ICMPv6 socket: %w (CAP_NET_RAW is needed)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("keepalive: raw ICMPv6 socket: %w", err)
	}
	socket, ok := conn.(*net.IPConn)
	if !ok {
		panic("keepalive: an ip6 connection is not a *net.IPConn")
	}
	e.conn = socket
	return e, nil
}

// prepare binds a socket to an interface and lets only echo replies in.
func prepare(raw syscall.RawConn, name string) error {
	var result error
	err := raw.Control(func(fd uintptr) {
		filter := &unix.ICMPv6Filter{}
		for i := range filter.Data {
			filter.Data[i] = ^uint32(0) // a set bit blocks
		}
		filter.Data[typeEchoReply/32] &^= 1 << (typeEchoReply % 32)
		result = errors.Join(
			unix.BindToDevice(int(fd), name),
			unix.SetsockoptICMPv6Filter(int(fd), unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, filter),
		)
	})
	return errors.Join(err, result)
}

// Send implements Echo. The kernel fills in the checksum (RFC 3542 section 3.1).
func (e *ICMPv6) Send(sequence uint16) error {
	_, err := e.conn.Write(e.marshal(typeEchoRequest, sequence))
	return err
}

// Receive implements Echo. ICMPv6 errors the kernel reports on the socket are passed over: they are no answer.
func (e *ICMPv6) Receive() (uint16, error) {
	var buf [1500]byte
	for {
		n, err := e.conn.Read(buf[:])
		var errno syscall.Errno
		switch {
		case errors.As(err, &errno):
			continue
		case err != nil:
			return 0, err
		}
		if sequence, ok := e.match(buf[:n]); ok {
			return sequence, nil
		}
	}
}

// Close implements Echo.
func (e *ICMPv6) Close() error { return e.conn.Close() }

// marshal makes a message of this Echo without checksum.
func (e *ICMPv6) marshal(kind byte, sequence uint16) []byte {
	b := make([]byte, headerLen, headerLen+payloadLen)
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:6], e.identifier)
	binary.BigEndian.PutUint16(b[6:8], sequence)
	return append(b, e.payload[:]...)
}

// match says whether b answers a request of this Echo, and which.
func (e *ICMPv6) match(b []byte) (sequence uint16, ok bool) {
	if len(b) != headerLen+payloadLen || b[0] != typeEchoReply || b[1] != 0 ||
		binary.BigEndian.Uint16(b[4:6]) != e.identifier || !bytes.Equal(b[headerLen:], e.payload[:]) {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[6:8]), true
}
