// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"

	"ddtb/cmd/tspc/config"
)

// writeFile writes a configuration and gives its name.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tspc.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// execute runs a command line without touching the machine.
func execute(environment map[string]string, args ...string) (stdout string, err error) {
	var out, errs bytes.Buffer
	c := command(&out, &errs, func(name string) string { return environment[name] })
	c.SetArgs(args)
	err = c.ExecuteContext(context.Background())
	return out.String() + errs.String(), err
}

func TestCheck(t *testing.T) {
	good := writeFile(t, "server = [\"a.example\"]\nuser = \"u\"\n")
	password := map[string]string{"TSPC_PASSWORD": "secret"}
	if out, err := execute(password, "--check", "-c", good); err != nil || out != "configuration is good\n" {
		t.Errorf("%q, %v", out, err)
	}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no password", []string{"--check", "-c", good}, "no password for user u"},
		{"unknown key", []string{"--check", "-c", writeFile(t, "x = 1")}, "tspc.toml:1: unknown key x"},
		{"missing file", []string{"--check", "-c", "/nonexistent/x"}, "no such file"},
		{"default file and no server", []string{"--check"}, config.DefaultFile},
		{"wrong flag", []string{"--password", "p"}, "unknown flag: --password"},
		{"argument", []string{"up"}, `unknown command "up"`},
		{"wrong value", []string{"--check", "-c", good, "--mtu", "9"}, "mtu: 9"},
	} {
		if _, err := execute(nil, test.args...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		} else if test.name != "argument" && !errors.As(err, new(usageError)) {
			t.Errorf("%s: %v is no usageError", test.name, err)
		}
	}
}

// TestFlagsOverrideTheFile: each flag has its key, and a flag that is not given leaves the file's value.
func TestFlagsOverrideTheFile(t *testing.T) {
	file := writeFile(t, "server = [\"a\"]\nuser = \"u\"\npassword = \"p\"\nmtu = 1300\n")
	args := []string{
		"--server", "b,c:1", "--user", "v", "--password-file", "/f", "--mechanism", "plain", "--tunnel", "v6v4", "--transport", "tcp",
		"--keepalive", "5s", "--interface", "t9", "--mtu", "1400", "--default-route", "none", "--metric", "5", "--run-dir", "/r",
		"--log-level", "warn", "--lan", "x,y", "--prefix-length", "48",
	}
	want := config.Config{
		Server: []string{"b", "c:1"}, User: "v", PasswordFile: "/f", Mechanism: "plain", Tunnel: "v6v4", Transport: "tcp",
		Keepalive: config.Duration(5e9), Interface: "t9", MTU: 1400, Proto41: "auto", DefaultRoute: "none", Metric: 5, RunDir: "/r",
		LogLevel: "warn", Router: config.Router{Enable: true, LAN: []string{"x", "y"}, PrefixLength: 48, Advertise: true},
	}
	if len(overrides) != len(args)/2 {
		t.Errorf("%d flags, %d in this test", len(overrides), len(args)/2)
	}
	// parse gives what a command line makes of the file.
	parse := func(args ...string) (got config.Config, err error) {
		var flags config.Config
		c := &cobra.Command{RunE: func(c *cobra.Command, _ []string) error {
			got, err = configure(file, c, flags)
			return err
		}}
		defineFlags(c, &flags)
		c.SetArgs(args)
		err = c.Execute()
		return got, err
	}
	got, err := parse(args...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(config.Config{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := parse(); err != nil || got.User != "u" || got.MTU != 1300 || got.Metric != 2048 {
		t.Errorf("without flags: %+v, %v", got, err)
	}
}

// TestNoFileNeeded: flags can be enough.
func TestNoFileNeeded(t *testing.T) {
	if _, err := os.Stat(config.DefaultFile); err == nil {
		t.Fatalf("%s exists on this machine", config.DefaultFile)
	}
	if out, err := execute(nil, "--check", "--server", "a.example"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestVersion(t *testing.T) {
	var out strings.Builder
	root := command(&out, io.Discard, func(string) string { return "" })
	root.SetArgs([]string{"--version"})
	if err := root.Execute(); err != nil || out.String() != "tspc "+version+"\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
