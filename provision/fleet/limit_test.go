// SPDX-License-Identifier: GPL-2.0-or-later

package fleet_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/fleet"
)

// limited lets a subscriber have so many sessions; a further one is refused or replaces the quietest. No server is taken for
// gone because the machine is busy.
func limited(n int, deny bool) func(*fleet.Options, *provision.Config) {
	return func(o *fleet.Options, c *provision.Config) {
		o.Heartbeat, c.Sessions = time.Second, provision.Sessions{Limit: n, Deny: deny}
	}
}

// pass lets the clocks go on, so that sessions do not begin together.
func pass(t *testing.T) {
	t.Helper()
	began := time.Now()
	until(t, "the clock goes on", func() bool { return time.Since(began) > 5*time.Millisecond })
}

// Two sessions may be anywhere; the third takes the place of the one longest silent, wherever that is.
func TestLimitOfAllServers(t *testing.T) {
	eachShared(t, func(t *testing.T, f shared) {
		a, b := start(t, 1, f.store(t, "ts1"), f.board(), limited(2, false)), start(t, 2, f.store(t, "ts2"), f.board(), limited(2, false))
		a.sees(map[string]fleet.NodeState{"ts2": fleet.Serving})
		b.sees(map[string]fleet.NodeState{"ts1": fleet.Serving})
		first := a.login("alice", 1)
		pass(t)
		second := b.login("alice", 2)
		if first.Endpoint == second.Endpoint || first.Owner == second.Owner {
			t.Fatalf("the second session took %v of the first", second.Endpoint)
		}
		pass(t)
		third := b.login("alice", 3)
		a.stopped(first, aaa.CausePortPreempted)
		if third.Endpoint != first.Endpoint || b.tunnels() != 2 {
			t.Errorf("third session: %v, %d tunnels at ts2; expected the first one's %v, and 2", third.Endpoint, b.tunnels(), first.Endpoint)
		}
		pass(t)
		fourth := a.login("alice", 4)
		b.stopped(second, aaa.CausePortPreempted)
		if a.tunnels() != 1 || b.tunnels() != 1 || fourth.Endpoint != second.Endpoint {
			t.Errorf("%d and %d tunnels, the last with %v, expected %v", a.tunnels(), b.tunnels(), fourth.Endpoint, second.Endpoint)
		}
		pass(t)
		must(t, b.broker.Release(t.Context(), third.ID, aaa.CauseUserRequest))
		if fifth := b.login("alice", 5); fifth.Endpoint != third.Endpoint || a.tunnels() != 1 {
			t.Errorf("a slot was free at ts2, and ts1 has %d tunnels", a.tunnels())
		}
	})
}

// Who has his sessions is refused everywhere, until one ends, its client comes again or its server is gone.
func TestDenyAtAllServers(t *testing.T) {
	eachShared(t, func(t *testing.T, f shared) {
		a, b := start(t, 1, f.store(t, "ts1"), f.board(), limited(1, true)), start(t, 2, f.store(t, "ts2"), f.board(), limited(1, true))
		a.sees(map[string]fleet.NodeState{"ts2": fleet.Serving})
		denied := func(s *server, client byte, want error) {
			t.Helper()
			if _, err := s.take(s.request("alice", client)); !errors.Is(err, want) {
				t.Errorf("a second login at %s: %v, expected %v", s.name, err, want)
			}
		}
		offer, err := a.broker.Offer(t.Context(), a.request("alice", 1))
		must(t, err)
		denied(b, 2, provision.ErrInProgress)
		must(t, a.broker.Activate(t.Context(), offer.ID))
		denied(b, 2, provision.ErrDenied)
		denied(a, 2, provision.ErrDenied)
		if a.tunnels() != 1 {
			t.Error("the session that was there has ended")
		}
		moved := b.login("alice", 1) // the same client, at another server
		a.stopped(offer, aaa.CausePortPreempted)
		denied(a, 2, provision.ErrDenied)
		must(t, b.broker.Release(t.Context(), moved.ID, aaa.CauseUserRequest))
		again := a.login("alice", 2)
		denied(b, 3, provision.ErrDenied)
		a.stop() // dead: nobody ended its session
		b.sees(map[string]fleet.NodeState{"ts1": fleet.Gone})
		if last := b.login("alice", 3); last.Endpoint != again.Endpoint {
			t.Errorf("endpoint %v, before %v", last.Endpoint, again.Endpoint)
		}
	})
}

// Servers that have pools of their own count together no less.
func TestDenyInOtherPool(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		store := leases(t)
		own := func(o *fleet.Options, c *provision.Config) {
			limited(1, true)(o, c)
			c.DefaultPool = "only-" + c.Node
		}
		a, b := start(t, 1, store, open(), own), start(t, 2, store, open(), own)
		a.sees(map[string]fleet.NodeState{"ts2": fleet.Serving})
		request := func(s *server, client byte) provision.Request {
			r := s.request("alice", client)
			r.Router = false
			return r
		}
		first, err := a.take(request(a, 1))
		must(t, err)
		if _, err := b.take(request(b, 2)); !errors.Is(err, provision.ErrDenied) {
			t.Errorf("a second login at ts2: %v", err)
		}
		must(t, a.broker.Release(t.Context(), first.ID, aaa.CauseUserRequest))
		_, err = b.take(request(b, 2))
		must(t, err)
	})
}

// Many logins of one subscriber at once, at all servers: as many come through as may.
func TestLimitAtOnce(t *testing.T) {
	eachShared(t, func(t *testing.T, f shared) {
		const limit = 3
		servers := []*server{
			start(t, 1, f.store(t, "ts1"), f.board(), limited(limit, true)), start(t, 2, f.store(t, "ts2"), f.board(), limited(limit, true)),
			start(t, 3, f.store(t, "ts3"), f.board(), limited(limit, true)),
		}
		for _, s := range servers {
			s.sees(map[string]fleet.NodeState{"ts1": fleet.Serving, "ts2": fleet.Serving, "ts3": fleet.Serving})
		}
		var wait sync.WaitGroup
		var came atomic.Int32
		for i := range byte(24) {
			s := servers[i%3]
			wait.Go(func() {
				switch _, err := s.take(s.request("alice", i+1)); {
				case err == nil:
					came.Add(1)
				case !errors.Is(err, provision.ErrDenied) && !errors.Is(err, provision.ErrInProgress):
					t.Error(err)
				}
			})
		}
		wait.Wait()
		tunnels := 0
		for _, s := range servers {
			tunnels += s.tunnels()
		}
		if came.Load() != limit || tunnels != limit {
			t.Errorf("%d logins came through, %d tunnels; expected %d", came.Load(), tunnels, limit)
		}
	})
}
