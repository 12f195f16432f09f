// SPDX-License-Identifier: GPL-2.0-or-later

package fleet_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/fleet"
	"ddtb/provision/redis/redistest"
)

// A subscriber of one server logs in at another: same addresses, and the first server ends its tunnel at once, with a
// Stop of its own. Then he comes back.
func TestTakeover(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		store := leases(t)
		a, b := start(t, 1, store, open(), nil), start(t, 2, store, open(), nil)
		a.sees(map[string]fleet.NodeState{"ts2": fleet.Serving})
		bystander := a.login("bob", 9)
		first := a.login("alice", 1)
		second := b.login("alice", 2)
		if second.Endpoint != first.Endpoint || second.Prefix != first.Prefix || second.TunnelID != first.TunnelID {
			t.Errorf("at ts2: %v, %v; at ts1: %v, %v", second.Endpoint, second.Prefix, first.Endpoint, first.Prefix)
		}
		a.stopped(first, aaa.CausePortPreempted)
		if a.tunnels() != 1 || b.tunnels() != 1 {
			t.Errorf("%d tunnels at ts1, %d at ts2; expected 1 and 1", a.tunnels(), b.tunnels())
		}
		third := a.login("alice", 1)
		b.stopped(second, aaa.CausePortPreempted)
		if third.Endpoint != first.Endpoint || a.tunnels() != 2 || b.tunnels() != 0 {
			t.Errorf("back at ts1: %v, %d tunnels; at ts2 %d", third.Endpoint, a.tunnels(), b.tunnels())
		}
		if _, there := a.broker.Session(bystander.ID); !there {
			t.Error("a session that nobody took over has ended")
		}
	})
}

// The pools differ: the subscriber gets other addresses, and still his old session ends.
func TestTakeoverFromOtherPool(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		store := leases(t)
		own := func(_ *fleet.Options, c *provision.Config) { c.DefaultPool = "only-" + c.Node }
		a, b := start(t, 1, store, open(), own), prepare(t, 2, store, open(), own)
		a.sees(nil)
		login := func(s *server, client byte) provision.Session {
			r := s.request("alice", client)
			r.Router = false
			session, err := s.take(r)
			must(t, err)
			return session
		}
		first := login(a, 1)
		until(t, "the clock goes on", func() bool { return time.Now().After(first.Since.Add(5 * time.Millisecond)) })
		second := login(b, 2)
		b.run() // what happened before is told, too
		if second.Endpoint == first.Endpoint {
			t.Errorf("endpoint %v of both pools", first.Endpoint)
		}
		a.stopped(first, aaa.CausePortPreempted)
		if b.tunnels() != 1 {
			t.Error("the new session has ended, too")
		}
	})
}

// What the board says is a hint: a login that did not happen ends nothing.
func TestHintsAreNotBelieved(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		board := open()
		a := start(t, 1, leases(t), open(), nil)
		s := a.login("alice", 1)
		other := a.login("bob", 2)
		forged := s
		forged.ID, forged.Since = "ffffffffffffffffffffffff", time.Now().Add(time.Hour)
		until(t, "the agent follows", func() bool { // the last event is for real: when it has worked, the forged ones were read
			must(t, board.Write(t.Context(), "ts9", fleet.Batch{Events: []fleet.Event{{Kind: provision.EventLogin, Session: fleet.Session{Session: forged}}}}))
			must(t, board.Ask(t.Context(), "ts1", fleet.Command{Verb: fleet.Kick, Session: other.ID, By: "ts9"}))
			_, there := a.broker.Session(other.ID)
			return !there
		})
		if _, there := a.broker.Session(s.ID); !there {
			t.Error("a session ended although its lease is its own")
		}
	})
}

// The board shows what is in force, with what was counted; what it lost comes back, what is stale goes.
func TestBoardShowsSessions(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		board := open()
		a := start(t, 1, leases(t), open(), func(o *fleet.Options, _ *provision.Config) { o.Refresh = 50 * time.Millisecond })
		alice, bob := a.login("alice", 1), a.login("bob", 2)
		until(t, "both are on the board", func() bool { return len(a.listed(board, "ts1")) == 2 })
		got := a.listed(board, "ts1")["alice"]
		if got.ID != alice.ID || got.Node != "ts1" || got.Client != alice.Client || got.Endpoint != alice.Endpoint || got.Prefix != alice.Prefix {
			t.Errorf("on the board: %+v; in force: %+v", got, alice)
		}
		stray := fleet.Session{Session: alice}
		stray.ID, stray.Subscriber.Name = "000000000000000000000000", "stray"
		must(t, board.Write(t.Context(), "ts1", fleet.Batch{Put: []fleet.Session{stray}, Drop: []string{bob.ID}, Keep: time.Hour}))
		until(t, "bob is back, and the stray gone", func() bool {
			got := a.listed(board, "ts1")
			return len(got) == 2 && got["bob"].ID == bob.ID
		})
		must(t, a.broker.Release(t.Context(), alice.ID, aaa.CauseUserRequest))
		until(t, "alice is gone", func() bool { return len(a.listed(board, "ts1")) == 1 })
	})
}

