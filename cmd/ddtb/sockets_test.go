// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ddtb/cmd/ddtb/config"
)

func TestSockets(t *testing.T) {
	c := config.Server{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: freePort(t)}
	s, err := openSockets(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := netip.AddrPortFrom(c.Listen[0], c.Port).String()
	if len(s.udp) != 1 || len(s.tcp) != 1 || s.udp[0].LocalAddr().String() != want || s.tcp[0].Addr().String() != want {
		t.Errorf("opened %v, %v; want one of each at %s", s.udp, s.tcp, want)
	}
	if got, least := receiveBufferOf(t, s.udp[0]), plainBuffer(t); got <= least {
		t.Errorf("receive buffer of %d octets, no more than the %d of any socket", got, least)
	}
	if _, err := openSockets(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "another ddtb, or another server on that port?") {
		t.Errorf("the same again: %v", err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	again, err := openSockets(t.Context(), c, nil)
	if err != nil {
		t.Fatalf("after close: %v", err)
	}
	if err := again.close(); err != nil {
		t.Error(err)
	}
	c.Listen[0] = netip.MustParseAddr("192.0.2.77")
	if _, err := openSockets(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "server.listen names an address this host does not own") {
		t.Errorf("a strange address: %v", err)
	}
}

// TestSocketsShared: with a datapath that takes over sockets the next daemon's are opened beside those that are there.
func TestSocketsShared(t *testing.T) {
	c := config.Server{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: freePort(t)}
	taken := &takenSockets{}
	kernels := net.ListenConfig{Control: func(network, _ string, conn syscall.RawConn) error { return shareSocket(network, conn, taken) }}
	stands, err := kernels.ListenPacket(t.Context(), "udp4", netip.AddrPortFrom(c.Listen[0], c.Port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer stands.Close()
	if _, err := openSockets(t.Context(), c, nil); err == nil {
		t.Error("not shared, and opened beside another")
	}
	s, err := openSockets(t.Context(), c, taken)
	if err != nil {
		t.Fatal(err)
	}
	if taken.n != 3 {
		t.Errorf("handed over %d times; each of two before it is bound, and ours again is expected", taken.n)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if err := s.attach(taken); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("closed ones: %v", err)
	}
}

// takenSockets counts what is handed to it.
type takenSockets struct{ n int }

func (s *takenSockets) Attach(socket syscall.RawConn) error {
	return socket.Control(func(uintptr) { s.n++ })
}

// receiveBufferOf is the size of a socket's receive buffer, octets.
func receiveBufferOf(t *testing.T, conn *net.UDPConn) (size int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		var inner error
		err = raw.Control(func(fd uintptr) { size, inner = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
		if err == nil {
			err = inner
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// plainBuffer is the size of the receive buffer of a socket nobody asked more for.
func plainBuffer(t *testing.T) int {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return receiveBufferOf(t, conn)
}

// TestRootProtocol41: what comes to the stack as protocol 41 is handed on with both addresses, without the IPv4 header.
func TestRootProtocol41(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("raw sockets take root")
	}
	type packet struct {
		local, remote netip.AddrPort
		text          string
	}
	got := make(chan packet, 16)
	here := netip.MustParseAddrPort("127.0.0.41:3653")
	tasks := protocol41([]netip.AddrPort{here}, func(local, remote netip.AddrPort, p []byte) { got <- packet{local, remote, string(p)} })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runTasks(ctx, tasks...) }()
	if name, ok := awaitReady(t.Context(), tasks...); !ok {
		t.Fatalf("%s is not ready", name)
	}
	conn, err := net.DialIP("ip4:41", &net.IPAddr{IP: net.IPv4(127, 0, 0, 42)}, &net.IPAddr{IP: net.IPv4(127, 0, 0, 41)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("an inner packet")); err != nil {
		t.Fatal(err)
	}
	want := packet{netip.MustParseAddrPort("127.0.0.41:0"), netip.MustParseAddrPort("127.0.0.42:0"), "an inner packet"}
	if p := <-got; p != want {
		t.Errorf("handed on %+v, want %+v", p, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestListenControl: the socket is its group's, and nothing is left where the group is not known.
func TestListenControl(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "new", "c.sock")
	listener, err := listenControl(config.Control{Socket: socket, Group: "0"})
	if os.Geteuid() != 0 {
		if err == nil {
			t.Error("gave the socket to a group of others")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var stat unix.Stat_t
	if err := unix.Stat(socket, &stat); err != nil || stat.Gid != 0 || stat.Mode&0o777 != 0o660 {
		t.Errorf("socket of group %d, mode %o, %v", stat.Gid, stat.Mode&0o777, err)
	}
	other := filepath.Join(t.TempDir(), "c.sock")
	if _, err := listenControl(config.Control{Socket: other, Group: "no such group"}); err == nil || !strings.Contains(err.Error(), "control.group") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("a socket was left behind")
	}
}
