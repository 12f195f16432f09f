// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

// equal compares what tests look at.
var equal = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestConversations runs whole dialogues between Client and Server over loopback: every transport, family and mechanism.
func TestConversations(t *testing.T) {
	for _, network := range []string{"udp4", "tcp4", "udp6", "tcp6"} {
		for _, mechanism := range []sasl.Mechanism{sasl.Anonymous, sasl.Plain, sasl.DigestMD5, sasl.CramMD5} {
			t.Run(fmt.Sprintf("%s/%s", network, mechanism), func(t *testing.T) {
				t.Parallel()
				address := "127.0.0.1"
				if network[3] == '6' {
					address = "::1"
				}
				converse(t, network, address, mechanism)
			})
		}
	}
}

func converse(t *testing.T, network, address string, mechanism sasl.Mechanism) {
	backend := tsptest.NewBackend()
	server := tsptest.NewServerAt(t, address, tsp.ServerConfig{Backend: backend})
	client := tsp.Client{User: tsptest.User, Password: tsptest.Password, Mechanisms: []sasl.Mechanism{mechanism}}
	ctx := ctxOf(t)
	conn, err := client.Dial(ctx, network, server.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if peer := conn.Peer(); peer.Remote != server.Addr || peer.Network != network[:3] || peer.Version != "2.0.2" || !peer.Local.IsValid() {
		t.Errorf("peer %+v", peer)
	}
	if diff := cmp.Diff(tsp.Capability{Tunnels: backend.Offered.Tunnels, Mechanisms: backend.Offered.Mechanisms}, conn.Capability(), equal); diff != "" {
		t.Error(diff)
	}
	if err := conn.Login(ctx); err != nil {
		t.Fatal(err)
	}
	dns := []tsp.Broker{{Name: "ns1.example.net"}, {Addr: netip.MustParseAddr("192.0.2.53")}}
	offer, err := conn.Create(ctx, tsp.Request{Type: tsp.V6AnyV4, Keepalive: 30 * time.Second, Router: true, PrefixLen: 48, DNS: dns})
	if address == "::1" { // there is no tunnel in IPv4 with somebody who comes by IPv6
		if want := new(tsp.StatusError); !errors.As(err, &want) || want.Code != tsp.StatusBadTunnelType {
			t.Fatalf("%v, want 303", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	want := backend.Offer
	want.Type, want.ServerIPv4, want.ClientIPv4 = tsp.V6V4, server.Addr.Addr(), conn.Peer().Local.Addr() // no NAT
	want.ClientIPv6, want.Prefix, want.DNS, want.Keepalive = backend.Endpoint, backend.Prefix, dns, 30*time.Second
	if diff := cmp.Diff(want, offer, equal); diff != "" {
		t.Error(diff)
	}
	if err := conn.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	user := tsptest.User
	if mechanism == sasl.Anonymous {
		user = "anonymous-1"
	}
	if tunnel := backend.Tunnels()[user]; tunnel.Peer.Remote != conn.Peer().Local || tunnel.Peer.Local != server.Addr {
		t.Errorf("tunnel %+v", tunnel)
	}
	if backend.Offers() != 0 {
		t.Errorf("%d offers are open", backend.Offers())
	}
}

// TestWrongPassword: every mechanism ends in 300, and no weaker one is tried.
func TestWrongPassword(t *testing.T) {
	for _, mechanisms := range [][]sasl.Mechanism{nil, {sasl.Plain}, {sasl.DigestMD5}, {sasl.CramMD5}} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(fmt.Sprint(network, mechanisms), func(t *testing.T) {
				t.Parallel()
				backend := tsptest.NewBackend()
				server := tsptest.NewServer(t, tsp.ServerConfig{Backend: backend})
				client := tsp.Client{User: tsptest.User, Password: "wrong", Mechanisms: mechanisms}
				conn, err := client.Dial(ctxOf(t), network, server.Addr.String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				status := new(tsp.StatusError)
				if err := conn.Login(ctxOf(t)); !errors.As(err, &status) || status.Code != tsp.StatusAuthFailed {
					t.Errorf("%v, want 300", err)
				}
				if backend.Logins() != 0 {
					t.Error("logged in")
				}
			})
		}
	}
}

// TestDetach: after a v6udpv4 tunnel is accepted, its packets share the socket of the dialogue.
func TestDetach(t *testing.T) {
	backend := tsptest.NewBackend()
	inner := make(chan string, 1)
	server := tsptest.NewServer(t, tsp.ServerConfig{Backend: backend, Inner: func(local, remote netip.AddrPort, packet []byte) {
		inner <- fmt.Sprint(local, remote, string(packet))
	}})
	client := tsp.Client{User: tsptest.User, Password: tsptest.Password}
	ctx := ctxOf(t)
	conn, err := client.Dial(ctx, "udp4", server.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Login(ctx); err != nil {
		t.Fatal(err)
	}
	offer, err := conn.Create(ctx, tsp.Request{Type: tsp.V6UDPV4})
	if err != nil || offer.Type != tsp.V6UDPV4 || offer.Keepalive != 0 || offer.Prefix.IsValid() {
		t.Fatalf("%+v %v", offer, err)
	}
	if err := conn.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	socket, ok := conn.Detach().(*net.UDPConn)
	if !ok || conn.Close() != nil {
		t.Fatal("no UDP socket, or closed")
	}
	defer socket.Close()
	if _, err := socket.Write([]byte("`packet")); err != nil {
		t.Fatal(err)
	}
	if got, want := <-inner, fmt.Sprint(server.Addr, conn.Peer().Local, "`packet"); got != want {
		t.Errorf("%s, want %s", got, want)
	}

	// The same socket serves another dialogue, in which the tunnel ends.
	again, err := client.Start(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Login(ctx); err != nil {
		t.Fatal(err)
	}
	if info, err := again.Info(ctx); err != nil || info.ClientIPv6 != offer.ClientIPv6 {
		t.Errorf("%+v %v", info, err)
	}
	if err := again.Delete(ctx); err != nil {
		t.Error(err)
	}
	if n := len(backend.Tunnels()); n != 0 {
		t.Errorf("%d tunnels", n)
	}
	status := new(tsp.StatusError)
	if _, err := again.Info(ctx); !errors.As(err, &status) || status.Code != tsp.StatusBadRequest {
		t.Errorf("info without a tunnel: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
