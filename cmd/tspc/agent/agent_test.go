// SPDX-License-Identifier: GPL-2.0-or-later

package agent

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ddtb/tsp"
)

// in runs a test in a world with a fake clock.
func in(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

func expect(t *testing.T, w *world, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.take()); diff != "" {
		t.Fatalf("after %v (-want +got):\n%s", w.since(), diff)
	}
}

var errDead = errors.New("dead")

func TestUpAndProperEnd(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		stop := w.run(nil, "one")
		expect(t, w, "dial 192.0.2.1", "raise 1", "up")
		time.Sleep(24 * time.Hour)
		expect(t, w)
		if err := stop(); err != nil {
			t.Error(err)
		}
		expect(t, w, "clear", "delete 1", "close 1", "stopped")
	})
}

// TestMachineFirst: the machine is put back even if the server does not want to hear of it.
func TestMachineFirst(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.undelete = errors.New("silence")
		stop := w.run(nil, "one")
		w.take()
		if err := stop(); err != nil {
			t.Error(err)
		}
		expect(t, w, "clear", "delete 1", "undeleted", "close 1", "stopped")
	})
}

func TestLossLeadsToANewSession(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(nil, "one")
		w.take()
		time.Sleep(time.Hour)
		w.death <- errDead
		expect(t, w, "lower", "down: dead", "close 1", "waiting")
		time.Sleep(firstDelay)
		expect(t, w, "dial 192.0.2.1", "raise 2", "up")
	})
}

// TestFlapping: tunnels that die at once are failures, however well the logins go.
func TestFlapping(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(nil, "one")
		for range 4 {
			time.Sleep(15 * time.Second)
			w.death <- errDead
			w.take()
		}
		if want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}; !slices.Equal(w.delay, want) {
			t.Fatalf("delays %v, want %v", w.delay, want)
		}
		time.Sleep(8*time.Second + stable)
		w.death <- errDead
		synctest.Wait()
		if got := w.delay[4]; got != time.Second {
			t.Errorf("delay after a tunnel that stood: %v", got)
		}
	})
}

func TestDelaysDoubleUpToTheirMost(t *testing.T) {
	for _, test := range []struct {
		name        string
		err         error
		first, most time.Duration
	}{
		{"no answer", tsp.ErrTimeout, firstDelay, maxDelay},
		{"busy", &tsp.StatusError{Code: tsp.StatusBusy}, firstDelay, maxDelay},
		{"refused", &tsp.StatusError{Code: tsp.StatusAuthFailed}, firstRefusal, maxRefusal},
		{"tunnel type", &tsp.StatusError{Code: tsp.StatusBadTunnelType}, firstRefusal, maxRefusal},
		{"mechanism", tsp.ErrMechanism, firstRefusal, maxRefusal},
	} {
		for _, chance := range []float64{0, 0.5} {
			t.Run(test.name, func(t *testing.T) {
				in(t, func(t *testing.T, w *world) {
					w.dial = func(netip.AddrPort, int) (time.Duration, error) { return 0, test.err }
					w.run(func(c *Config) { c.Rand = func() float64 { return chance } }, "one")
					time.Sleep(24 * time.Hour)
					w.take()
					want := test.first
					for i, got := range w.delay {
						if jittered := want - time.Duration(chance*0.5*float64(want)); got != jittered {
							t.Fatalf("delay %d: %v, want %v", i, got, jittered)
						}
						want = min(2*want, test.most)
					}
					if len(w.delay) < 20 {
						t.Fatalf("%d rounds in a day", len(w.delay))
					}
				})
			})
		}
	}
}

func TestServersTakeTurns(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.names["two"] = []netip.AddrPort{address(2), address(3)}
		w.dial = func(server netip.AddrPort, n int) (time.Duration, error) {
			if n < 6 {
				return 0, errors.New("deaf")
			}
			return 0, nil
		}
		w.run(nil, "one", "nameless", "two")
		expect(t, w, "dial 192.0.2.1", "failed: deaf", "failed: no such name", "dial 192.0.2.2", "failed: deaf",
			"dial 192.0.2.3", "failed: deaf", "waiting")
		time.Sleep(firstDelay)
		expect(t, w, "dial 192.0.2.1", "failed: deaf", "failed: no such name", "dial 192.0.2.2", "failed: deaf",
			"dial 192.0.2.3", "raise 6", "up")
	})
}

// TestOneRefusalAServer: the other addresses of a server that refused are not asked, the next server is.
func TestOneRefusalAServer(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.names["one"] = []netip.AddrPort{address(1), address(9)}
		w.dial = func(server netip.AddrPort, _ int) (time.Duration, error) {
			return 0, &tsp.StatusError{Code: tsp.StatusAuthFailed}
		}
		w.run(nil, "one", "two")
		expect(t, w, "dial 192.0.2.1", "failed: 300 Authentication failed",
			"dial 192.0.2.2", "failed: 300 Authentication failed", "waiting")
	})
}

func TestOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		stop := w.run(func(c *Config) { c.Once = true }, "one")
		w.death <- errDead
		expect(t, w, "dial 192.0.2.1", "raise 1", "up", "lower", "down: dead", "close 1", "clear", "stopped")
		if err := stop(); !errors.Is(err, errDead) {
			t.Errorf("%v, want %v", err, errDead)
		}
	})
	in(t, func(t *testing.T, w *world) {
		w.dial = func(netip.AddrPort, int) (time.Duration, error) { return 0, tsp.ErrTimeout }
		stop := w.run(func(c *Config) { c.Once = true }, "one", "two")
		synctest.Wait()
		if err := stop(); !errors.Is(err, tsp.ErrTimeout) || !strings.Contains(err.Error(), "two: ") {
			t.Errorf("%v", err)
		}
		expect(t, w, "dial 192.0.2.1", "failed: no answer from the server", "dial 192.0.2.2",
			"failed: no answer from the server", "clear", "stopped")
	})
}

// TestMachineRefuses: a tunnel the machine cannot use is given back, and tried again with patience.
func TestMachineRefuses(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.raise = func(n int) error {
			if n < 3 {
				return errors.New("no LAN")
			}
			return nil
		}
		w.run(nil, "one")
		expect(t, w, "dial 192.0.2.1", "raise 1", "lower", "down: no LAN", "delete 1", "close 1", "waiting")
		time.Sleep(firstDelay)
		expect(t, w, "dial 192.0.2.1", "raise 2", "lower", "down: no LAN", "delete 2", "close 2", "waiting")
		time.Sleep(2 * firstDelay)
		expect(t, w, "dial 192.0.2.1", "raise 3", "up")
	})
}

// TestRenewal: before a lifetime ends there is another session, and the old one works until then.
func TestRenewal(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.dial = func(_ netip.AddrPort, n int) (time.Duration, error) {
			if n == 3 {
				return 0, tsp.ErrTimeout
			}
			return time.Hour, nil
		}
		w.run(nil, "one")
		expect(t, w, "dial 192.0.2.1", "raise 1", "up")
		time.Sleep(45*time.Minute - time.Nanosecond)
		expect(t, w)
		time.Sleep(time.Nanosecond)
		expect(t, w, "dial 192.0.2.1", "raise 2", "up", "close 1")
		time.Sleep(45 * time.Minute)
		expect(t, w, "dial 192.0.2.1", "failed: no answer from the server")
		time.Sleep(firstDelay)
		expect(t, w, "dial 192.0.2.1", "raise 4", "up", "close 2")
	})
}