// An operator at one server ends a session of another.
func TestKickElsewhere(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		store := leases(t)
		a, b := start(t, 1, store, open(), nil), start(t, 2, store, open(), nil)
		s := b.login("alice", 1)
		until(t, "ts1 can kick what is at ts2", func() bool {
			err := a.Kick(t.Context(), s.ID)
			if err != nil && !errors.Is(err, fleet.ErrNotFound) && !errors.Is(err, fleet.ErrUnavailable) {
				t.Fatal(err)
			}
			return err == nil
		})
		b.stopped(s, aaa.CauseAdminReset)
		if err := a.Kick(t.Context(), s.ID); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("kicked again: %v", err)
		}
	})
}

// A server is drained: it refuses logins, names the other server, ends its sessions; then it serves again.
func TestDrain(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		store := leases(t)
		a := start(t, 1, store, open(), nil)
		if err := a.Drain(t.Context(), "", true); !errors.Is(err, fleet.ErrNowhere) {
			t.Errorf("drained while alone: %v", err)
		}
		b := start(t, 2, store, open(), nil)
		a.sees(map[string]fleet.NodeState{"ts2": fleet.Serving})
		b.sees(map[string]fleet.NodeState{"ts1": fleet.Serving})
		sessions := []provision.Session{a.login("alice", 1), a.login("bob", 2)}
		if to := a.Redirect(); len(to) > 0 {
			t.Errorf("before: clients are sent to %v", to)
		}
		must(t, b.Drain(t.Context(), "ts1", true))
		if to := a.Redirect(); !slices.Equal(to, []netip.Addr{b.Address}) {
			t.Errorf("clients are sent to %v, expected %v", to, b.Address)
		}
		for _, s := range sessions {
			a.stopped(s, aaa.CauseAdminReboot)
		}
		b.sees(map[string]fleet.NodeState{"ts1": fleet.Drained})
		if _, err := a.take(a.request("carol", 3)); !errors.Is(err, provision.ErrBusy) {
			t.Errorf("a login at a drained server: %v", err)
		}
		if back := b.login("alice", 1); back.Endpoint != sessions[0].Endpoint || back.Prefix != sessions[0].Prefix {
			t.Errorf("at the other server: %v, %v; before %v, %v", back.Endpoint, back.Prefix, sessions[0].Endpoint, sessions[0].Prefix)
		}
		if err := b.Drain(t.Context(), "", true); !errors.Is(err, fleet.ErrNowhere) {
			t.Errorf("the last server drained: %v", err)
		}
		must(t, b.Drain(t.Context(), "ts1", false))
		a.login("carol", 3)
		if err := b.Drain(t.Context(), "nobody", true); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("drain of a server that is not there: %v", err)
		}
	})
}

// A server that only sends clients on, and one that shares its load.
func TestBalance(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		store := leases(t)
		door := start(t, 3, store, open(), func(o *fleet.Options, _ *provision.Config) { o.Balance = fleet.Always })
		if _, err := door.take(door.request("alice", 1)); !errors.Is(err, provision.ErrBusy) {
			t.Errorf("a login at a server that gives no tunnels: %v", err)
		}
		balanced := func(o *fleet.Options, c *provision.Config) { o.Balance, c.MaxSessions = fleet.Load, 20 }
		a := start(t, 1, store, open(), balanced)
		until(t, "clients are sent to ts1", func() bool { return slices.Equal(door.Redirect(), []netip.Addr{a.Address}) })
		b := start(t, 2, store, open(), balanced)
		until(t, "clients are sent to either", func() bool { return len(door.Redirect()) == 2 })
		for i := range byte(4) {
			a.login("user"+string('0'+i), i+1)
		}
		until(t, "clients are sent to ts2", func() bool {
			return slices.Equal(door.Redirect(), []netip.Addr{b.Address}) && slices.Equal(a.Redirect(), []netip.Addr{b.Address})
		})
		if to := b.Redirect(); len(to) > 0 {
			t.Errorf("ts2 sends clients to %v", to)
		}
		b.stop()
		until(t, "clients are sent to ts1 again", func() bool {
			return slices.Equal(door.Redirect(), []netip.Addr{a.Address}) && len(a.Redirect()) == 0
		})
	})
}

