// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"ddtb/cmd/ddtb/config"
	"ddtb/provision/datapath"
)

// receiveBuffer is what the kernel keeps of datagrams that nobody has read yet, octets: 50,000 clients that come back
// at once are not to be lost for want of it.
const receiveBuffer = 32 << 20

// sockets are what clients speak to, one of each kind an address.
type sockets struct {
	udp []*net.UDPConn
	tcp []net.Listener
}

// openSockets opens a UDP and a TCP socket on each address. Nothing stays open after an error. With an attacher others of this
// user may have UDP sockets at the same port: the kernel's own, which stand for those of a daemon that is gone. Ours are handed
// over before they are bound and again after.
func openSockets(ctx context.Context, c config.Server, to datapath.Attacher) (s sockets, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	listen := net.ListenConfig{Control: bufferSocket}
	if to != nil {
		listen.Control = func(network, address string, conn syscall.RawConn) error {
			return errors.Join(bufferSocket(network, address, conn), shareSocket(network, conn, to))
		}
	}
	for _, addr := range c.Listen {
		at := netip.AddrPortFrom(addr, c.Port)
		packets, err := listen.ListenPacket(ctx, "udp", at.String())
		if err != nil {
			return s, explainBind(err)
		}
		udp, ok := packets.(*net.UDPConn)
		if !ok {
			return s, fmt.Errorf("UDP socket of type %T", packets)
		}
		s.udp = append(s.udp, udp)
		tcp, err := listen.Listen(ctx, "tcp", at.String())
		if err != nil {
			return s, explainBind(err)
		}
		s.tcp = append(s.tcp, tcp)
	}
	if to == nil {
		return s, nil
	}
	return s, s.attach(to)
}

// close closes all; those that are closed already are no error.
func (s sockets) close() error {
	var errs []error
	for _, conn := range s.udp {
		errs = append(errs, conn.Close())
	}
	for _, listener := range s.tcp {
		errs = append(errs, listener.Close())
	}
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, net.ErrClosed) })...)
}

// bufferSocket asks for a large receive buffer for datagrams: beyond net.core.rmem_max if we may (CAP_NET_ADMIN), else
// up to it.
func bufferSocket(network, _ string, conn syscall.RawConn) error {
	if network != "udp4" && network != "udp6" {
		return nil
	}
	return conn.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			// A smaller buffer than asked for is no error: setsockopt(2) takes what net.core.rmem_max allows.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
	})
}

// shareSocket lets further UDP sockets be bound to the same port, and hands this one over before any packet comes to it.
func shareSocket(network string, conn syscall.RawConn, to datapath.Attacher) error {
	if network != "udp4" && network != "udp6" {
		return nil
	}
	var set error
	err := conn.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	return errors.Join(err, set, to.Attach(conn))
}

// attach hands the UDP sockets to a datapath that takes the packets of tunnels out of them.
func (s sockets) attach(to datapath.Attacher) error {
	for _, conn := range s.udp {
		raw, err := conn.SyscallConn()
		if err == nil {
			err = to.Attach(raw)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", conn.LocalAddr(), err)
		}
	}
	return nil
}

// explainBind adds to an error of a socket what to do about it.
func explainBind(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another ddtb, or another server on that port? See `ss -ulpn`, `ss -tlpn`", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: server.listen names an address this host does not own; see `ip address`", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: ports below 1024 need CAP_NET_BIND_SERVICE", err)
	default:
		return err
	}
}

// protocol41 reads IPv6-in-IPv4 packets that the fast path left to the stack (fragments that the kernel put together, IP
// options) and hands each to inject. One socket an address, so that it is known which one was spoken to.
func protocol41(local []netip.AddrPort, inject func(local, remote netip.AddrPort, packet []byte)) []task {
	tasks := make([]task, 0, len(local))
	for _, at := range local {
		addr := at.Addr()
		tasks = append(tasks, newRoutine("protocol 41 on "+addr.String(), func(ctx context.Context, ready func()) error {
			conn, err := new(net.ListenConfig).ListenPacket(ctx, "ip4:41", addr.String())
			if err != nil {
				return fmt.Errorf("%w: CAP_NET_RAW is needed", err)
			}
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			ready()
			return readProtocol41(ctx, conn, netip.AddrPortFrom(addr, 0), inject)
		}))
	}
	return tasks
}

// readProtocol41 reads until ctx is done. The net package takes the IPv4 header off.
func readProtocol41(ctx context.Context, conn net.PacketConn, local netip.AddrPort, inject func(local, remote netip.AddrPort, packet []byte)) error {
	buffer := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if ip, ok := from.(*net.IPAddr); ok {
			if remote, ok := netip.AddrFromSlice(ip.IP); ok {
				inject(local, netip.AddrPortFrom(remote.Unmap(), 0), buffer[:n])
			}
		}
	}
}

// injectors give what takes packets of either encapsulation from the ordinary sockets; nil if the datapath takes none.
func injectors(dp datapath.Datapath) (udp, direct func(local, remote netip.AddrPort, packet []byte)) {
	injector, ok := dp.(datapath.Injector)
	if !ok {
		return nil, nil
	}
	take := func(encap datapath.Encap) func(local, remote netip.AddrPort, packet []byte) {
		return func(local, remote netip.AddrPort, packet []byte) { injector.Inject(encap, local, remote, packet) }
	}
	return take(datapath.V6UDPV4), take(datapath.V6V4)
}
