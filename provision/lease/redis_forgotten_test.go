// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ddtb/provision/redis/redistest"
)

// quietWorld is a world in which nothing happens that a test does not ask for, but for a fault now and then until it is calm.
func quietWorld(t *testing.T) *world {
	t.Helper()
	server := redistest.Start(t, "--enable-debug-command", "yes")
	options := server.Options()
	options.Timeout = time.Minute
	return newWorld(t, server, options, 1)
}

// TestRedisForgottenNode: a node that was away for so long that it was forgotten comes back, gives somebody a lease and is cut off
// before it has said that it is there. A failover loses the write, and a clock that jumps ends every time that was to be waited: nobody
// else gets the index, nor the foreign prefix, that the node still serves.
func TestRedisForgottenNode(t *testing.T) {
	w := quietWorld(t)
	away, other := w.nodes[2], w.nodes[0]
	away.faults.away = true
	w.pass(2 * (worldTTL + worldQuarantine))
	known, err := other.store.Acquire(t.Context(), other.request("home", "bob")) // so that the pool gives him an index
	w.must(err)
	w.must(other.store.Release(t.Context(), Holder{Pool: known.Pool, Index: known.Index, Session: known.Session}))
	w.save()
	away.faults.away = false
	foreign := netip.MustParsePrefix("2001:db8:f000::/56")
	mine, err := away.store.Acquire(t.Context(), away.request("office", "alice"))
	w.must(err)
	request := away.request("home", "alice")
	request.Foreign = foreign
	_, err = away.store.Acquire(t.Context(), request)
	w.must(err)
	away.faults.away = true
	w.pass(worldGrace) // the others look
	w.failover()
	w.settle()
	w.skew += 45 * time.Hour
	w.pass(3 * worldGrace)
	for i := range officeSize {
		if l, err := other.store.Acquire(t.Context(), other.request("office", fmt.Sprint("bob", i))); err == nil && l.Index == mine.Index {
			t.Fatalf("index %d is alice's, and was given to bob, too", l.Index)
		}
	}
	request = other.request("home", "bob")
	request.Foreign = foreign
	if _, err := other.store.Acquire(t.Context(), request); err == nil {
		t.Errorf("prefix %v is alice's, and was given to bob, too", foreign)
	}
}

// TestRedisForgottenLease: a lease that is past its deadline when Redis's clock jumps is not asserted, and its server knows no longer when
// it ends. So it is over, though Redis still has it: else that server would serve it for ever when it is cut off again.
func TestRedisForgottenLease(t *testing.T) {
	w := quietWorld(t)
	w.calm = true
	n := w.nodes[0]
	request := n.request("home", "alice")
	request.Foreign = netip.MustParsePrefix("2001:db8:f000::/56")
	l, err := n.store.Acquire(t.Context(), request)
	w.must(err)
	w.now = w.now.Add(worldTTL - time.Second)
	w.must(n.store.look(t.Context()))
	n.faults.away = true
	lost, err := n.store.Extend(t.Context(), worldTTL, Holder{Pool: l.Pool, Index: l.Index, Session: l.Session})
	if err == nil || len(lost) != 1 {
		t.Errorf("while Redis is away: lost %v, %v, want the lease", lost, err)
	}
	n.faults.away = false
	data := []byte("what is owed to billing")
	lost, err = n.store.Extend(t.Context(), worldTTL, Holder{Pool: l.Pool, Index: l.Index, Session: l.Session, Data: data})
	w.must(err)
	if len(lost) != 1 || lost[0].Preempted {
		t.Fatalf("lost %v, want the lease, to nobody: the server could not say when it ends", lost)
	}
	var kept []byte
	for l, err := range n.store.All(t.Context()) {
		w.must(err)
		if l.Session == request.Session {
			kept = l.Data
		}
	}
	if string(kept) != string(data) {
		t.Errorf("until it is released the session's data is %q, want %q", kept, data)
	}
	w.must(n.store.Release(t.Context(), Holder{Pool: l.Pool, Index: l.Index, Session: l.Session}))
	request.Session = "another"
	_, err = n.store.Acquire(t.Context(), request)
	w.must(err)
}

// TestRedisRegain: a session that took over a lease while Redis was away is extended in the moment in which it is asserted, too. Redis
// takes it to last as long as its server does.
func TestRedisRegain(t *testing.T) {
	w := quietWorld(t)
	w.calm = true
	n := w.nodes[0]
	_, err := n.store.Acquire(t.Context(), n.request("home", "alice"))
	w.must(err)
	w.now = w.now.Add(worldTTL - time.Minute)
	n.faults.away = true
	l, err := n.store.Acquire(t.Context(), n.request("home", "alice"))
	w.must(err)
	n.faults.away = false

	data := []byte("what is owed to billing")
	var lost []Lost
	n.begin("", func(*op) {
		lost, err = n.store.Extend(t.Context(), worldTTL, Holder{Pool: l.Pool, Index: l.Index, Session: l.Session, Data: data})
	})
	w.proceed(0) // up to its first command,
	w.proceed(0) // and the next one
	w.must(n.store.look(t.Context()))
	w.drain()
	w.must(err)
	if lost != nil {
		t.Fatalf("lost %v", lost)
	}
	here, _ := n.store.served.get(n.store.byName[l.Pool], l.Index)
	var there Lease
	for each, err := range w.nodes[1].store.All(t.Context()) {
		w.must(err)
		if each.Index == l.Index && each.Pool == l.Pool {
			there = each
		}
	}
	if there.Session != l.Session || !there.Expires.Equal(here.end) || string(there.Data) != string(data) {
		t.Errorf("session %s until %v with %q, in Redis %s until %v with %q", l.Session, here.end, data, there.Session, there.Expires, there.Data)
	}
}
