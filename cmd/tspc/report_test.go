// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"ddtb/cmd/tspc/agent"
	"ddtb/cmd/tspc/config"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// reported runs events through a reporter and gives the log, the lines of --json, and what systemd heard.
func reported(t *testing.T, c config.Config, events ...agent.Event) (log string, records []record, systemd []string) {
	t.Helper()
	var text, lines bytes.Buffer
	console := zerolog.ConsoleWriter{Out: &text, NoColor: true, PartsExclude: []string{zerolog.TimestampFieldName}}
	r := newReporter(c, zerolog.New(console), func() int { return 1400 })
	r.stdout = &lines
	r.notify = func(state string) { systemd = append(systemd, state) }
	for _, e := range events {
		r.report(e)
	}
	for line := range bytes.Lines(lines.Bytes()) {
		var one record
		if err := json.Unmarshal(line, &one); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		records = append(records, one)
	}
	return text.String(), records, systemd
}

func configuration(t *testing.T) config.Config {
	c := config.Default()
	c.RunDir, c.User = t.TempDir(), "alice"
	return c
}

var (
	one     = agent.Server{Host: "broker.example", Port: agent.DefaultPort}
	address = netip.MustParseAddrPort("192.0.2.1:3653")
	info    = agent.Info{
		Server: address, Local: netip.MustParseAddr("10.0.0.2"), Transport: "udp",
		Offer: tsp.Offer{
			Type: tsp.V6UDPV4, ClientIPv6: netip.MustParseAddr("2001:db8::2"), Prefix: netip.MustParsePrefix("2001:db8:1::/56"),
			Keepalive: 30 * time.Second, KeepaliveTo: netip.MustParseAddr("2001:db8::1"), Lifetime: 24 * time.Hour,
			Resolvers: []netip.Addr{netip.MustParseAddr("2001:db8::53")}, ClientName: "alice.example",
		},
	}
)

func TestReport(t *testing.T) {
	refused := &tsp.StatusError{Code: tsp.StatusAuthFailed}
	for _, test := range []struct {
		event   agent.Event
		log     string
		json    string
		systemd string // "" for nothing
	}{
		{agent.Event{Kind: agent.Connecting, Server: one, Address: address}, "INF asking broker.example (192.0.2.1:3653)",
			`"event":"connecting","interface":"tspc0","server":"broker.example","endpoint":"192.0.2.1:3653"`,
			"STATUS=asking broker.example (192.0.2.1:3653)"},
		{agent.Event{Kind: agent.Redirected, Server: one, Address: address, Brokers: []tsp.Broker{{Name: "b.example"}, {Addr: netip.MustParseAddr("192.0.2.9")}}},
			"INF broker.example sends us to b.example, 192.0.2.9", `"brokers":["b.example","192.0.2.9"]`,
			"STATUS=broker.example sends us to b.example, 192.0.2.9"},
		{agent.Event{Kind: agent.Failed, Server: one, Address: address, Err: refused},
			`WRN broker.example: user or password refused for user "alice" (300 Authentication failed)`,
			`"error":"user or password refused for user \"alice\" (300 Authentication failed)"`,
			`STATUS=broker.example: user or password refused for user "alice" (300 Authentication failed)`},
		{agent.Event{Kind: agent.Up, Info: info}, "INF tunnel up: address 2001:db8::2 prefix 2001:db8:1::/56 server 192.0.2.1:3653 (v6udpv4)",
			`"endpoint":"192.0.2.1:3653","type":"v6udpv4","transport":"udp","local":"10.0.0.2","address":"2001:db8::2","prefix":"2001:db8:1::/56",` +
				`"name":"alice.example","mtu":1400,"keepalive_seconds":30,"keepalive_address":"2001:db8::1","lifetime_seconds":86400,"resolvers":["2001:db8::53"]`,
			"STATUS=tunnel up: address 2001:db8::2 prefix 2001:db8:1::/56 server 192.0.2.1:3653 (v6udpv4)"},
		{agent.Event{Kind: agent.Down, Info: info, Err: errors.New("gone")}, "WRN tunnel down: gone", `"error":"gone"`, "STATUS=tunnel down: gone"},
		{agent.Event{Kind: agent.Waiting, Err: refused, Delay: 1234 * time.Millisecond}, "INF next attempt in 1.2s", `"retry_seconds":1.234`, "STATUS=next attempt in 1.2s"},
		{agent.Event{Kind: agent.Undeleted, Info: info, Err: tsp.ErrTimeout}, "DBG the server was not told that the tunnel ends", `"event":"undeleted"`, ""},
		{agent.Event{Kind: agent.Stopped}, "INF stopped", `"event":"stopped"`, "STOPPING=1"},
	} {
		c := configuration(t)
		var lines bytes.Buffer
		log, _, systemd := reported(t, c, test.event)
		r := newReporter(c, zerolog.Nop(), func() int { return 1400 })
		r.stdout = &lines
		r.report(test.event)
		if !strings.HasPrefix(log, test.log) {
			t.Errorf("%s: log %q, want %q", test.event.Kind, log, test.log)
		}
		if !strings.Contains(lines.String(), test.json) {
			t.Errorf("%s: JSON\n%s\nwant\n%s", test.event.Kind, lines.String(), test.json)
		}
		if got := strings.Join(systemd, "|"); got != test.systemd {
			t.Errorf("%s: systemd %q, want %q", test.event.Kind, got, test.systemd)
		}
	}
}

