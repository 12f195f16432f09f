// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// prefix begins every name these tests leave outside their process.
const prefix = "ee"

// raise gives a test the small Internet.
func raise(t *testing.T) *Internet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	internet, err := Raise(prefix, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(internet.Close)
	return internet
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The stage itself: IPv4 goes everywhere but through the NAT from outside, IPv6 goes nowhere yet.
func TestRootInternet(t *testing.T) {
	internet := raise(t)
	for _, c := range []struct {
		from *Host
		to   netip.Addr
		ok   bool
	}{
		{internet.Open, ServerIPv4, true},
		{internet.Natted, ServerIPv4, true},
		{internet.Natted, OpenIPv4, true},
		{internet.Open, NattedIPv4, false},
		{internet.Open, BeyondIPv6, false},
		{internet.Server, BeyondIPv6, true},
	} {
		_, err := c.from.Run(context.Background(), "ping", "-c", "1", "-W", "1", c.to.String())
		if (err == nil) != c.ok {
			t.Errorf("ping from %s to %s: %v, want success %t", c.from.Name, c.to, err, c.ok)
		}
	}
}

func TestRootInternetLeavesNothing(t *testing.T) {
	internet := raise(t)
	sleeper, err := internet.Open.Start("sleep", "600")
	must(t, err)
	internet.Close()
	if err := sleeper.Wait(t.Context()); err == nil {
		t.Error("a process on a host outlived it")
	}
	left, err := filepath.Glob("/run/netns/" + prefix + "-*")
	must(t, err)
	if len(left) > 0 {
		t.Errorf("namespaces left: %v", left)
	}
	if _, err := os.Stat(internet.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", internet.Dir, err)
	}
}
