// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ddtb/cmd/ddtb/config"
)

// pretend is a host with one uplink, one core interface and one address.
func pretend() host {
	return host{
		name: func() (string, error) { return "tb1.example.net", nil },
		uplink: func(family int) (string, error) {
			return map[int]string{unix.AF_INET: "wan0", unix.AF_INET6: "core0"}[family], nil
		},
		addresses: func(link string) ([]netip.Addr, error) {
			if link != "wan0" {
				return nil, nil
			}
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}, nil
		},
		owns: func(addr netip.Addr) (bool, error) { return addr == netip.MustParseAddr("192.0.2.1"), nil },
		linkExists: func(link string) (int, bool, error) {
			if link == "wan0" || link == "core0" {
				return 2, link == "wan0", nil
			}
			return 0, false, errors.New("Link not found")
		},
	}
}

const leanConfig = `[server]
ipv6 = "2001:db8:f000::1"
resolvers = ["2001:db8:53::53"]
[[pool]]
name = "homes"
endpoints = "2001:db8:f000:1::/112"
`

// command runs a command line over a configuration.
func command(t *testing.T, h host, text string, args ...string) (code int, out, errs string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ddtb.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "FILE", file)
	}
	var stdout, stderr bytes.Buffer
	code = run(args, &stdout, &stderr, program{version: "1.2.3", reference: config.Reference, host: h, serve: func(options, host, string) error {
		return errors.New("served")
	}})
	return code, stdout.String(), strings.ReplaceAll(stderr.String(), file, "FILE")
}

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		line, config string
		code         int
		out, errs    string
	}{
		{"version", "", exitOK, "ddtb 1.2.3\n", ""},
		{"--version", "", exitOK, "ddtb 1.2.3\n", ""},
		{"reference", "", exitOK, "# ddtb.toml: the configuration of ddtb", ""},
		{"--help", "", exitOK, "Exit status: 0 stopped as asked", ""},
		{"frobnicate", "", exitUsage, "", "ddtb: ddtb frobnicate: no such command\nTry: ddtb --help\n"},
		{"check more", "", exitUsage, "", "ddtb: ddtb check more: no such command"},
		{"check --fast", "", exitUsage, "", "ddtb: unknown flag: --fast"},
		{"check -c /nonexistent/ddtb.toml", "", exitConfig, "", "no configuration there; `ddtb reference` explains how to write one\n"},
		{"check -c FILE", "[server]\nprot = 3653\n", exitConfig, "", "FILE:2: server.prot: unknown key: did you mean \"port\"?\n"},
		{"-c FILE", leanConfig, exitFailed, "", "ddtb: served\n"},
		{"remove -c FILE", strings.Replace(leanConfig, "[[pool]]", "[datapath]\ndriver = \"null\"\n[[pool]]", 1), exitConfig, "", "server.listen is not set, and there is no uplink"},
	} {
		t.Run(test.line, func(t *testing.T) {
			code, out, errs := command(t, pretend(), test.config, strings.Fields(test.line)...)
			if code != test.code || !strings.Contains(out, test.out) || !strings.Contains(errs, test.errs) || (test.errs == "") != (errs == "") {
				t.Errorf("exit %d, want %d; said\n%s%s", code, test.code, out, errs)
			}
		})
	}
}

// TestHostComplete: what the configuration leaves out is taken from the host.
func TestHostComplete(t *testing.T) {
	c, err := config.Parse("t", []byte(leanConfig))
	if err != nil {
		t.Fatal(err)
	}
	if err := pretend().complete(&c); err != nil {
		t.Fatal(err)
	}
	if c.Server.Name != "tb1" || c.Datapath.Uplinks[0] != "wan0" || c.Datapath.Cores[0] != "core0" || c.Server.Listen[0] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("completed to %+v, %+v", c.Server, c.Datapath)
	}
	if dp := datapathConfig(c); dp.Validate() != nil || dp.Local[0] != netip.MustParseAddrPort("192.0.2.1:3653") {
		t.Errorf("datapath config %+v: %v", dp, dp.Validate())
	}
}

