// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/control"
)

func TestSessionList(t *testing.T) {
	d := newDesk(t)
	alice, bob := d.session(t, "alice", 1), d.session(t, "bob", 2)
	out := d.must(t, "session", "list")
	wantParts(t, out, "SESSION                   USER   STATE   ENDPOINT ", alice.ID+"  alice  active  "+alice.Endpoint.String(), bob.Prefix.String()+"  198.51.0.2:40000  v6udpv4")
	for _, test := range []struct {
		filter, value string
		want          int
	}{
		{"--user", "alice", 1},
		{"--user", "carol", 0},
		{"--address", alice.Endpoint.String(), 1},
		{"--address", bob.Prefix.Addr().Next().String(), 1},
		{"--prefix", "2001:db8:1000::/40", 2},
		{"--prefix", alice.Prefix.String(), 1},
		{"--prefix", "2001:db8:8000::/48", 2},
		{"--address", "2001:db8:8000:2::1", 1},
		{"--client", "198.51.0.2", 1},
		{"--encap", "v6v4", 0},
		{"--state", "active", 2},
		{"--state", "offered", 0},
	} {
		lines := strings.Count(d.must(t, "session", "list", "--json", test.filter, test.value), "\n")
		if lines != test.want {
			t.Errorf("%s %s gives %d sessions, want %d", test.filter, test.value, lines, test.want)
		}
	}
}

// TestControlCharacters: a name that a RADIUS server gave does nothing to the operator's terminal.
func TestControlCharacters(t *testing.T) {
	d := newDesk(t)
	evil := d.session(t, "a\x1b[31m\nb", 1)
	for _, args := range [][]string{{"session", "list"}, {"session", "show", evil.ID}, {"session", "kick", evil.ID}} {
		if out := d.must(t, args...); strings.Contains(out, "\x1b") || !strings.Contains(out, "a\ufffd[31m\ufffdb") {
			t.Errorf("%q: %q", args, out)
		}
	}
	if text := eventLine(control.Event{Session: &control.Session{User: "a\x1bb"}}); strings.Contains(text, "\x1b") {
		t.Errorf("event: %q", text)
	}
}

func TestSessionShowAndKick(t *testing.T) {
	d := newDesk(t)
	alice := d.session(t, "alice", 1)
	d.session(t, "bob", 2)
	for _, name := range []string{alice.ID, "alice", alice.Endpoint.String(), alice.Prefix.String(), alice.Prefix.Addr().Next().String(), "2001:db8:8000:1::5"} {
		wantParts(t, d.must(t, "session", "show", name), "session    "+alice.ID, "user       alice, verified by local", "prefix     "+alice.Prefix.String(), "routes     2001:db8:8000:1::/64")
	}
	var one control.Session
	check(t, json.Unmarshal([]byte(d.must(t, "session", "show", "alice", "--json")), &one))
	if one.ID != alice.ID || len(one.Routes) != 1 {
		t.Errorf("show --json gives %+v", one)
	}
	d.wantFails(t, exitFailed, `no session "carol": expected a session's id, an address or prefix of it, or its user`, "session", "show", "carol")
	d.wantFails(t, exitFailed, `no session "2001:db8:ffff::1"`, "session", "kick", "2001:db8:ffff::1")

	wantParts(t, d.must(t, "session", "kick", "alice"), alice.ID+"  alice  "+alice.Endpoint.String())
	d.wantFails(t, exitFailed, "no session", "session", "show", "alice")
	if out := d.must(t, "session", "list", "--json"); strings.Count(out, "\n") != 1 || !strings.Contains(out, `"bob"`) {
		t.Errorf("left are %s", out)
	}
}

// TestSessionWatch: what happens is printed as it happens, of those who match.
func TestSessionWatch(t *testing.T) {
	d := newDesk(t)
	reader, writer := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"session", "watch", "--user", "alice"}, d.terminal(writer, io.Discard))
		writer.Close()
	}()
	for d.broker.Status().Watchers < 2 { // the fleet's agent is one
		if t.Context().Err() != nil {
			t.Fatal("nobody watches")
		}
		time.Sleep(time.Millisecond)
	}
	d.session(t, "bob", 2)
	alice := d.session(t, "alice", 1)
	check(t, d.broker.Release(t.Context(), alice.ID, aaa.CauseAdminReset))
	lines := bufio.NewScanner(reader)
	for _, want := range []string{"login     alice  " + alice.Endpoint.String(), "kick      alice  " + alice.Endpoint.String()} {
		if !lines.Scan() {
			t.Fatal("the stream ended")
		}
		wantParts(t, lines.Text(), want, alice.ID)
	}
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("exit %d after an interrupt", code)
	}
}

// TestRates: sessions by what they sent and received between two looks.
func TestRates(t *testing.T) {
	s := func(rx, tx uint64) control.Session {
		return control.Session{User: "u", Traffic: control.Traffic{RxOctets: rx, TxOctets: tx, RxPackets: rx / 100, TxPackets: tx / 100}}
	}
	got := rates(map[string]control.Session{"a": s(1000, 0), "b": s(500, 0), "gone": s(1, 1)},
		map[string]control.Session{"a": s(3000, 0), "b": s(500, 0), "new": s(0, 10000)}, 2*time.Second)
	if len(got) != 2 || got[0].Session != "new" || got[0].TxBits != 40000 || got[1].Session != "a" || got[1].RxBits != 8000 || got[1].RxPackets != 10 {
		t.Errorf("got %+v", got)
	}
	if restarted := rates(map[string]control.Session{"a": s(3000, 0)}, map[string]control.Session{"a": s(10, 0)}, time.Second); len(restarted) != 0 {
		t.Errorf("counters that went back give %+v", restarted)
	}
}

func TestSessionWatchRates(t *testing.T) {
	d := newDesk(t)
	d.session(t, "alice", 1)
	wantParts(t, d.must(t, "session", "watch", "--rates", "--rounds", "1", "--interval", "1s"), "0 sessions with traffic\nUSER  ENDPOINT")
	var out strings.Builder
	tool := &tool{terminal: d.terminal(&out, io.Discard)}
	check(t, tool.printRates([]Rate{
		{Session: "a", User: "alice", Endpoint: "2001:db8::1", RxBits: 1.5e6, TxBits: 2.25e9, RxPackets: 1000, TxPackets: 2},
		{Session: "b", User: "bob", Endpoint: "2001:db8::2"},
	}, 1))
	wantParts(t, out.String(), "2 sessions with traffic\n", "alice  2001:db8::1  1.5 Mbit/s  2.2 Gbit/s  1000          2             a\n")
	if strings.Contains(out.String(), "bob") {
		t.Error("--top 1 shows two")
	}
}