// Two servers that are told to balance never send clients in a circle, whatever their loads are.
func TestNoCircle(t *testing.T) {
	const capacity = 50
	for i := range capacity {
		for j := range capacity {
			a := fleet.Node{Name: "a", Address: netip.MustParseAddr("192.0.2.1"), State: fleet.Serving, Capacity: capacity, Sessions: i}
			b := fleet.Node{Name: "b", Address: netip.MustParseAddr("192.0.2.2"), State: fleet.Serving, Capacity: capacity, Sessions: j}
			if fleet.SendsAway(a, b) && fleet.SendsAway(b, a) {
				t.Errorf("at loads of %d and %d of %d clients are sent in a circle", i, j, capacity)
			}
		}
	}
}

// Redis goes away in the midst: tunnels and logins go on, and a takeover that nobody heard of is noticed when it is back.
func TestRedisAwayHarmsNobody(t *testing.T) {
	shared := redistest.Start(t)
	open := func() fleet.Board { return fleet.NewRedis(redistest.Open(t, shared.Options()), nil) }
	store := leases(t)
	a, b := start(t, 1, store, open(), nil), start(t, 2, store, open(), nil)
	a.sees(map[string]fleet.NodeState{"ts2": fleet.Serving})
	alice, bob := a.login("alice", 1), a.login("bob", 2)
	until(t, "both are on the board", func() bool { return len(a.listed(open(), "ts1")) == 2 })
	shared.Kill()
	moved := b.login("alice", 3)
	if moved.Endpoint != alice.Endpoint {
		t.Errorf("endpoint %v, before %v", moved.Endpoint, alice.Endpoint)
	}
	carol := a.login("carol", 4)
	if _, err := a.Nodes(t.Context()); !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("list of servers: %v", err)
	}
	if a.tunnels() != 3 || b.tunnels() != 1 {
		t.Errorf("while Redis is away %d and %d tunnels, expected 3 and 1", a.tunnels(), b.tunnels())
	}
	shared.Run()
	a.stopped(alice, aaa.CausePortPreempted)
	until(t, "the board says how it is", func() bool {
		at1, at2 := a.listed(open(), "ts1"), a.listed(open(), "ts2")
		return len(at1) == 2 && at1["bob"].ID == bob.ID && at1["carol"].ID == carol.ID && len(at2) == 1 && at2["alice"].ID == moved.ID
	})
	a.sees(map[string]fleet.NodeState{"ts2": fleet.Serving})
}

// Redis hangs: no login waits for it.
func TestRedisHangs(t *testing.T) {
	shared := redistest.Start(t)
	a := start(t, 1, leases(t), fleet.NewRedis(redistest.Open(t, shared.Options()), nil), nil)
	a.sees(map[string]fleet.NodeState{"ts1": fleet.Serving})
	shared.Pause()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range byte(200) {
			a.login("user"+string(rune(256+int(i))), i+1)
		}
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("logins wait for a Redis that hangs")
	}
	shared.Continue()
	until(t, "all are on the board", func() bool {
		return len(a.listed(fleet.NewRedis(redistest.Open(t, shared.Options()), nil), "ts1")) == 200
	})
}

// A server that dies takes its subscribers' addresses to no grave: at any other server they get them at once.
func TestServerDies(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		store := leases(t)
		a, b := start(t, 1, store, open(), nil), start(t, 2, store, open(), nil)
		s := a.login("alice", 1)
		a.stop() // nobody ended the sessions: their leases say ts1
		if back := b.login("alice", 1); back.Endpoint != s.Endpoint || back.Prefix != s.Prefix {
			t.Errorf("at ts2 %v, %v; at ts1 %v, %v", back.Endpoint, back.Prefix, s.Endpoint, s.Prefix)
		}
		b.sees(map[string]fleet.NodeState{"ts1": fleet.Gone})
	})
}

