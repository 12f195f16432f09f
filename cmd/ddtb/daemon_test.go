// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

func TestDaemonLogin(t *testing.T) {
	s := newSite(t)
	r := s.start(t)
	r.addUser(t, "alice", "secret of alice")
	alice := tsp.Client{User: "alice", Password: "secret of alice"}

	offer, err := s.login(t, "udp", alice, tsp.Request{Type: tsp.V6UDPV4, Router: true, Keepalive: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	endpoints, prefixes := netip.MustParsePrefix("2001:db8:f000:1::/112"), netip.MustParsePrefix("2001:db8:1000::/40")
	if !endpoints.Contains(offer.ClientIPv6) || !prefixes.Overlaps(offer.Prefix) || offer.Prefix.Bits() != 56 {
		t.Errorf("offer %+v: not out of the pool", offer)
	}
	if offer.Keepalive != 10*time.Second || offer.KeepaliveTo != netip.MustParseAddr("2001:db8:f000::1") || offer.Type != tsp.V6UDPV4 {
		t.Errorf("offer %+v: not as configured", offer)
	}
	sessions := r.sessions(t)
	if len(sessions) != 1 || sessions[0].User != "alice" || sessions[0].Endpoint != offer.ClientIPv6 || *sessions[0].Prefix != offer.Prefix {
		t.Fatalf("sessions %+v, want one of alice with %v", sessions, offer.ClientIPv6)
	}

	again, err := s.login(t, "tcp", alice, tsp.Request{Type: tsp.V6AnyV4, Stated: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	if again.Type != tsp.V6V4 || again.ClientIPv6 != offer.ClientIPv6 {
		t.Errorf("offer %+v after a new login: want v6v4 without a NAT, and the address of before", again)
	}
	if sessions := r.sessions(t); len(sessions) != 1 || sessions[0].Encap != "v6v4" {
		t.Errorf("sessions %+v: the new one did not take over", sessions)
	}

	if _, err := r.ctl.Kick(t.Context(), r.sessions(t)[0].ID); err != nil {
		t.Fatal(err)
	}
	if sessions := r.sessions(t); len(sessions) != 0 {
		t.Errorf("sessions %+v after a kick", sessions)
	}
}

// TestDaemonAddressInUse: two subscribers without a NAT at one address, where one has the protocol 41 between it and the server.
func TestDaemonAddressInUse(t *testing.T) {
	s := newSite(t)
	r := s.start(t)
	r.addUser(t, "alice", "secret of alice")
	r.addUser(t, "bob", "secret of bob")
	alice, bob := tsp.Client{User: "alice", Password: "secret of alice"}, tsp.Client{User: "bob", Password: "secret of bob"}
	here := netip.MustParseAddr("127.0.0.1")
	if offer, err := s.login(t, "udp", alice, tsp.Request{Type: tsp.V6AnyV4, Stated: here}); err != nil || offer.Type != tsp.V6V4 {
		t.Fatalf("alice: %q, %v", offer.Type, err)
	}
	_, err := s.login(t, "udp", bob, tsp.Request{Type: tsp.V6V4, Stated: here})
	wantCode(t, err, 506)
	_, err = s.login(t, "tcp", bob, tsp.Request{Type: tsp.V6AnyV4, Stated: here})
	wantCode(t, err, 506)
	if offer, err := s.login(t, "udp", bob, tsp.Request{Type: tsp.V6AnyV4, Stated: here}); err != nil || offer.Type != tsp.V6UDPV4 {
		t.Errorf("bob: %q, %v", offer.Type, err)
	}
	if sessions := r.sessions(t); len(sessions) != 2 {
		t.Errorf("sessions %+v, want one of each", sessions)
	}
}

func TestDaemonRefuses(t *testing.T) {
	s := newSite(t)
	r := s.start(t)
	r.addUser(t, "alice", "secret of alice")
	for _, test := range []struct {
		name    string
		client  tsp.Client
		request tsp.Request
		code    tsp.Code
	}{
		{"wrong password", tsp.Client{User: "alice", Password: "guess"}, tsp.Request{}, 300},
		{"unknown user", tsp.Client{User: "bob", Password: "guess"}, tsp.Request{}, 300},
		{"prefix too large", tsp.Client{User: "alice", Password: "secret of alice"}, tsp.Request{Type: tsp.V6UDPV4, Router: true, PrefixLen: 48}, 507},
		{"type that is not given", tsp.Client{User: "alice", Password: "secret of alice"}, tsp.Request{Type: tsp.V4V6}, 303},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.login(t, "udp", test.client, test.request)
			wantCode(t, err, test.code)
		})
	}
	if logs := r.logs.String(); strings.Contains(logs, "secret") || strings.Contains(logs, "guess") {
		t.Errorf("a password stands in the log:\n%s", logs)
	}
}

// TestDaemonDelete: a guest's tunnel is found again by the socket it was set up from, and by nothing else.
func TestDaemonDelete(t *testing.T) {
	s := newSite(t)
	s.guests = true
	r := s.start(t)
	guest := tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}}
	socket, err := net.Dial("udp", s.server())
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	begin := func() *tsp.Conn {
		conn, err := guest.Start(t.Context(), socket)
		if err == nil {
			err = conn.Login(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	conn := begin()
	offer, err := conn.Create(t.Context(), tsp.Request{Type: tsp.V6UDPV4})
	if err == nil {
		err = conn.Accept(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := guest.Dial(t.Context(), "udp", s.server())
	if err == nil {
		err = stranger.Login(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	wantCode(t, stranger.Delete(t.Context()), 500)
	conn = begin()
	if info, err := conn.Info(t.Context()); err != nil || info.ClientIPv6 != offer.ClientIPv6 {
		t.Errorf("info: %v, %v; want %v", info.ClientIPv6, err, offer.ClientIPv6)
	}
	if err := conn.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sessions := r.sessions(t); len(sessions) != 0 {
		t.Errorf("sessions %+v after delete", sessions)
	}
}

// TestDaemonRestart: sessions outlive the daemon, or end with it where that is configured.
func TestDaemonRestart(t *testing.T) {
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprintf("keep %v", keep), func(t *testing.T) {
			s := newSite(t)
			s.lines["server"] = fmt.Sprintf("keep_tunnels = %v", keep)
			r := s.start(t)
			r.addUser(t, "alice", "secret of alice")
			offer, err := s.login(t, "udp", tsp.Client{User: "alice", Password: "secret of alice"}, tsp.Request{Type: tsp.V6UDPV4})
			if err != nil {
				t.Fatal(err)
			}
			before := r.sessions(t)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			after := s.start(t).sessions(t)
			if !keep {
				if len(after) != 0 {
					t.Errorf("sessions %+v: want none", after)
				}
				return
			}
			if len(after) != 1 || after[0].ID != before[0].ID || after[0].Endpoint != offer.ClientIPv6 || after[0].User != "alice" {
				t.Errorf("sessions %+v, want %+v", after, before)
			}
		})
	}
}

// TestDaemonFails: when a part fails the daemon ends, says which, and leaves the sessions to the next one even if it is
// configured to end them.
func TestDaemonFails(t *testing.T) {
	s := newSite(t)
	s.lines["server"] = "keep_tunnels = false"
	broken := make(chan struct{})
	s.extra = []task{newRoutine("fragile", func(ctx context.Context, ready func()) error {
		ready()
		select {
		case <-broken:
			return errors.New("broken")
		case <-ctx.Done():
			return nil
		}
	})}
	r := s.start(t)
	r.addUser(t, "alice", "secret of alice")
	if _, err := s.login(t, "udp", tsp.Client{User: "alice", Password: "secret of alice"}, tsp.Request{Type: tsp.V6UDPV4}); err != nil {
		t.Fatal(err)
	}
	close(broken)
	if err := <-r.done; err == nil || err.Error() != "fragile: broken" {
		t.Errorf("error %v", err)
	}
	r.done <- nil
	s.extra = nil
	if sessions := s.start(t).sessions(t); len(sessions) != 1 {
		t.Errorf("sessions %+v, want that of alice", sessions)
	}
}

func TestDaemonReload(t *testing.T) {
	s := newSite(t)
	r := s.start(t)
	if got, want := s.offers(t), []sasl.Mechanism{sasl.DigestMD5, sasl.Plain}; !slices.Equal(got, want) {
		t.Fatalf("offers %q, want %q", got, want)
	}
	t.Cleanup(func() { _ = setLevel("info") })

	s.lines["tsp"] = "mechanisms = [\"PLAIN\"]\nqueue = 17\nrate = 1\nburst = 3"
	s.lines["session"] = "lifetime = \"2h\""
	s.write(t)
	if err := r.reload(); err != nil {
		t.Fatal(err)
	}
	if got, want := s.offers(t), []sasl.Mechanism{sasl.Plain}; !slices.Equal(got, want) {
		t.Errorf("offers %q after a reload, want %q", got, want)
	}
	if c := r.current(); c.Session.Lifetime.Duration != 2*time.Hour || c.TSP.Queue != 4096 {
		t.Errorf("in force: lifetime %s, queue %d", c.Session.Lifetime, c.TSP.Queue)
	}
	if !strings.Contains(r.logs.String(), `"keys":["tsp.queue"]`) {
		t.Errorf("the log does not name tsp.queue as one for a restart:\n%s", r.logs)
	}

	s.flood(t, 20) // more than the new burst, far less than the old one
	await(t, "a message too many", func() bool {
		_, text := get(t, "http://"+s.metrics+"/metrics")
		return !strings.Contains(text, `ddtb_tsp_dropped_total{reason="rate"} 0`)
	})

	s.lines["session"] = "lifetime = \"1s\""
	s.write(t)
	if err := r.reload(); err == nil || !strings.Contains(err.Error(), "session.lifetime: 1s: expected 1m to 365d") {
		t.Errorf("error %v", err)
	}
	if c := r.current(); c.Session.Lifetime.Duration != 2*time.Hour {
		t.Errorf("lifetime %s after a reload that failed", c.Session.Lifetime)
	}
}

// TestDaemonAlone: of two daemons with one control socket the second does not start, and does not disturb the first.
func TestDaemonAlone(t *testing.T) {
	s := newSite(t)
	r := s.start(t)
	c := r.current()
	second := &daemon{file: s.file(), host: loopback(), log: zerolog.Nop(), opened: make(chan struct{})}
	if err := openDaemon(t.Context(), c, second, "second"); err == nil || !strings.Contains(err.Error(), "another process serves it") {
		t.Fatalf("error %v", err)
	}
	if status, err := r.ctl.Status(t.Context()); err != nil || status.Version != "0.0.0-test" || !status.Ready {
		t.Errorf("the first one says %+v, %v", status, err)
	}
}

func TestDaemonHealth(t *testing.T) {
	s := newSite(t)
	s.start(t)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		if code, body := get(t, "http://"+s.metrics+path); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}