// TestStatusFile: it has the last event, and goes at the end.
func TestStatusFile(t *testing.T) {
	c := configuration(t)
	reported(t, c, agent.Event{Kind: agent.Connecting, Server: one, Address: address}, agent.Event{Kind: agent.Up, Info: info})
	var out bytes.Buffer
	if err := status(c, false, &out); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"interface  tspc0\n", "state      up since ", "server     broker.example\n", "endpoint   192.0.2.1:3653\n",
		"type       v6udpv4\n", "address    2001:db8::2\n", "prefix     2001:db8:1::/56\n", "mtu        1400\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	reported(t, c, agent.Event{Kind: agent.Waiting, Err: tsp.ErrTimeout, Delay: time.Second})
	out.Reset()
	if err := status(c, true, &out); !errors.Is(err, errNotUp) || !strings.Contains(out.String(), `"event":"waiting"`) {
		t.Errorf("%v\n%s", err, out.String())
	}
	reported(t, c, agent.Event{Kind: agent.Stopped})
	if err := status(c, false, &out); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no tspc is running for interface tspc0") {
		t.Errorf("%v", err)
	}
}

// TestServersCannotCommandTerminals: what a server says comes out harmless.
func TestServersCannotCommandTerminals(t *testing.T) {
	evil := &tsp.StatusError{Code: tsp.StatusBusy, Text: "\x1b[2Jgo away\nREADY=1"}
	log, _, systemd := reported(t, configuration(t), agent.Event{Kind: agent.Failed, Server: one, Err: evil})
	if strings.ContainsAny(strings.TrimSuffix(log, "\n"), "\x1b\n") || strings.ContainsAny(strings.Join(systemd, ""), "\x1b\n") {
		t.Errorf("%q, %q", log, systemd)
	}
}

// TestRouterWithoutPrefix: a subscriber who wants a prefix is told that there is none.
func TestRouterWithoutPrefix(t *testing.T) {
	c := configuration(t)
	c.Router.Enable = true
	host := info
	host.Offer.Prefix = netip.Prefix{}
	if log, _, _ := reported(t, c, agent.Event{Kind: agent.Up, Info: host}); !strings.Contains(log, "WRN the server gave no prefix") {
		t.Error(log)
	}
	if log, _, _ := reported(t, c, agent.Event{Kind: agent.Up, Info: info}); strings.Contains(log, "WRN") {
		t.Error(log)
	}
}

func TestExplain(t *testing.T) {
	c := config.Default()
	c.User, c.Tunnel, c.Router.PrefixLength = "alice", "v6v4", 48
	status := func(code tsp.Code) error { return fmt.Errorf("udp 192.0.2.1: %w", &tsp.StatusError{Code: code}) }
	for _, test := range []struct {
		err  error
		want string
	}{
		{status(tsp.StatusAuthFailed), `user or password refused for user "alice" (300 Authentication failed)`},
		{status(tsp.StatusNoTunnels), "it has no room for another tunnel just now (301 No more tunnels available)"},
		{status(tsp.StatusBusy), "it has no room for another tunnel just now (530 "},
		{status(tsp.StatusInProgress), "it is still busy with an earlier request of ours (521 "},
		{status(tsp.StatusBadVersion), "it speaks another version of TSP (302 "},
		{status(tsp.StatusBadTunnelType), "it has no tunnels of type v6v4 (303 "},
		{status(tsp.StatusIPv4InUse), "there is another tunnel from this IPv4 address already (506 "},
		{status(tsp.StatusPrefixLength), "it gives no prefix of length 48 (507 "},
		{status(tsp.StatusPrefixForbidden), "it gives no prefix to anonymous users (522 "},
		{status(tsp.StatusServerError), "it has trouble of its own (310 "},
		{status(tsp.StatusBadRequest), "it refused (500 "},
		{fmt.Errorf("x: %w", tsp.ErrTimeout), "no answer (is the name right, and does a firewall let TSP through?)"},
		{tsp.ErrMechanism, `it offers no way to log in with mechanism "any"`},
		{tsp.ErrProtocol, "it does not speak TSP as it should"},
		{sasl.ErrProof, "it does not know your password itself"},
		{fmt.Errorf("read: %w", os.NewSyscallError("read", unix.ECONNREFUSED)), "no tunnel broker is running there (connection refused)"},
		{errors.New("anything"), "anything"},
	} {
		if got := explain(test.err, c); !strings.HasPrefix(got, test.want) {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
	c.User = ""
	if got := explain(status(tsp.StatusAuthFailed), c); !strings.HasPrefix(got, "it gives no tunnels to anonymous users") {
		t.Errorf("%q", got)
	}
}

func TestPrintable(t *testing.T) {
	err := errors.Join(errors.New("udp: no answer"), errors.New("tcp: \x1b[2Jrefused\r"))
	if got, want := printable(err.Error()), "udp: no answer; tcp: ?[2Jrefused?"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
