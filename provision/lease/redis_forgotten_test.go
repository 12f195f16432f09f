// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ddtb/provision/redis/redistest"
)

// TestRedisForgottenNode: a node that was away for so long that it was forgotten comes back, gives somebody a lease and is cut off
// before it has said that it is there. A failover loses the write, and a clock that jumps ends every time that was to be waited: nobody
// else gets the index, nor the foreign prefix, that the node still serves.
func TestRedisForgottenNode(t *testing.T) {
	server := redistest.Start(t, "--enable-debug-command", "yes")
	options := server.Options()
	options.Timeout = time.Minute
	w := newWorld(t, server, options, 1)
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
