// SPDX-License-Identifier: GPL-2.0-or-later

package tsptest

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"ddtb/tsp"
)

// Server is a running tsp.Server.
type Server struct {
	*tsp.Server
	Addr netip.AddrPort // where it listens, UDP and TCP
	stop func()
}

// NewServer starts a server on 127.0.0.1 and stops it at the end of the test. Sockets in config are ignored; dialogues left open are
// not waited for long unless Limits.Drain says so.
func NewServer(tb testing.TB, config tsp.ServerConfig) *Server {
	tb.Helper()
	return NewServerAt(tb, "127.0.0.1", config)
}

// NewServerAt starts a server on a port of its own at an address; "" is the wildcard of both families.
func NewServerAt(tb testing.TB, address string, config tsp.ServerConfig) *Server {
	tb.Helper()
	udp, tcp := listen(tb, address)
	if config.Limits.Drain == 0 {
		config.Limits.Drain = 50 * time.Millisecond
	}
	config.UDP, config.TCP = []*net.UDPConn{udp}, []net.Listener{tcp}
	server, err := tsp.NewServer(config)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	s := &Server{Server: server, Addr: netip.MustParseAddrPort(tcp.Addr().String())}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("tsp server ended with %v", err)
		}
	})
	tb.Cleanup(s.stop)
	<-server.Ready()
	return s
}

// Stop lets dialogues in progress finish and returns when the server has ended.
func (s *Server) Stop() { s.stop() }

// listen opens a UDP socket and a TCP listener on the same free port.
func listen(tb testing.TB, address string) (*net.UDPConn, net.Listener) {
	tb.Helper()
	family := ""
	if addr, err := netip.ParseAddr(address); err == nil && addr.Is4() {
		family = "4" // else 0.0.0.0 would be both
	}
	for range 100 {
		tcp, err := net.Listen("tcp"+family, net.JoinHostPort(address, "0"))
		if err != nil {
			tb.Fatal(err)
		}
		udp, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(tcp.Addr().String())))
		if err == nil {
			return udp, tcp
		}
		if err := tcp.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}
