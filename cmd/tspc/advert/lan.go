// SPDX-License-Identifier: GPL-2.0-or-later

package advert

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lan is the Link of a Linux interface: a raw ICMPv6 socket.
type lan struct {
	conn   *net.IPConn
	device *net.Interface
}

// Open opens the interface name. It needs CAP_NET_RAW.
func Open(name string) (Link, error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("router advertisements on %s: %w", name, err)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var result error
		err := raw.Control(func(fd uintptr) { result = prepare(int(fd), device) })
		return errors.Join(err, result)
	}}
	conn, err := config.ListenPacket(context.Background(), "ip6:ipv6-icmp", "::")
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("router advertisements on %s: %w (CAP_NET_RAW is needed)", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("router advertisements on %s: %w", name, err)
	}
	socket, ok := conn.(*net.IPConn)
	if !ok {
		panic("advert: an ip6 socket is not a *net.IPConn")
	}
	return &lan{conn: socket, device: device}, nil
}

// prepare sets what Neighbor Discovery needs: hop limit 255 both ways, solicitations only, one interface.
func prepare(fd int, device *net.Interface) error {
	filter := &unix.ICMPv6Filter{}
	for i := range filter.Data {
		filter.Data[i] = ^uint32(0) // a set bit blocks
	}
	filter.Data[typeSolicitation/32] &^= 1 << (typeSolicitation % 32)
	allRouters := &unix.IPv6Mreq{Multiaddr: netip.MustParseAddr("ff02::2").As16(), Interface: uint32(device.Index)}
	return errors.Join(
		unix.BindToDevice(fd, device.Name),
		unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, filter),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, neighborHopLimit),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, device.Index),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1),
		unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, allRouters),
	)
}

// Send implements Link. The kernel chooses the link-local source address and fills in the checksum.
func (l *lan) Send(content Content, last []old, final bool) error {
	message := marshal(content, last, l.device.HardwareAddr, time.Now(), final)
	_, err := l.conn.WriteToIP(message, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: l.device.Name})
	return err
}

// Receive implements Link.
func (l *lan) Receive() error {
	var buf [1500]byte
	control := make([]byte, unix.CmsgSpace(4))
	for {
		n, controlLen, _, _, err := l.conn.ReadMsgIP(buf[:], control)
		var errno syscall.Errno
		switch {
		case errors.As(err, &errno):
			continue // the interface's state of the moment
		case err != nil:
			return err
		case isSolicitation(buf[:n], hopLimit(control[:controlLen])):
			return nil
		}
	}
}

// hopLimit reads the control message IPV6_HOPLIMIT, -1 if there is none.
func hopLimit(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return -1
}

// Close implements Link.
func (l *lan) Close() error { return l.conn.Close() }
