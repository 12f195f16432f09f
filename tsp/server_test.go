// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

func TestNewServer(t *testing.T) {
	backend := tsptest.NewBackend()
	for name, config := range map[string]tsp.ServerConfig{
		"no backend":           {UDP: sockets(t)},
		"no socket":            {Backend: backend},
		"negative":             {Backend: backend, UDP: sockets(t), Limits: tsp.Limits{Dialogues: -1}},
		"too many":             {Backend: backend, UDP: sockets(t), Limits: tsp.Limits{Queue: 1 << 30}},
		"negative time":        {Backend: backend, UDP: sockets(t), Limits: tsp.Limits{Timeout: -1}},
		"more than an hour":    {Backend: backend, UDP: sockets(t), Limits: tsp.Limits{Drain: 2 * time.Hour}},
		"negative rate":        {Backend: backend, UDP: sockets(t), Limits: tsp.Limits{Rate: -2}},
		"rate that is no rate": {Backend: backend, UDP: sockets(t), Limits: tsp.Limits{Rate: math.NaN()}},
	} {
		if _, err := tsp.NewServer(config); err == nil {
			t.Errorf("%s: no error", name)
		} else if config.UDP != nil {
			if _, err := config.UDP[0].WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
				t.Errorf("%s: the caller's socket was closed: %v", name, err)
			}
		}
	}
	if err := (tsp.Limits{Rate: tsp.Unlimited}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestRunOnce(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{})
	if server.Run(context.Background()) == nil {
		t.Error("it ran twice")
	}
	if server.String() != "tsp server" {
		t.Error(server.String())
	}
	server.Stop()
	if _, err := net.DialTimeout("tcp", server.Addr.String(), time.Second); err == nil {
		t.Error("the listener is still open")
	}
}

