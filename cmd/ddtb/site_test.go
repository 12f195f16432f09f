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
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa/aaatest"
	"ddtb/provision/control"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// patience is how long anything may take that ought to take a moment.
const patience = 20 * time.Second

// site is a daemon's folder and configuration.
type site struct {
	dir     string
	name    string // of the server
	port    uint16
	metrics string
	lines   map[string]string // further lines by section
	guests  bool              // anonymous logins, from a pool of their own
	extra   []task            // that run beside the daemon's own
}

func newSite(t *testing.T) *site {
	t.Helper()
	return &site{dir: t.TempDir(), name: "test", port: freePort(t), metrics: fmt.Sprintf("127.0.0.1:%d", freePort(t)), lines: map[string]string{}}
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	port, err := aaatest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (s *site) file() string   { return filepath.Join(s.dir, "ddtb.toml") }
func (s *site) socket() string { return filepath.Join(s.dir, "c.sock") }
func (s *site) server() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// write writes the configuration.
func (s *site) write(t *testing.T) {
	t.Helper()
	text := fmt.Sprintf(`[server]
name = "%s"
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
`, s.name, s.port, s.dir, s.lines["server"], s.lines["tsp"], s.lines["session"], s.socket(), s.metrics)
	if s.guests {
		text += "[[pool]]\nname = \"guests\"\nendpoints = \"2001:db8:f000:2::/112\"\n[anonymous]\nenabled = true\npool = \"guests\"\n"
	}
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
	done chan error // what run gave
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
	r.back = append(r.back, s.extra...)
	ctx, cancel := context.WithCancel(context.Background())
	r.done = make(chan error, 1)
	notify := notifier{log: r.log, alive: r.alive, summary: r.summary}
	go func() { r.done <- r.run(ctx, notify) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		r.ctl.Close()
		select {
		case err := <-r.done:
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
	wait, cancelWait := context.WithTimeout(t.Context(), patience)
	defer cancelWait()
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

// flood sends so many datagrams at once.
func (s *site) flood(t *testing.T, n int) {
	t.Helper()
	conn, err := net.Dial("udp4", s.server())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range n {
		if _, err := conn.Write([]byte("\xf0\x00\x00\xf0\x00\x00\x00\x01ECHO REQUEST")); err != nil {
			t.Fatal(err)
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
