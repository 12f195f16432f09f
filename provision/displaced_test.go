// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

// displaced is what sessions of this server have left in the store.
func (w *world) displaced() (out []lease.Lease) {
	w.Helper()
	for l, err := range w.store.All(w.Context()) {
		if err != nil {
			w.Fatal(err)
		}
		if l.State == lease.Displaced && l.Node == w.config.Node {
			out = append(out, l)
		}
	}
	return out
}

// poachStep lets a subscriber who has a session here log in at another server, and perhaps out.
func (l *life) poachStep(ctx context.Context) {
	for s := range l.Sessions(Filter{State: Active}) {
		if s.Subscriber.Anonymous {
			continue
		}
		id, _ := newID(l.Broker.rand)
		got, err := l.store.Acquire(ctx, lease.Request{Pool: s.Pool, Owner: s.Owner, Session: id.String(), Node: "other", TTL: time.Hour})
		if err != nil {
			l.Fatal(err)
		}
		l.poached[s.ID] = true
		delete(l.acked, s.Owner)
		if l.random.IntN(2) == 0 {
			if err := l.store.Release(ctx, lease.Holder{Pool: got.Pool, Index: got.Index, Session: got.Session}); err != nil {
				l.Fatal(err)
			}
		}
		return
	}
}

// A subscriber logs in elsewhere while this server's daemon is down. When it is back it gives the Stop record, once, with
// what the kernel has counted.
func TestRestartAfterTakeover(t *testing.T) {
	for name, marked := range map[string]bool{"started": true, "starting": false} {
		t.Run(name, func(t *testing.T) {
			w := start(t, testConfig())
			other := beside(w, "other", neighbours{})
			r := request("alice", client(1, 1))
			r.Subscriber.Class = [][]byte{[]byte("opaque")}
			s := w.login(r)
			if marked {
				w.sweepAfter(time.Second)
			}
			w.send(s, 4)
			w.clock.advance(time.Minute) // nobody sweeps: it is dead
			moved := other.login(request("alice", client(2, 2)))
			gone := w.clock.Now()
			w.clock.advance(30 * time.Second)
			w.restart()
			w.gone(s)
			if _, ok := w.tunnel(s.TunnelID); ok {
				t.Error("its tunnel is in force")
			}
			records := w.records.Session(s.ID)
			if n := len(records); marked && n != 2 || !marked && n != 3 || records[n-2].Status != aaa.StatusStart {
				t.Fatalf("records are %+v", records) // that the Start was given need not be known
			}
			stop := records[len(records)-1]
			if stop.Status != aaa.StatusStop || stop.Cause != aaa.CausePortPreempted || stop.Packets.Input != 4 || !stop.Time.Equal(gone) ||
				stop.Endpoint != s.Endpoint || stop.Prefix != s.Prefix || string(stop.Subscriber.Class[0]) != "opaque" {
				t.Errorf("Stop record is %+v", stop)
			}
			if left := w.displaced(); len(left) > 0 {
				t.Errorf("displaced are %+v", left)
			}
			before := len(records)
			w.restart()
			if n := len(w.records.Session(s.ID)); n != before {
				t.Errorf("%d records after one more restart, %d before", n, before)
			}
			other.forwards(moved)
			other.sweepAfter(time.Second)
			other.forwards(moved)
		})
	}
}

// The host was down, not only the daemon: the kernel knows nothing any more.
func TestRebootAfterTakeover(t *testing.T) {
	w := start(t, testConfig())
	other := beside(w, "other", neighbours{})
	s := w.login(request("alice", client(1, 1)))
	w.send(s, 2)
	w.sweepAfter(time.Second)
	w.path.Reboot()
	w.clock.advance(time.Minute)
	other.login(request("alice", client(2, 2)))
	w.clock.advance(time.Hour)
	w.restart()
	if stop := w.stopped(s, aaa.CauseNASReboot); stop.SessionTime != time.Minute+time.Second {
		t.Errorf("Stop record is %+v", stop)
	}
}

