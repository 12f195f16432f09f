// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
)

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
		_, err := c.from.Run(context.Background(), "ping", "-c", "1", "-W", answerTime, c.to.String())
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
	if left := internet.Left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// The measuring flow counts what is lost, and only that.
func TestRootFlow(t *testing.T) {
	internet := raise(t)
	for _, broken := range []bool{false, true} {
		flow, err := StartFlow(internet.Open, netip.Addr{}, internet.Server, ServerIPv4)
		must(t, err)
		must(t, flow.Await(100, patience))
		if broken {
			must(t, internet.Internet.Down("open"))
			sent := flow.sent.Load()
			must(t, Await(patience, func() error {
				if now := flow.sent.Load(); now < sent+100 {
					return fmt.Errorf("%d more sent", now-sent)
				}
				return nil
			}))
		}
		sent, lost, err := flow.Stop()
		must(t, err)
		if sent < 100 || broken && len(lost) < 99 || !broken && len(lost) > 0 {
			t.Errorf("broken %t: sent %d, lost %d", broken, sent, len(lost))
		}
	}
}

func TestRootTransfer(t *testing.T) {
	internet := raise(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := Transfer(ctx, internet.Natted, internet.Server, ServerIPv4, 1<<20); err != nil {
		t.Error(err)
	}
	if _, err := Transfer(ctx, internet.Server, internet.Natted, NattedIPv4, 1<<20); err == nil {
		t.Error("a connection came through the NAT from outside")
	}
}