// TestManySockets: a server speaks at all its addresses, of both families.
func TestManySockets(t *testing.T) {
	backend := tsptest.NewBackend()
	config := tsp.ServerConfig{Backend: backend}
	for _, address := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(address)})
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		config.UDP, config.TCP = append(config.UDP, udp), append(config.TCP, tcp)
	}
	server, err := tsp.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	<-server.Ready()
	for i := range config.UDP {
		w := dial(t, "udp", config.UDP[i].LocalAddr().(*net.UDPAddr).AddrPort())
		w.expect("ECHO REQUEST", success)
		c := dial(t, "tcp", config.TCP[i].Addr().(*net.TCPAddr).AddrPort())
		c.raw("VERSION=2.0.2\r\n")
		if got := c.read(); !strings.HasPrefix(got, "CAPABILITY") {
			t.Errorf("%q", got)
		}
		c.conn.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestDrain: who is at it may finish, who is new is turned away, and what is not finished in time is given back.
func TestDrain(t *testing.T) {
	backend := tsptest.NewBackend()
	server, _ := serve(t, tsp.ServerConfig{Backend: backend, Limits: tsp.Limits{Drain: patience}})
	udp, tcp, fresh := dial(t, "udp", server.Addr), dial(t, "tcp", server.Addr), dial(t, "udp", server.Addr)
	udp.login()
	framed(t, udp.ask(create("v6udpv4", "192.0.2.2")))
	tcp.raw("AUTHENTICATE ANONYMOUS\r\n")
	tcp.read()
	tcp.raw(create("v6v4", "127.0.0.1"))
	framed(t, tcp.read())

	stopped := make(chan struct{})
	go func() { server.Stop(); close(stopped) }()
	const busy = "530 Server too busy\r\n"
	await(t, func() bool { return fresh.ask("VERSION=2.0.2\r\n") == busy })
	fresh.expect("AUTHENTICATE PLAIN\r\n", busy)
	late := dial(t, "tcp", server.Addr)
	late.raw("AUTHENTICATE PLAIN\r\n")
	if got := late.read(); got != busy {
		t.Errorf("TCP: %q", got)
	}
	udp.expect(frame(accept), frame(success))
	tcp.raw(frame(accept))
	if got := tcp.read(); got != frame(success) {
		t.Errorf("%q", got)
	}
	<-stopped // as soon as they are done
	if len(backend.Tunnels()) != 2 {
		t.Errorf("%d tunnels", len(backend.Tunnels()))
	}

	backend = tsptest.NewBackend()
	server, _ = serve(t, tsp.ServerConfig{Backend: backend})
	udp, tcp = dial(t, "udp", server.Addr), dial(t, "tcp", server.Addr)
	udp.login()
	framed(t, udp.ask(create("v6udpv4", "192.0.2.2")))
	tcp.raw("AUTHENTICATE ANONYMOUS\r\n")
	tcp.read()
	tcp.raw(create("v6v4", "127.0.0.1"))
	framed(t, tcp.read())
	server.Stop()
	if backend.Offers() != 0 {
		t.Errorf("%d offers are still open", backend.Offers())
	}
}

// TestDrainElsewhere: a server that has a place to send clients sends them there.
func TestDrainElsewhere(t *testing.T) {
	backend := &moving{Backend: tsptest.NewBackend(), to: make(chan []tsp.Broker, 1)}
	backend.to <- nil
	server := tsptest.NewServer(t, tsp.ServerConfig{Backend: backend, Limits: tsp.Limits{Drain: patience}})
	open, fresh := dial(t, "udp", server.Addr), dial(t, "udp", server.Addr)
	open.login()
	<-backend.to
	backend.to <- []tsp.Broker{{Addr: netip.MustParseAddr("192.0.2.9")}}
	stopped := make(chan struct{})
	go func() { server.Stop(); close(stopped) }()
	if got := fresh.ask("VERSION=2.0.2\r\n"); !strings.HasPrefix(got, "1200 ") {
		t.Errorf("%q", got)
	}
	if status, _ := framed(t, open.ask(create("v6udpv4", "192.0.2.2"))); status != "1200 Redirection\r\n" {
		t.Errorf("%q", status)
	}
	<-stopped
}

// moving is a backend that changes where it sends clients.
type moving struct {
	*tsptest.Backend
	to chan []tsp.Broker
}

func (m *moving) Capability(peer tsp.Peer) tsp.Capability {
	c := m.Backend.Capability(peer)
	c.Redirect = <-m.to
	m.to <- c.Redirect
	return c
}

// TestLog: who and what is told, secrets are not.
func TestLog(t *testing.T) {
	var log lockedBuffer
	server, _ := serve(t, tsp.ServerConfig{Log: zerolog.New(&log)})
	if err := login(tsp.Client{User: tsptest.User, Password: tsptest.Password}, server.Addr.String()); err != nil {
		t.Fatal(err)
	}
	w := dial(t, "udp", server.Addr)
	w.ask("AUTHENTICATE PLAIN\r\n")
	w.expect("\x00alice\x00topsecret\r\n", "300 Authentication failed\r\n")
	server.Stop()
	text := log.String()
	for _, want := range []string{`"message":"logged in"`, `"message":"tunnel accepted"`, `"message":"login refused"`, `"user":"alice"`, `"mechanism":"DIGEST-MD5"`, `"remote":"127.0.0.1:`, `"code":300`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	for _, secret := range []string{tsptest.Password, "topsecret", "response"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q in %s", secret, text)
		}
	}
	if strings.Contains(text, `"level":"error"`) {
		t.Errorf("a wrong password is called an error: %s", text)
	}
}

// TestRefusalsInLog: an operator sees at info why clients are refused; nothing a client says is an error of ours; a client that
// tries without a pause gets a few lines, and the next one tells how many were left out.
func TestRefusalsInLog(t *testing.T) {
	var log lockedBuffer
	server, _ := serve(t, tsp.ServerConfig{Log: zerolog.New(&log).Level(zerolog.InfoLevel)})
	w := dial(t, "udp", server.Addr)
	w.expect("VERSION=1.0.1\r\n", "302 Unsupported client version\r\n")
	w.expect("AUTHENTICATE PASSDSS-3DES-1\r\n", "300 Authentication failed\r\n")
	w.ask("AUTHENTICATE DIGEST-MD5\r\n")
	w.expect("?\r\n", "300 Authentication failed\r\n")
	w.login()
	framed(t, w.ask(create("v4v6", "192.0.2.2")))
	for range 20 {
		w.expect("VERSION=1.0.1\r\n", "302 Unsupported client version\r\n")
	}
	server.Stop()
	text := log.String()
	for _, want := range []string{`"code":302,"network":"udp","remote":"127.0.0.1:`, `"version":"1.0.1"`, `"request":"AUTHENTICATE PASSDSS-3DES-1"`, `"message":"login refused"`,
		`"message":"command refused"`, `303 Unsupported tunnel type`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(text, `"level":"error"`) {
		t.Errorf("what a client says is called an error: %s", text)
	}
	if n := strings.Count(text, `"code":`); n != 5 {
		t.Errorf("%d lines, want 5: %s", n, text)
	}
}

// TestTwin runs the shared suite over the backend in memory.
func TestTwin(t *testing.T) {
	tsptest.TestBackend(t, func(*testing.T) tsptest.Case {
		return tsptest.Case{Backend: tsptest.NewBackend(), User: tsptest.User, Password: tsptest.Password,
			Peer: tsp.Peer{Local: netip.MustParseAddrPort("192.0.2.1:3653"), Remote: netip.MustParseAddrPort("192.0.2.2:1024"), Network: "udp", Version: "2.0.2"}}
	})
}

// TestOffersThatLack: what a backend forgets is filled in or refused, never sent as it is.
func TestOffersThatLack(t *testing.T) {
	backend := tsptest.NewBackend()
	backend.Offer = tsp.Offer{ServerIPv6: backend.Offer.ServerIPv6}
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	conn := connect(t, server.Addr, tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}})
	offer, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.V6UDPV4, Keepalive: time.Second})
	local := server.Addr.Addr()
	if err != nil || offer.Lifetime != 1440*time.Minute || offer.ServerIPv4 != local || offer.ClientIPv4 != local || offer.KeepaliveTo != backend.Offer.ServerIPv6 {
		t.Errorf("%+v %v", offer, err)
	}
	backend = tsptest.NewBackend()
	backend.Offer.ServerIPv6 = netip.Addr{}
	server, _ = serve(t, tsp.ServerConfig{Backend: backend})
	conn = connect(t, server.Addr, tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}})
	status := new(tsp.StatusError)
	if _, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.V6UDPV4}); !errors.As(err, &status) || status.Code != tsp.StatusServerError {
		t.Errorf("%v, want 310", err)
	}
}
