// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"ddtb/aaa"
	"ddtb/aaa/local"
	"ddtb/provision"
	"ddtb/provision/control"
	"ddtb/provision/datapath"
	"ddtb/provision/fleet"
	"ddtb/provision/lease"
)

// desk is an operator before a daemon of which all but the network is real.
type desk struct {
	socket   string
	broker   *provision.Broker
	datapath *datapath.Null
	store    lease.Store
	board    fleet.Board // with the servers ts2, which serves, and ts3, which is gone
	typed    []string    // what is typed when a password is asked for
	stdin    string
}

var deskPools = []lease.Pool{
	{Name: "homes", Size: 1 << 16, EndpointBase: netip.MustParseAddr("2001:db8:f000:1::"), PrefixBase: netip.MustParseAddr("2001:db8:1000::"), PrefixLen: 56},
	{Name: "guests", First: 1 << 16, Size: 256, EndpointBase: netip.MustParseAddr("2001:db8:f000:2::")},
}

var (
	deskServer = netip.MustParseAddr("2001:db8:f000::1")
	deskLocal  = netip.MustParseAddrPort("192.0.2.1:3653")
)

// newDesk serves a control socket until the test ends.
func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{socket: filepath.Join(t.TempDir(), "c.sock"), datapath: datapath.NewNull(time.Now)}
	store, err := lease.NewMemory(deskPools, lease.Options{})
	check(t, err)
	d.store = store
	config := datapath.Config{Device: "ddtb0", Local: []netip.AddrPort{deskLocal}, Server: deskServer, MTU: 1280}
	for _, pool := range deskPools {
		config.Pools = append(config.Pools, datapath.Pool(pool))
	}
	check(t, d.datapath.Configure(t.Context(), config))
	d.broker, err = provision.New(provision.Config{Node: "tb1", Server: deskServer, Pools: deskPools, SweepInterval: time.Second},
		provision.Deps{Store: store, Datapath: d.datapath, Logger: zerolog.Nop()})
	check(t, err)
	check(t, d.broker.Recover(t.Context()))
	agent := d.fleet(t)
	accounts, err := local.Open(t.TempDir(), local.Options{Realm: "ddtb", Cram: true, Logger: zerolog.Nop()})
	check(t, err)
	listener, err := control.Listen(d.socket)
	check(t, err)
	server := control.NewServer(control.Deps{
		Broker: d.broker, Store: store, Drops: d.datapath, Users: control.LocalUsers(accounts), Version: "1.2.3", Datapath: "null", Fleet: agent,
		Config: func() any {
			return map[string]any{"server": map[string]any{"port": 3653}, "pool": []any{map[string]any{"name": "homes"}}}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	go func() { done <- agent.Run(ctx) }()
	go func() { done <- server.Serve(ctx, listener) }()
	go func() { done <- d.broker.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, <-done, <-done, accounts.Close()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// fleet makes the daemon one of three.
func (d *desk) fleet(t testing.TB) *fleet.Agent {
	t.Helper()
	d.board = fleet.NewMemory(nil)
	ts2 := fleet.Node{Name: "ts2", Address: netip.MustParseAddr("198.51.100.2"), Epoch: time.Now(), Sessions: 1, Capacity: 4, State: fleet.Serving}
	_, err := d.board.Announce(t.Context(), ts2, time.Hour)
	check(t, err)
	_, err = d.board.Announce(t.Context(), fleet.Node{Name: "ts3"}, -time.Second)
	check(t, err)
	agent, err := fleet.New(d.broker, d.board, fleet.Options{Name: "tb1", Address: deskLocal.Addr(), Version: "1.2.3", Logger: zerolog.Nop()})
	check(t, err)
	return agent
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// terminal is the operator's; out and errs may be shared.
func (d *desk) terminal(out, errs io.Writer) terminal {
	t := terminal{in: strings.NewReader(d.stdin), out: out, err: errs, now: time.Now, getenv: func(name string) string {
		return map[string]string{"DDTB_SOCKET": d.socket}[name]
	}}
	if d.typed != nil {
		t.secret = func(string) (string, error) {
			if len(d.typed) == 0 {
				return "", io.EOF
			}
			line := d.typed[0]
			d.typed = d.typed[1:]
			return line, nil
		}
		t.ask = t.secret
	}
	return t
}

// ctl runs one command line.
func (d *desk) ctl(args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = run(context.Background(), args, d.terminal(&stdout, &stderr))
	return code, stdout.String(), stderr.String()
}

// must runs a command line that has to succeed.
func (d *desk) must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := d.ctl(args...)
	if code != exitOK || errs != "" {
		t.Fatalf("ddtbctl %q: exit %d, %s", args, code, errs)
	}
	return out
}

// wantParts demands texts within another.
func wantParts(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// wantFails demands an exit code and what is said with it.
func (d *desk) wantFails(t *testing.T, code int, said string, args ...string) {
	t.Helper()
	got, out, errs := d.ctl(args...)
	if got != code || out != "" || !strings.Contains(errs, said) {
		t.Errorf("ddtbctl %q: exit %d, want %d; %q is to be in:\n%s%s", args, got, code, said, out, errs)
	}
}

// session puts a session of user in force, from the n-th client.
func (d *desk) session(t testing.TB, user string, n int) provision.Session {
	t.Helper()
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 40000)
	s, err := d.broker.Offer(context.Background(), provision.Request{
		Subscriber: aaa.Subscriber{Name: user, Backend: "local", Routes: []aaa.Route{{Prefix: deskRoute(n)}}},
		Encap:      datapath.V6UDPV4, Client: client, Local: deskLocal, Router: true,
	})
	check(t, err)
	check(t, d.broker.Activate(context.Background(), s.ID))
	return s
}

// deskRoute is what is routed to a client beside his prefix.
func deskRoute(n int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("2001:db8:8000:%x::/64", n))
}

func TestStatus(t *testing.T) {
	d := newDesk(t)
	d.session(t, "alice", 1)
	wantParts(t, d.must(t, "status"), "node        tb1\n", "ready, ddtb 1.2.3, up ", "1 active (1 v6udpv4, 0 v6v4), 0 offered")
	wantParts(t, d.must(t, "status", "--json"), `"node":"tb1"`, `"ready":true`, `"v6udpv4":1`)
}

func TestConfigShow(t *testing.T) {
	d := newDesk(t)
	if out, want := d.must(t, "config", "show"), "[[pool]]\nname = 'homes'\n\n[server]\nport = 3653\n"; out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if out, want := d.must(t, "config", "show", "--json"), "{\"pool\":[{\"name\":\"homes\"}],\"server\":{\"port\":3653}}\n"; out != want {
		t.Errorf("got %s want %s", out, want)
	}
}

func TestPool(t *testing.T) {
	d := newDesk(t)
	d.session(t, "alice", 1)
	wantParts(t, d.must(t, "pool", "list"), "POOL    ENDPOINTS ", "homes   2001:db8:f000:1::/112  2001:db8:1000::/40, /56 each  65,536  1  ", "guests  2001:db8:f000:2::/120  - ")
	wantParts(t, d.must(t, "pool", "show", "guests"), "tunnel ids  65536 to 65791", "none are delegated")
	d.wantFails(t, exitFailed, `"nowhere"`, "pool", "show", "nowhere")
}

func TestDrops(t *testing.T) {
	d := newDesk(t)
	s := d.session(t, "alice", 1)
	forged := append([]byte{0x60, 0, 0, 0, 0, 0, 59, 64}, make([]byte, 32)...)
	endpoint := s.Endpoint.As16()
	copy(forged[8:], endpoint[:])
	forged[24] = 0x20
	d.datapath.Inject(datapath.V6UDPV4, deskLocal, netip.MustParseAddrPort("203.0.113.66:53"), forged)
	out := d.must(t, "drop", "list")
	wantParts(t, out, "outer_source  1        0s    1       203.0.113.66:53  "+s.Endpoint.String())
	wantParts(t, d.must(t, "drop", "list", "--json"), `"reason":"outer_source","packets":1`)
	wantParts(t, d.must(t, "drop", "list", "--tunnels"), "TUNNEL  REASON        PACKETS  USER   ", "1       outer_source  1        alice  "+s.Endpoint.String())
	wantParts(t, d.must(t, "drop", "list", "--user", "alice", "--json"), `"tunnel":1,"reason":"outer_source","packets":1,"session":"`+s.ID)
	if out := d.must(t, "drop", "list", "--tunnel", "2", "--json"); out != "" {
		t.Errorf("another tunnel's drops are %q", out)
	}
	d.wantFails(t, exitFailed, `"weather"`, "drop", "list", "--reason", "weather")
}

// TestDown: what is said when no daemon answers, and when only the right to ask is missing.
func TestDown(t *testing.T) {
	d := &desk{socket: filepath.Join(t.TempDir(), "none.sock"), stdin: "secret\n"}
	for _, args := range [][]string{{"status"}, {"session", "list"}, {"session", "watch"}, {"pool", "list"}, {"lease", "list"}, {"drop", "list"}, {"config", "show"}} {
		d.wantFails(t, exitUnavailable, "ddtb is not running? socket "+d.socket+": no such file or directory\n", args...)
	}
	for _, args := range [][]string{{"user", "list"}, {"user", "add", "alice", "--password-stdin"}, {"user", "del", "alice"}} {
		d.wantFails(t, exitUnavailable, "The accounts are kept by the running daemon and can be managed only through it: start it first (systemctl start ddtb)", args...)
	}
}

func TestUsage(t *testing.T) {
	d := &desk{socket: "/nonexistent"}
	for _, test := range []struct{ line, said string }{
		{"", "ddtbctl what? Expected one of acct, completion, config, drop, help, lease, pool, server, session, status, user"},
		{"sesion", "ddtbctl sesion: no such command"},
		{"session", "ddtbctl session what? Expected one of kick, list, show, watch"},
		{"session lst", "ddtbctl session lst: no such command"},
		{"session list more", "1 arguments given, 0 expected"},
		{"session list --encap v4v6", "--encap: \"v4v6\" is none of [v6udpv4 v6v4]"},
		{"session list --state up", "--state: \"up\" is none of [offered active ending]"},
		{"session list --address home", "--address: \"home\" is not an IP address"},
		{"session list --prefix 2001:db8::", "--prefix: \"2001:db8::\" is not a prefix"},
		{"session list --client home", "--client: \"home\" is not an IP address"},
		{"session kick", "which session?"},
		{"session watch --rates --interval 10ms", "--interval of 1s or more"},
		{"session list --usr x", "unknown flag: --usr"},
		{"user add", "0 arguments given, 1 expected"},
		{"user add alice", "no terminal to ask for the password"},
		{"user add alice --generate --password-stdin", "only one of"},
		{"user add alice --generate --endpoint x", "--endpoint: \"x\" is not an IPv6 address"},
		{"user add alice --generate --prefix x", "--prefix: \"x\" is not a prefix"},
		{"user add alice --generate --expires soon", "--expires: \"soon\" is neither a day"},
		{"user set alice", "nothing to change"},
		{"lease show homes", "expected POOL/INDEX such as homes/7, or an address"},
		{"lease show homes/x", "expected POOL/INDEX such as homes/7, or an address"},
		{"lease reserve homes/7", "--user is missing"},
		{"lease list --state up", "--state: \"up\" is none of [active idle reserved displaced]"},
	} {
		t.Run(test.line, func(t *testing.T) { d.wantFails(t, exitUsage, test.said, strings.Fields(test.line)...) })
	}
}

// TestHelp: every command explains itself.
func TestHelp(t *testing.T) {
	d := &desk{socket: "/nonexistent"}
	wantParts(t, d.must(t, "--help"), "Exit status: 0 done", "session")
	wantParts(t, d.must(t, "session", "kick", "--help"), "Nothing keeps the clients from logging in again")
	wantParts(t, d.must(t, "--version"), "ddtbctl ")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		wantParts(t, d.must(t, "completion", shell), "ddtbctl")
	}
}

// TestCompletion: a shell is offered users, pools and sessions.
func TestCompletion(t *testing.T) {
	d := newDesk(t)
	d.stdin = "secret\n"
	d.must(t, "user", "add", "alice", "--password-stdin")
	d.session(t, "bob", 1)
	for line, want := range map[string]string{
		"user show a":     "alice\n:4\n",
		"pool show g":     "guests\n:4\n",
		"session kick b":  "bob\n:4\n",
		"session show b ": ":4\n",
	} {
		_, out, _ := d.ctl(append([]string{"__completeNoDesc"}, strings.Split(line, " ")...)...)
		if out != want {
			t.Errorf("%s<TAB> gives %q, want %q", line, out, want)
		}
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1550: "1.6 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1 << 62: "4.6 EB"} {
		if got := octets(n); got != want {
			t.Errorf("octets(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 400 * time.Millisecond: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 2*time.Hour + 59*time.Second: "2h0m", 49 * time.Hour: "2d1h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %q, want %q", n, got, want)
		}
	}
}

// BenchmarkSessionList lists 50,000 sessions, which is to take less than a second.
func BenchmarkSessionList(b *testing.B) {
	d := newDesk(b)
	for i := range 50_000 {
		d.session(b, fmt.Sprintf("subscriber%05d", i), i)
	}
	for _, args := range [][]string{{"session", "list"}, {"session", "list", "--json"}} {
		b.Run(args[len(args)-1], func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				if code := run(b.Context(), args, d.terminal(io.Discard, b.Output())); code != exitOK {
					b.Fatal(code)
				}
			}
			b.ReportMetric(float64(50_000*b.N)/b.Elapsed().Seconds(), "sessions/s")
			b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op") // of client and daemon
		})
	}
}

// cpuTime is what this process has computed so far; it says more than the clock where others work on the same machine.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	check(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
