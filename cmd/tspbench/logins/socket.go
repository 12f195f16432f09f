// SPDX-License-Identifier: GPL-2.0-or-later

package logins

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxDatagram is what clients in the field can receive (client fact 6), with the header.
const maxDatagram = 4096 + headerLength

// socket is one UDP socket to the server that serves one client, or many with an address each.
type socket struct {
	conn    *net.UDPConn
	server  netip.AddrPort
	many    bool // sends from, and is reached at, any local address
	buffer  []byte
	control []byte
}

// dial opens a socket for one client. The kernel chooses address and port.
func dial(server netip.AddrPort) (*socket, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, err
	}
	return &socket{conn: conn, server: server, buffer: make([]byte, maxDatagram)}, nil
}

// listen opens a socket that speaks from every local address, on one port.
func listen(server netip.AddrPort, port uint16) (*socket, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(port)})
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, server: server, many: true, buffer: make([]byte, maxDatagram),
		control: make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo))}
	if err := s.options(); err != nil {
		return nil, fmt.Errorf("UDP port %d: %w", port, errors.Join(err, conn.Close()))
	}
	return s, nil
}

func (s *socket) options() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(descriptor uintptr) {
		fd := int(descriptor)
		inner = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20))
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

// send sends a datagram from an address, which counts only where there are many.
func (s *socket) send(datagram []byte, from netip.Addr) error {
	if !s.many {
		_, err := s.conn.Write(datagram)
		return err
	}
	_, _, err := s.conn.WriteMsgUDPAddrPort(datagram, packetInfo(from), s.server)
	return err
}

// receive waits for a datagram until a deadline and says to which address it came. The datagram is valid until the next
// call. At the deadline, to is not valid.
func (s *socket) receive(deadline time.Time) (datagram []byte, to netip.Addr, err error) {
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return nil, to, err
	}
	if !s.many {
		n, err := s.conn.Read(s.buffer)
		return s.received(n, s.local().Addr(), err)
	}
	n, control, _, _, err := s.conn.ReadMsgUDPAddrPort(s.buffer, s.control)
	if err == nil {
		to, err = packetAddress(s.control[:control])
	}
	return s.received(n, to, err)
}

func (s *socket) received(n int, to netip.Addr, err error) ([]byte, netip.Addr, error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, netip.Addr{}, nil
	}
	return s.buffer[:n], to, err
}

// packetInfo is a control message that sets the source address (struct in_pktinfo: interface, local address, unused).
func packetInfo(from netip.Addr) []byte {
	message := make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo))
	binary.NativeEndian.PutUint64(message, uint64(unix.CmsgLen(unix.SizeofInet4Pktinfo)))
	binary.NativeEndian.PutUint32(message[8:], unix.IPPROTO_IP)
	binary.NativeEndian.PutUint32(message[12:], unix.IP_PKTINFO)
	octets := from.As4()
	copy(message[unix.CmsgLen(0)+4:], octets[:])
	return message
}

// packetAddress is the destination address in such a message.
func packetAddress(control []byte) (netip.Addr, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, message := range messages {
		if message.Header.Level == unix.IPPROTO_IP && message.Header.Type == unix.IP_PKTINFO && len(message.Data) >= 12 {
			return netip.AddrFrom4([4]byte(message.Data[8:12])), nil
		}
	}
	return netip.Addr{}, errors.New("datagram without IP_PKTINFO")
}
