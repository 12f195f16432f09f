// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/provision/control"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// patience is how long anything may take that ought to take a moment.
const patience = 20 * time.Second

// site is a daemon's folder and configuration.
type site struct {
	dir     string
	port    uint16
	metrics string
	lines   map[string]string // further lines by section
}

func newSite(t *testing.T) *site {
	t.Helper()
	return &site{dir: t.TempDir(), port: freePort(t), metrics: fmt.Sprintf("127.0.0.1:%d", freePort(t)), lines: map[string]string{}}
}

// freePort finds a port that neither UDP nor TCP uses.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := tcp.Addr().(*net.TCPAddr).AddrPort()
		udp, err := net.ListenPacket("udp", at.String())
		if err := tcp.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			continue
		}
		if err := udp.Close(); err != nil {
			t.Fatal(err)
		}
		return at.Port()
	}
	t.Fatal("no free port")
	return 0
}

func (s *site) file() string   { return filepath.Join(s.dir, "ddtb.toml") }
func (s *site) socket() string { return filepath.Join(s.dir, "c.sock") }
func (s *site) server() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// write writes the configuration.
func (s *site) write(t *testing.T) {
	t.Helper()
	text := fmt.Sprintf(`[server]
name = "test"
listen = ["127.0.0.1"]
port = %d
ipv6 = "2001:db8:f000::1"
resolvers = ["2001:db8:53::53"]
state = "%s/state"
%s
[tsp]
%s
[[pool]]
name = "homes"
endpoints = "2001:db8:f000:1::/112"
prefixes = "2001:db8:1000::/40"
[datapath]
driver = "null"
[session]
%s
[control]
socket = "%s"
[metrics]
listen = "%s"
[log]
level = "info"
`, s.port, s.dir, s.lines["server"], s.lines["tsp"], s.lines["session"], s.socket(), s.metrics)
	if err := os.WriteFile(s.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// loopback is a host with nothing but 127.0.0.1.
func loopback() host {
	h := thisHost()
	h.uplink = func(int) (string, error) { return "", errNoRoute }
	return h
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// running is a daemon in this process.
type running struct {
	*daemon
	ctl  *control.Client
	logs *lockedBuffer
	stop func() error
}

// start starts a daemon and waits until it is ready. It is stopped at the end of the test if it was not before.
func (s *site) start(t *testing.T) *running {
	t.Helper()
	s.write(t)
	c, err := load(s.file(), loopback())
	if err != nil {
		t.Fatal(err)
	}
	r := &running{logs: &lockedBuffer{}, ctl: control.NewClient(s.socket())}
	r.daemon = &daemon{file: s.file(), host: loopback(), log: zerolog.New(r.logs), opened: make(chan struct{})}
	if err := openDaemon(t.Context(), c, r.daemon, "0.0.0-test"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	notify := notifier{log: r.log, alive: r.alive, summary: r.summary}
	go func() { done <- r.run(ctx, notify) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		r.ctl.Close()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("the daemon does not stop")
		}
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("%v; log:\n%s", err, r.logs)
		}
	})
	wait, done2 := context.WithTimeout(t.Context(), patience)
	defer done2()
	if name, ok := awaitReady(wait, r.front...); !ok {
		t.Fatalf("%s is not ready; log:\n%s", name, r.logs)
	}
	return r
}

func (r *running) addUser(t *testing.T, name, password string) {
	t.Helper()
	if err := r.ctl.AddUser(t.Context(), control.NewUser{Name: name, Password: password, Digest: true}); err != nil {
		t.Fatal(err)
	}
}

// sessions lists all sessions that are active.
func (r *running) sessions(t *testing.T) []control.Session {
	t.Helper()
	var all []control.Session
	for s, err := range r.ctl.Sessions(t.Context(), control.SessionFilter{State: "active"}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// login does a whole dialogue as a client does.
func (s *site) login(t *testing.T, network string, client tsp.Client, request tsp.Request) (tsp.Offer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := client.Dial(ctx, network, s.server())
	if err != nil {
		return tsp.Offer{}, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Login(ctx); err != nil {
		return tsp.Offer{}, err
	}
	offer, err := conn.Create(ctx, request)
	if err != nil {
		return offer, err
	}
	return offer, conn.Accept(ctx)
}

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

// offers gives the mechanisms that a server advertises.
func (s *site) offers(t *testing.T) []sasl.Mechanism {
	t.Helper()
	conn, err := (&tsp.Client{}).Dial(t.Context(), "udp", s.server())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.Capability().Mechanisms
}

func TestDaemonReload(t *testing.T) {
	s := newSite(t)
	r := s.start(t)
	if got, want := s.offers(t), []sasl.Mechanism{sasl.DigestMD5, sasl.Plain}; !slices.Equal(got, want) {
		t.Fatalf("offers %q, want %q", got, want)
	}
	t.Cleanup(func() { _ = setLevel("info") })

	s.lines["tsp"] = "mechanisms = [\"PLAIN\"]\nqueue = 17"
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

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
