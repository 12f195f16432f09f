// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

// gate holds a backend's calls until they are let go.
type gate struct {
	mu      sync.Mutex
	waiting int
	open    chan struct{}
}

func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	g.waiting++
	g.mu.Unlock()
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// TestBackendBlocks: while the backend is slow, everything that does not need it is answered, what is repeated is answered once, and what
// there is no room for hears 530 or is repeated later.
func TestBackendBlocks(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	backend := tsptest.NewBackend()
	backend.Fail = func(ctx context.Context, call, _ string) error { return g.wait(ctx) }
	metrics := newRegistry()
	server, _ := serve(t, tsp.ServerConfig{Backend: backend, Metrics: metrics, Limits: tsp.Limits{Workers: 1, Queue: 1}})
	plain := dial(t, "udp", server.Addr)
	plain.expect("AUTHENTICATE PLAIN\r\n", "")
	working, queued, late := dial(t, "udp", server.Addr), dial(t, "udp", server.Addr), dial(t, "udp", server.Addr)
	working.send(0xf1, 1, "AUTHENTICATE ANONYMOUS\r\n")
	await(t, func() bool { return g.count() == 1 })
	queued.send(0xf1, 1, "AUTHENTICATE ANONYMOUS\r\n")
	await(t, func() bool { return metrics.value(t, "ddtb_tsp_queued_requests") == 1 })
	late.expect("AUTHENTICATE ANONYMOUS\r\n", "530 Server too busy\r\n")
	plain.silence(func() { plain.send(0xf2, 1, "\x00alice\x00s3cret pw\r\n") })
	working.silence(func() { working.send(0xf1, 22, "AUTHENTICATE ANONYMOUS\r\n") })
	working.silence(func() { working.send(0xf2, 23, frame(accept)) })
	close(g.open)
	if sequence, stamp, answer := working.receive(); sequence != 0xf1 || stamp != 22 || answer != success {
		t.Errorf("%x %d %q", sequence, stamp, answer) // under the newest copy's timestamp
	}
	if _, _, answer := queued.receive(); answer != success {
		t.Errorf("%q", answer)
	}
	await(t, func() bool { return metrics.value(t, "ddtb_tsp_queued_requests") == 0 })
	if answer := plain.repeat(0xf2, 2, "\x00alice\x00s3cret pw\r\n"); answer != success {
		t.Errorf("%q", answer)
	}
	if n := backend.Logins(); n != 3 {
		t.Errorf("%d logins", n)
	}
}

// TestForgedLogins: wrong passwords from everywhere, whose answers take long, keep nobody waiting who answers a challenge, is logged in, or
// logged in from his address before.
func TestForgedLogins(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	defer close(g.open)
	backend := tsptest.NewBackend()
	backend.Fail = func(ctx context.Context, _, user string) error {
		if user == "mallory" {
			return g.wait(ctx)
		}
		return nil
	}
	metrics := newRegistry()
	server, _ := serve(t, tsp.ServerConfig{Backend: backend, Metrics: metrics, Limits: tsp.Limits{Workers: 4, Queue: 4}})
	for i := range 8 {
		forged := dial(t, "udp", server.Addr)
		forged.expect("AUTHENTICATE PLAIN\r\n", "")
		forged.send(0xf2, 1, "\x00mallory\x00guess\r\n")
		await(t, func() bool {
			return g.count()+int(metrics.value(t, "ddtb_tsp_queued_requests")+metrics.value(t, `ddtb_tsp_dropped_total{reason="queue"}`)) == i+1
		})
	}
	if n := g.count(); n != 3 {
		t.Fatalf("%d workers have a forged login, want 3 of 4", n)
	}
	if err := login(tsp.Client{User: tsptest.User, Password: tsptest.Password, Mechanisms: []sasl.Mechanism{sasl.DigestMD5}}, server.Addr.String()); err != nil {
		t.Errorf("a challenge was answered: %v", err)
	}
	if err := login(tsp.Client{User: tsptest.User, Password: tsptest.Password, Mechanisms: []sasl.Mechanism{sasl.Plain}}, server.Addr.String()); err != nil {
		t.Errorf("known from before: %v", err)
	}
}

// TestGoneMeanwhile: a client that starts over while the backend makes its offer does not leave that open.
func TestGoneMeanwhile(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	backend := tsptest.NewBackend()
	backend.Fail = func(ctx context.Context, call, _ string) error {
		if call == "create" {
			return g.wait(ctx)
		}
		return nil
	}
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	w := dial(t, "udp", server.Addr)
	w.login()
	w.send(w.sequence+1, 1, create("v6udpv4", "192.0.2.2"))
	await(t, func() bool { return g.count() == 1 })
	w.sequence, w.stamp = 0xef, 900000
	w.login()
	close(g.open)
	w.expect("", "") // the new dialogue lives
	await(t, func() bool { return backend.Created() == 1 && backend.Offers() == 0 })
}

