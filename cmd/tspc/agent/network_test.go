// SPDX-License-Identifier: GPL-2.0-or-later

package agent

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ddtb/cmd/tspc/host"
	"ddtb/tsp"
)

// pathless is what the world has for a server that cannot be reached.
var pathless = host.Path{}

// redirect is a server's answer that sends us to others.
func redirect(hosts ...byte) error {
	status := &tsp.StatusError{Code: tsp.StatusSuccess}
	for _, n := range hosts {
		status.Brokers = append(status.Brokers, tsp.Broker{Addr: address(n).Addr()})
	}
	return status
}

func TestRedirect(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.dial = func(server netip.AddrPort, _ int) (time.Duration, error) {
			switch server {
			case address(1):
				return 0, redirect(5, 6)
			case address(6): // the nearest, but full
				return 0, &tsp.StatusError{Code: tsp.StatusNoTunnels}
			}
			return 0, nil
		}
		w.run(nil, "one")
		expect(t, w, "dial 192.0.2.1", "redirected", "dial 192.0.2.6", "failed: 301 No more tunnels available",
			"dial 192.0.2.5", "raise 3", "up")
	})
}

// TestRefusalWithBrokers: a list may follow any refusal (RFC 5572 appendix B).
func TestRefusalWithBrokers(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.dial = func(server netip.AddrPort, _ int) (time.Duration, error) {
			if server == address(1) {
				return 0, &tsp.StatusError{Code: tsp.StatusNoTunnels, Brokers: []tsp.Broker{{Name: "two"}}}
			}
			return 0, nil
		}
		w.run(nil, "one")
		expect(t, w, "dial 192.0.2.1", "failed: 1301 No more tunnels available", "redirected", "dial 192.0.2.2", "raise 2", "up")
	})
}

func TestRedirectionLoops(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.dial = func(server netip.AddrPort, _ int) (time.Duration, error) {
			if server == address(1) {
				return 0, redirect(2)
			}
			return 0, redirect(1)
		}
		w.run(nil, "one", "two")
		expect(t, w, "dial 192.0.2.1", "redirected", "dial 192.0.2.2", "redirected",
			"failed: asked already in this round", "failed: asked already in this round", "waiting")
	})
}

// TestRedirectionIsBounded: servers that always name others are left alone soon, in depth and in breadth.
func TestRedirectionIsBounded(t *testing.T) {
	for _, test := range []struct {
		name    string
		brokers int
		dials   int
	}{{"a chain", 1, maxHops + 1}, {"a tree", 20, maxAttempts}} {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				next := byte(10)
				w.dial = func(netip.AddrPort, int) (time.Duration, error) {
					var hosts []byte
					for range test.brokers {
						next++
						hosts = append(hosts, next)
					}
					return 0, redirect(hosts...)
				}
				w.run(nil, "one")
				diary := w.take()
				if w.dialled != test.dials || diary[len(diary)-1] != "waiting" {
					t.Errorf("%d dialogues, want %d: %s", w.dialled, test.dials, strings.Join(diary, ", "))
				}
			})
		})
	}
}

func TestNoPathIsAFailure(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.paths[address(1).Addr()] = pathless
		w.run(nil, "one")
		expect(t, w, "failed: network is unreachable", "waiting")
		if w.dialled != 0 {
			t.Error("a dialogue without a way")
		}
	})
}

// TestNewNetwork: a machine that comes online tries at once instead of waiting for its turn.
func TestNewNetwork(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.paths[address(1).Addr()] = pathless
		w.run(nil, "one")
		time.Sleep(20 * time.Minute) // by now it waits five
		w.take()
		w.move(address(1).Addr(), 0) // a change that gives no path
		time.Sleep(minRound)
		expect(t, w)
		w.move(address(1).Addr(), 4)
		time.Sleep(settle)
		expect(t, w, "dial 192.0.2.1", "raise 1", "up")
	})
}

// TestNewNetworkForNames: a name that could not be resolved may be found in another network.
func TestNewNetworkForNames(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(nil, "later")
		time.Sleep(20 * time.Minute)
		w.take()
		w.names["later"] = []netip.AddrPort{address(1)}
		w.changed <- struct{}{}
		time.Sleep(minRound)
		expect(t, w, "dial 192.0.2.1", "raise 1", "up")
	})
}

// TestRefusalOutlivesTheNetwork: a wrong password is as wrong in another network.
func TestRefusalOutlivesTheNetwork(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.dial = func(netip.AddrPort, int) (time.Duration, error) {
			return 0, &tsp.StatusError{Code: tsp.StatusAuthFailed}
		}
		w.run(nil, "one")
		w.take()
		w.move(address(1).Addr(), 4)
		time.Sleep(minRound)
		expect(t, w)
	})
}

// TestPathChange: another interface means another address, or another NAT: the old tunnel is of no use.
func TestPathChange(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(nil, "one")
		w.take()
		time.Sleep(time.Minute)
		w.move(address(1).Addr(), 4)
		time.Sleep(settle)
		expect(t, w, "lower", "down: the network changed", "close 1", "dial 192.0.2.1", "raise 2", "up")
		w.move(address(1).Addr(), 5) // at once again: not faster than minRound
		time.Sleep(settle)
		expect(t, w, "lower", "down: the network changed", "close 2", "waiting")
		time.Sleep(minRound - settle)
		expect(t, w, "dial 192.0.2.1", "raise 3", "up")
	})
}

// TestBlip: a network that is back before it is missed costs nothing.
func TestBlip(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(nil, "one")
		w.take()
		w.move(address(1).Addr(), 0)
		time.Sleep(3 * settle)
		expect(t, w)
		w.move(address(1).Addr(), 1)
		time.Sleep(3 * settle)
		expect(t, w)
	})
}

func TestServerString(t *testing.T) {
	for _, test := range []struct {
		server Server
		want   string
	}{
		{Server{"broker.example", DefaultPort}, "broker.example"},
		{Server{"192.0.2.1", 4000}, "192.0.2.1:4000"},
	} {
		if got := fmt.Sprint(test.server); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