func TestHostCompleteFails(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*host)
		said   string
	}{
		{"no default route", func(h *host) { h.uplink = func(int) (string, error) { return "", errNoRoute } },
			"datapath.uplinks is not set, and the IPv4 default route says nothing: no default route"},
		{"no address", func(h *host) { h.addresses = func(string) ([]netip.Addr, error) { return nil, nil } },
			"server.listen is not set, and the uplink wan0 has no IPv4 address: set server.listen"},
		{"no name", func(h *host) { h.name = func() (string, error) { return "", errors.New("none") } },
			"server.name is not set, and the host has none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := pretend()
			test.change(&h)
			code, _, errs := command(t, h, leanConfig, "check", "-c", "FILE")
			if code != exitConfig || !strings.Contains(errs, "FILE: "+test.said) {
				t.Errorf("exit %d: %s", code, errs)
			}
		})
	}
	h := pretend()
	h.uplink = func(family int) (string, error) {
		if family == unix.AF_INET6 {
			return "", errNoRoute
		}
		return "wan0", nil
	}
	c := config.Default()
	if err := h.complete(&c); err != nil || c.Datapath.Cores[0] != "wan0" {
		t.Errorf("without an IPv6 default route: %v, cores %q; want the uplink", err, c.Datapath.Cores)
	}
}

// TestReport: what a server chose commands no terminal and looks like no other finding.
func TestReport(t *testing.T) {
	var out strings.Builder
	err := report(&out, []finding{{what: "login", detail: "accepted as \x1b[2Jalice\r\u009b\xff\nok    login: accepted", bad: true}, {what: "redis \a", detail: "8.0"}})
	const want = "FAIL  login: accepted as \ufffd[2Jalice\ufffd\ufffd\ufffd\n      ok    login: accepted\nok    redis \ufffd: 8.0\n"
	if out.String() != want || err == nil {
		t.Errorf("got %q, %v, want %q", out.String(), err, want)
	}
}

// TestCheckHost: what is missing is said with what to do.
func TestCheckHost(t *testing.T) {
	dir := t.TempDir()
	c, err := config.Parse("t", []byte(leanConfig))
	if err != nil {
		t.Fatal(err)
	}
	if err := pretend().complete(&c); err != nil {
		t.Fatal(err)
	}
	c.Server.State, c.Control.Socket = filepath.Join(dir, "a", "b"), filepath.Join(dir, "c.sock")
	c.Server.Listen = append(c.Server.Listen, netip.MustParseAddr("192.0.2.9"))
	c.Datapath.Uplinks = append(c.Datapath.Uplinks, "wan9")
	c.Control.Group = "no such group"
	open, missing := filepath.Join(dir, "open"), filepath.Join(dir, "missing")
	if err := os.WriteFile(open, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	c.AAA.Backends, c.AAA.LDAP.PasswordFile = append(c.AAA.Backends, "ldap"), missing
	c.Redis.Addresses, c.Redis.PasswordFile, c.Redis.SentinelPasswordFile = []string{"192.0.2.5:6379"}, open, open
	want := map[string]string{ // what -> said; those that are bad begin with FAIL
		"address 192.0.2.1":            "this host's own, port 3653",
		"address 192.0.2.9":            "FAIL not this host's; see `ip address`",
		"server.state":                 dir + "/a/b, will be made",
		"control.socket":               dir,
		"control.group":                "FAIL group: unknown group no such group: groupadd --system",
		"protection of secret " + open: "everybody on this host may read or change it; chmod o= " + open,
		"secret " + missing:            "FAIL open " + missing,
		"interface wan0":               "there and up",
		"interface wan9":               "FAIL Link not found; see `ip link`",
		"interface core0":              "FAIL down; ip link set core0 up",
	}
	for _, f := range pretend().check(c) {
		said := f.detail
		if f.bad {
			said = "FAIL " + said
		}
		if w, known := want[f.what]; known && !strings.HasPrefix(said, w) {
			t.Errorf("%s: %q, want %q", f.what, said, w)
		}
		delete(want, f.what)
	}
	for what := range want {
		t.Errorf("%s was not looked at", what)
	}
}