// TestBackendErrors: each becomes its code, and nothing of its text reaches the client. A panic ends one dialogue.
func TestBackendErrors(t *testing.T) {
	for _, test := range []struct {
		call string
		err  error
		want string
	}{
		{"authenticate", errors.New("secret"), "310 Server side error\r\n"},
		{"authenticate", &tsp.StatusError{Code: tsp.StatusBusy, Text: "secret", Err: errors.New("secret")}, "530 Server too busy\r\n"},
		{"create", errors.New("secret"), frame("310 Server side error\r\n")},
		{"create", &tsp.StatusError{Code: tsp.StatusNoTunnels}, frame("301 No more tunnels available\r\n")},
		{"create", fmt.Errorf("wrapped: %w", &tsp.StatusError{Code: tsp.StatusIPv4InUse}), frame("506 IPv4 address already used for existing tunnel\r\n")},
		{"create", &tsp.StatusError{Code: tsp.StatusBusy, Brokers: []tsp.Broker{{Name: "b.example"}}},
			frame("1530 Server too busy\r\n<tunnel action=\"list\" type=\"broker\"><broker><address type=\"dn\">b.example</address></broker></tunnel>\r\n")},
		{"accept", &tsp.StatusError{Code: tsp.StatusInProgress}, frame("521 Request already in progress\r\n")},
		{"reject", errors.New("secret"), frame("310 Server side error\r\n")},
		{"delete", errors.New("secret"), frame("310 Server side error\r\n")},
		{"info", errors.New("secret"), frame("310 Server side error\r\n")},
		{"create", nil, frame("310 Server side error\r\n")}, // it panics
	} {
		backend := tsptest.NewBackend()
		backend.Fail = func(_ context.Context, call, _ string) error {
			if call == test.call && test.err == nil {
				panic("a bug")
			}
			if call == test.call {
				return test.err
			}
			return nil
		}
		server, _ := serve(t, tsp.ServerConfig{Backend: backend})
		w := dial(t, "udp", server.Addr)
		answer := w.ask("AUTHENTICATE ANONYMOUS\r\n")
		if test.call != "authenticate" {
			answer = w.ask(create("v6udpv4", "192.0.2.2"))
		}
		if test.call != "authenticate" && test.call != "create" {
			answer = w.ask(frame(`<tunnel action="` + test.call + `"></tunnel>`))
		}
		if answer != test.want {
			t.Errorf("%s fails with %v: %q", test.call, test.err, answer)
		}
		dial(t, "udp", server.Addr).expect("ECHO REQUEST", success)
	}
}

// TestAddressInUse: where somebody else has the v6v4 tunnel of an address, a client that leaves the type to the server gets v6udpv4 if
// that is offered and runs over its transport. One that wants v6v4 is told.
func TestAddressInUse(t *testing.T) {
	for _, test := range []struct {
		network, kind string
		offered       []tsp.TunnelType
		want          tsp.TunnelType // "": 506
	}{
		{"udp", "v6anyv4", []tsp.TunnelType{tsp.V6V4, tsp.V6UDPV4}, tsp.V6UDPV4},
		{"udp", "v6anyv4", []tsp.TunnelType{tsp.V6V4}, ""},
		{"udp", "v6v4", []tsp.TunnelType{tsp.V6V4, tsp.V6UDPV4}, ""},
		{"tcp", "v6anyv4", []tsp.TunnelType{tsp.V6V4, tsp.V6UDPV4}, ""},
	} {
		backend := tsptest.NewBackend()
		backend.Offered.Tunnels = test.offered
		asked := 0
		backend.Fail = func(_ context.Context, call, _ string) error {
			if call == "create" {
				if asked++; asked == 1 {
					return &tsp.StatusError{Code: tsp.StatusIPv4InUse}
				}
			}
			return nil
		}
		server, _ := serve(t, tsp.ServerConfig{Backend: backend})
		conn, err := (&tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}}).Dial(ctxOf(t), test.network, server.Addr.String())
		if err == nil {
			err = conn.Login(ctxOf(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		offer, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.TunnelType(test.kind), Stated: netip.MustParseAddr("127.0.0.1")})
		status := new(tsp.StatusError)
		refused := errors.As(err, &status) && status.Code == tsp.StatusIPv4InUse
		if offer.Type != test.want || refused != (test.want == "") {
			t.Errorf("%s over %s, offered %v: %q, %v; want %q", test.kind, test.network, test.offered, offer.Type, err, test.want)
		}
		if err := conn.Accept(ctxOf(t)); test.want != "" && err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}

// TestNoProof: a backend that verifies a DIGEST-MD5 response and has no rspauth would crash clients.
func TestNoProof(t *testing.T) {
	server := tsptest.NewServer(t, tsp.ServerConfig{Backend: proofless{tsptest.NewBackend()}})
	client := tsp.Client{User: tsptest.User, Password: tsptest.Password}
	conn, err := client.Dial(ctxOf(t), "udp4", server.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	status := new(tsp.StatusError)
	if err := conn.Login(ctxOf(t)); !errors.As(err, &status) || status.Code != tsp.StatusServerError {
		t.Errorf("%v, want 310", err)
	}
}

type proofless struct{ *tsptest.Backend }

func (p proofless) Authenticate(ctx context.Context, peer tsp.Peer, c sasl.Credential) (tsp.Session, string, error) {
	session, _, err := p.Backend.Authenticate(ctx, peer, c)
	return session, "", err
}

// TestBadRealm: a mechanism that is advertised and cannot be used is our fault, not the client's.
func TestBadRealm(t *testing.T) {
	backend := tsptest.NewBackend()
	backend.Offered.Realm = "a,b"
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	dial(t, "udp", server.Addr).expect("AUTHENTICATE DIGEST-MD5\r\n", "310 Server side error\r\n")
	c := dial(t, "tcp", server.Addr)
	c.raw("AUTHENTICATE DIGEST-MD5\r\n")
	if got := c.read(); got != "310 Server side error\r\n" {
		t.Errorf("%q", got)
	}
}
