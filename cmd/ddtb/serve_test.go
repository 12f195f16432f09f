// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// TestObey: the first signal stops, SIGHUP reloads only before that, one that comes a second later exits.
func TestObey(t *testing.T) {
	signals := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		signals <- s
	}
	close(signals)
	clock := time.Unix(0, 0)
	now := func() time.Time {
		clock = clock.Add(600 * time.Millisecond)
		return clock
	}
	var did []string
	note := func(what string) func() { return func() { did = append(did, what) } }
	obey(signals, now, note("stop"), note("reload"), note("exit"), zerolog.Nop())
	if want := []string{"reload", "reload", "stop", "exit"}; !slices.Equal(did, want) {
		t.Errorf("did %q, want %q", did, want)
	}
}

// manager is what systemd is to a daemon.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return socket
}

// heard waits for a message with the given line.
func heard(t *testing.T, socket *net.UnixConn, line string) string {
	t.Helper()
	if err := socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	for {
		n, err := socket.Read(buffer)
		if err != nil {
			t.Fatalf("%s was not said: %v", line, err)
		}
		if text := string(buffer[:n]); slices.Contains(strings.Split(text, "\n"), line) {
			return text
		}
	}
}

// TestNotify: systemd hears READY when all is ready and not before, RELOADING, STOPPING.
func TestNotify(t *testing.T) {
	socket := manager(t)
	s := newSite(t)
	r := s.start(t)
	if text := heard(t, socket, "READY=1"); !strings.Contains(text, "STATUS=0 sessions, 0 offered, 0 logins") {
		t.Errorf("READY came with %q", text)
	}
	notifier{log: r.log}.reloading(r.reloadLogged)
	heard(t, socket, "RELOADING=1")
	heard(t, socket, "READY=1")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	heard(t, socket, "STOPPING=1")
}

func TestNotifyNotReady(t *testing.T) {
	socket := manager(t)
	ctx, cancel := context.WithCancel(t.Context())
	slow := newRoutine("slow", func(context.Context, func()) error { return nil })
	done := make(chan error, 1)
	n := notifier{log: zerolog.Nop(), alive: func() error { return nil }, summary: func() string { return "" }}
	go func() { done <- n.task([]task{slow}).Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := socket.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := socket.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d octets were said before all was ready", n)
	}
}

// TestWatchdog: it is fed while the daemon works, and not any more when it does not.
func TestWatchdog(t *testing.T) {
	socket := manager(t)
	var sick error
	n := notifier{log: zerolog.Nop(), alive: func() error { return sick }, summary: func() string { return "fine" }}
	n.tick(true)
	heard(t, socket, "WATCHDOG=1")
	n.tick(false)
	if text := heard(t, socket, "STATUS=fine"); strings.Contains(text, "WATCHDOG") {
		t.Errorf("said %q without a watchdog", text)
	}
	sick = errors.New("no look at the tunnels for 9m")
	n.tick(true)
	if text := heard(t, socket, "STATUS=fine"); strings.Contains(text, "WATCHDOG") {
		t.Errorf("said %q while sick", text)
	}
}

// TestTasks: one that fails or ends by itself ends the others, and is named.
func TestTasks(t *testing.T) {
	patient := newRoutine("patient", func(ctx context.Context, ready func()) error {
		ready()
		<-ctx.Done()
		return nil
	})
	failing := newRoutine("failing", func(context.Context, func()) error { return errors.New("broken") })
	if err := runTasks(t.Context(), patient, failing); err == nil || err.Error() != "failing: broken" {
		t.Errorf("error %v", err)
	}
	ending := newRoutine("ending", func(context.Context, func()) error { return nil })
	again := newRoutine("patient", patient.run)
	if err := runTasks(t.Context(), again, ending); err == nil || err.Error() != "ending: ended by itself" {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if name, ok := awaitReady(ctx, newRoutine("never", nil)); ok || name != "never" {
		t.Errorf("ready: %q, %v", name, ok)
	}
}

func TestSetLevel(t *testing.T) {
	t.Cleanup(func() { zerolog.SetGlobalLevel(zerolog.InfoLevel) })
	for _, name := range []string{"debug", "info", "warn", "error"} {
		if err := setLevel(name); err != nil || zerolog.GlobalLevel().String() != name {
			t.Errorf("%s: %v, level %s", name, err, zerolog.GlobalLevel())
		}
	}
	for _, name := range []string{"", "loud"} {
		if err := setLevel(name); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}
