// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ddtb/provision/datapath"
)

// The tests here run each subject with numbers too small to mean anything, and look whether it measures at all.

// contrib is our folder of files for other programs.
const contrib = "../../contrib"

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// smoke runs a subject and wants figures of these names, each more than nothing unless it counts losses.
func smoke(t *testing.T, run func(context.Context, *report) error, names ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	log := &bytes.Buffer{}
	r := newReport(io.Discard, log)
	if err := run(ctx, r); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if err := r.print(); err != nil {
		t.Error(err)
	}
	values := map[string]float64{}
	for _, f := range r.figures {
		values[f.name] = f.value
	}
	for _, name := range names {
		value, found := values[name]
		if counts := strings.HasSuffix(name, "packets"); !found || value <= 0 && !counts {
			t.Errorf("%s = %v (found: %v)", name, value, found)
		}
	}
}

func TestAcct(t *testing.T) {
	o := acctOptions{records: 500, producers: 10, state: t.TempDir()}
	smoke(t, func(ctx context.Context, r *report) error { return acct(ctx, o, r) }, "acct.spool.per_s", "acct.delivered.per_s")
}

func TestRootPackets(t *testing.T) {
	needRoot(t)
	for _, encap := range []datapath.Encap{datapath.V6UDPV4, datapath.V6V4} {
		o := packetsOptions{
			tunnels: []uint{1, 100}, repeat: 1, duration: 10 * time.Millisecond, warm: time.Millisecond,
			encap: encap.String(), fromPrefix: encap == datapath.V6V4,
		}
		t.Run(encap.String(), func(t *testing.T) {
			smoke(t, func(ctx context.Context, r *report) error { return packets(ctx, o, r) },
				"plain.up.ns", "plain.down.ns", "vxlan.up.ns", "vxlan.down.ns",
				"xdp.decap.1.vs_plain", "xdp.decap.1.vs_vxlan", "xdp.encap.1.vs_plain", "xdp.encap.1.vs_vxlan",
				"xdp.decap.100.vs_plain", "xdp.encap.100.vs_vxlan", "xdp.decap.100.ns", "xdp.encap.100.pps",
				"xdp.fib.decap.1.vs_plain", "xdp.fib.encap.100.vs_plain")
		})
	}
}

func TestRootPing(t *testing.T) {
	needRoot(t)
	smoke(t, func(ctx context.Context, r *report) error { return ping(ctx, pingOptions{count: 20, repeat: 1}, r) },
		"ping.vs_direct", "ping.direct_us", "ping.tunnel_us")
}

func buildDaemon(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "ddtb")
	if output, err := exec.Command("go", "build", "-o", program, "ddtb/cmd/ddtb").CombinedOutput(); err != nil {
		t.Fatalf("build the daemon: %v\n%s", err, output)
	}
	return program
}

// TestRootAAA logs in with accounts that servers of the ISP's know.
func TestRootAAA(t *testing.T) {
	needRoot(t)
	o := aaaOptions{program: buildDaemon(t), state: t.TempDir(), contrib: contrib, logins: 20, rounds: 1, window: 8}
	for name, run := range map[string]func(context.Context, aaaOptions, *report) error{"radius": radiusLogins, "ldap": ldapLogins} {
		t.Run(name, func(t *testing.T) {
			var names []string
			for _, mechanism := range []string{"plain", "digest"} {
				for _, figure := range []string{"per_s", "p50_ms", "p99_ms", "server.per_s", "vs_server", "p99.vs_server"} {
					names = append(names, "login."+name+"."+mechanism+"."+figure)
				}
			}
			smoke(t, func(ctx context.Context, r *report) error { return run(ctx, o, r) }, names...)
		})
	}
}

func TestDelivery(t *testing.T) {
	o := deliveryOptions{records: 200, rounds: 2, state: t.TempDir(), contrib: contrib}
	smoke(t, func(ctx context.Context, r *report) error { return delivery(ctx, o, r) },
		"acct.delivery.per_s", "acct.delivery.server.per_s", "acct.delivery.vs_server")
}

// TestRootDaemon takes a real daemon through its life: accounts, logins, restart under traffic.
func TestRootDaemon(t *testing.T) {
	needRoot(t)
	program := buildDaemon(t)
	o := restartOptions{
		loginOptions: loginOptions{
			daemonOptions: daemonOptions{program: program, state: t.TempDir(), sessions: 30}, window: 8, workers: 2,
		},
		rate: 1000, repeat: 1,
	}
	smoke(t, func(ctx context.Context, r *report) error { return lifetime(ctx, o, r) },
		"login.local.per_s", "login.local.p50_ms", "login.local.p99_ms", "restart.30.ms", "restart.30.sent_packets",
		"restart.30.lost_packets")
}

func TestRootBroker(t *testing.T) {
	needRoot(t)
	smoke(t, func(ctx context.Context, r *report) error { return brokerMemory(ctx, 1000, t.TempDir(), r) },
		"session.bytes.1000", "broker.per_s")
}

func TestLease(t *testing.T) {
	o := leaseOptions{leases: []int{100, 200}, callers: 8, duration: 50 * time.Millisecond, program: "redis-server"}
	smoke(t, func(ctx context.Context, r *report) error { return leases(ctx, o, r) },
		"lease.redis.100.per_s", "lease.redis.100.extended.per_s", "lease.redis.200.per_s", "lease.redis.200.extended.per_s")
}

func TestRootTakeover(t *testing.T) {
	needRoot(t)
	smoke(t, func(ctx context.Context, r *report) error {
		return takeover(ctx, takeoverOptions{program: buildDaemon(t), state: t.TempDir(), redis: "redis-server", count: 10}, r)
	},
		"takeover.ms.p50", "takeover.ms.p99", "takeover.ms.x8.p50", "takeover.ms.x8.p99")
}

// TestCommands: every subject is a command with its own help, and what makes no sense is refused.
func TestCommands(t *testing.T) {
	for _, name := range []string{"packets", "ping", "tcp", "login", "radius", "ldap", "acct", "delivery", "memory", "restart", "lease", "takeover", "all"} {
		out := &bytes.Buffer{}
		command := root()
		command.SetOut(out)
		command.SetArgs([]string{name, "--help"})
		if err := command.Execute(); err != nil || !strings.Contains(out.String(), "Usage:") {
			t.Errorf("%s --help: %v\n%s", name, err, out)
		}
	}
	for _, arguments := range [][]string{
		{"login", "--server", "127.0.0.1"},
		{"login", "--server", "127.0.0.1", "--user", "a"},
		{"login", "--server", "127.0.0.1", "--accounts", "/nonexistent"},
		{"login", "--server", "127.0.0.1:x", "--user", "a", "--password-file", "/dev/null"},
		{"login", "--server", "127.0.0.1", "--user", "a", "--password-file", "/dev/null", "--rate", "0"},
		{"packets", "--tunnels", "none"},
		{"packets", "--tunnels", "0"},
		{"packets", "--encap", "gre"},
		{"everything"},
	} {
		command := root()
		command.SetOut(io.Discard)
		command.SetErr(io.Discard)
		command.SetArgs(arguments)
		if err := command.Execute(); err == nil {
			t.Errorf("%v: no error", arguments)
		}
	}
}