// The server that died comes back when its subscriber has long been served by another: it gives the Stop record that is
// owed, once, with what its kernel has counted, and stops the tunnel.
func TestServerComesBack(t *testing.T) {
	eachShared(t, func(t *testing.T, f shared) {
		a, b := start(t, 1, f.store(t, "ts1"), f.board(), nil), start(t, 2, f.store(t, "ts2"), f.board(), nil)
		s, bystander := a.login("alice", 1), a.login("bob", 9)
		must(t, a.path.Count(s.TunnelID, datapath.Counters{RxPackets: 3, RxBytes: 300}))
		a.stop()
		moved := b.login("alice", 1)
		for range 2 {
			again, err := provision.New(config("ts1"), provision.Deps{Store: f.store(t, "ts1"), Datapath: a.path, Accountant: a.records, Logger: zerolog.Nop()})
			must(t, err)
			must(t, again.Recover(t.Context()))
			if _, there := again.Session(bystander.ID); !there {
				t.Error("a session that nobody took over has ended")
			}
			records := a.records.Session(s.ID)
			stop := records[len(records)-1]
			if stop.Status != aaa.StatusStop || stop.Cause != aaa.CausePortPreempted || stop.Octets.Input != 300 {
				t.Errorf("the last record is %+v", stop)
			}
			stops := 0
			for _, r := range records {
				if r.Status == aaa.StatusStop {
					stops++
				}
			}
			if stops != 1 || a.tunnels() != 1 {
				t.Errorf("%d Stop records and %d tunnels, expected one of either", stops, a.tunnels())
			}
		}
		if _, there := b.broker.Session(moved.ID); !there || b.tunnels() != 1 {
			t.Error("the session at ts2 has ended")
		}
	})
}

// The server that died never comes back. A daemon of its name, on whatever host and without its tunnels, ends what it had, each
// session once, also those that nobody took over; should the old one come back after all, it finds nothing more to give.
func TestServerNeverComesBack(t *testing.T) {
	eachShared(t, func(t *testing.T, f shared) {
		a, b := start(t, 1, f.store(t, "ts1"), f.board(), nil), start(t, 2, f.store(t, "ts2"), f.board(), nil)
		taken, left := a.login("alice", 1), a.login("bob", 9)
		a.stop()
		moved := b.login("alice", 1)
		heir, records := start(t, 1, f.store(t, "ts1"), f.board(), nil), a.records
		must(t, heir.broker.Shutdown(t.Context(), false))
		heir.stop()
		for s, cause := range map[string]aaa.Cause{taken.ID: aaa.CauseNASReboot, left.ID: aaa.CauseAdminReboot} {
			stops := slices.DeleteFunc(heir.records.Session(s), func(r aaa.Record) bool { return r.Status != aaa.StatusStop })
			if len(stops) != 1 || stops[0].Cause != cause {
				t.Errorf("Stop records of %s: %+v; expected one for cause %v", s, stops, cause)
			}
		}
		before := len(records.Records())
		late, err := provision.New(config("ts1"), provision.Deps{Store: f.store(t, "ts1"), Datapath: a.path, Accountant: records, Logger: zerolog.Nop()})
		must(t, err)
		must(t, late.Recover(t.Context()))
		for _, r := range records.Records()[before:] {
			if r.Session != "" {
				t.Errorf("the server that came back after all gave %+v", r)
			}
		}
		if _, there := b.broker.Session(moved.ID); !there || b.tunnels() != 1 || a.tunnels() != 0 {
			t.Errorf("%d tunnels at ts2, %d at ts1; expected 1 and 0", b.tunnels(), a.tunnels())
		}
	})
}

// Alone a server needs no board.
func TestAlone(t *testing.T) {
	a := start(t, 1, leases(t), nil, nil)
	a.login("alice", 1)
	nodes, err := a.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Name != "ts1" || nodes[0].Sessions != 1 || nodes[0].State != fleet.Serving {
		t.Errorf("servers are %+v (%v)", nodes, err)
	}
	n := 0
	for s, err := range a.Sessions(context.Background()) {
		must(t, err)
		if s.Node != "ts1" || s.Subscriber.Name != "alice" {
			t.Errorf("session %+v", s)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d sessions", n)
	}
	if err := a.Drain(t.Context(), "", true); !errors.Is(err, fleet.ErrNowhere) {
		t.Errorf("drain: %v", err)
	}
	if err := a.Drain(t.Context(), "ts2", true); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("drain of another: %v", err)
	}
	if err := a.Kick(t.Context(), "x"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("kick: %v", err)
	}
}