// What an Interim record has told is not taken back, whether the session goes on after a reboot or has gone elsewhere.
func TestRebootKeepsWhatWasTold(t *testing.T) {
	for name, moved := range map[string]bool{"here": false, "elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.Interim = time.Minute
			w := start(t, config)
			other := beside(w, "other", neighbours{})
			s := w.login(request("alice", client(1, 1)))
			w.sweepAfter(time.Second)
			w.clock.advance(time.Minute)
			w.send(s, 7)
			w.sweep(t.Context())
			told := w.billed(s, aaa.StatusStart, aaa.StatusInterim)[1]
			w.send(s, 1) // since then
			w.path.Reboot()
			if moved {
				other.login(request("alice", client(2, 2)))
			}
			w.restart()
			if !moved {
				w.forwards(s)
				w.send(s, 2)
				if err := w.Release(t.Context(), s.ID, aaa.CauseUserRequest); err != nil {
					t.Fatal(err)
				}
				told.Packets.Input += 2
			}
			records := w.billed(s, aaa.StatusStart, aaa.StatusInterim, aaa.StatusStop)
			if stop := records[2]; stop.Packets.Input != told.Packets.Input || told.Packets.Input < 7 {
				t.Errorf("Stop record is %+v, told was %+v", stop, told)
			}
		})
	}
}

// A server that is there notices by itself, and leaves nothing behind.
func TestTakeoverLeavesNothing(t *testing.T) {
	w := start(t, testConfig())
	other := beside(w, "other", neighbours{})
	one, bob := w.login(request("alice", client(1, 1))), w.login(request("bob", client(9, 9)))
	w.sweepAfter(time.Second)
	elsewhere := other.login(request("alice", client(2, 2)))
	bobs := other.login(request("bob", client(8, 8)))
	two := w.login(request("alice", client(3, 3))) // back before anybody noticed
	w.stopped(one, aaa.CausePortPreempted)
	reassert(w)
	w.stopped(bob, aaa.CausePortPreempted)
	if left := w.displaced(); len(left) > 0 {
		t.Errorf("displaced at the first server: %+v", left)
	}
	if left := other.displaced(); len(left) != 1 || left[0].Session != elsewhere.ID {
		t.Errorf("displaced at the other: %+v", left)
	}
	reassert(other)
	other.stopped(elsewhere, aaa.CausePortPreempted)
	if left := other.displaced(); len(left) > 0 {
		t.Errorf("displaced at the other: %+v", left)
	}
	w.restart()
	w.billed(one, aaa.StatusStart, aaa.StatusStop)
	other.restart()
	w.forwards(two)
	other.forwards(bobs)
}

// reassert has a server ask for all its leases, and sweep.
func reassert(w *world) {
	w.Helper()
	if err := w.Reassert(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.sweepAfter(time.Second)
}

// A server that was stopped for so long that somebody else has got the address of a session bills that as what it is, whether its
// daemon goes on, hears of the other's session from its server, or is started again.
func TestLeaseRanOut(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause aaa.Cause
		learn func(w *world, rival Rival)
	}{
		{"sweep", aaa.CauseNASError, func(w *world, _ Rival) { reassert(w) }},
		{"contest", aaa.CauseNASError, func(w *world, rival Rival) {
			if err := w.Contest(w.Context(), rival); err != nil {
				w.Error(err)
			}
		}},
		{"restart", aaa.CauseNASReboot, func(w *world, _ Rival) { w.restart() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := start(t, testConfig())
			other := beside(w, "other", neighbours{})
			alice := w.login(request("alice", client(1, 1)))
			w.sweepAfter(time.Second)
			w.clock.advance(w.settings.Load().LeaseTTL + lease.DefaultQuarantine)
			index, _ := w.settings.Load().pool(alice.Pool).EndpointIndex(alice.Endpoint)
			if err := w.store.Reserve(t.Context(), alice.Pool, index, "bob", true); err != nil {
				t.Fatal(err)
			}
			bob := other.login(request("bob", client(2, 2)))
			if bob.Endpoint != alice.Endpoint {
				t.Fatalf("bob's endpoint is %v, alice's %v", bob.Endpoint, alice.Endpoint)
			}
			c.learn(w, Rival{ID: bob.ID, Owner: bob.Owner, Pool: bob.Pool, Endpoint: bob.Endpoint, Since: bob.Since})
			w.stopped(alice, c.cause)
			other.forwards(bob)
		})
	}
}
