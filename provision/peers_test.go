// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

// neighbours are Peers as a test wants them.
type neighbours struct {
	gone    map[string]bool
	seen    map[string]time.Time
	claimed *atomic.Bool // nil: there is only one that claims
}

func (n neighbours) Claim(_ context.Context, node string, _ time.Duration) (yield func(), err error) {
	if n.claimed == nil {
		return func() {}, nil
	}
	if !n.claimed.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("%s: %w", node, ErrClaimed)
	}
	return func() { n.claimed.Store(false) }, nil
}

func (n neighbours) Alive(_ context.Context, node string) bool { return !n.gone[node] }

func (n neighbours) Seen(_ context.Context, session string) time.Time { return n.seen[session] }

// beside makes a world of another server that shares the lease store of w and its time. Both know what peers say.
func beside(w *world, node string, peers Peers) *world {
	w.Helper()
	config := w.config
	config.Node = node
	other := newWorld(w.TB, config)
	other.store, other.clock, other.peers = w.store, w.clock, peers
	other.restart()
	w.peers = peers
	w.Join(peers)
	return other
}

// The session longest silent goes, by what is known here of those here and by what others say of theirs.
func TestQuietestOfAllServers(t *testing.T) {
	config := testConfig()
	config.Sessions = Sessions{Limit: 3}
	w := start(t, config)
	peers := neighbours{seen: make(map[string]time.Time)}
	other := beside(w, "other", peers)
	login := func(at *world, n int) Session {
		w.clock.advance(time.Second)
		return at.login(request("alice", client(n, uint16(n))))
	}
	one, two, three := login(w, 1), login(other, 2), login(w, 3)
	peers.seen[two.ID] = w.clock.Now()
	four := login(w, 4) // the first is quietest, and here
	w.stopped(one, aaa.CausePortPreempted)
	if four.Endpoint != one.Endpoint {
		t.Errorf("endpoint %v, expected %v", four.Endpoint, one.Endpoint)
	}
	w.send(three, 1)
	w.sweepAfter(time.Second)
	peers.seen[two.ID] = w.clock.Now().Add(-10 * time.Second)
	five := login(w, 5) // the second
	if five.Endpoint != two.Endpoint {
		t.Errorf("endpoint %v, expected %v", five.Endpoint, two.Endpoint)
	}
	if n := w.count(Filter{State: Active}); n != 3 {
		t.Errorf("%d sessions", n)
	}
	other.sweepAfter(40 * time.Minute) // it had not heard of it
	other.stopped(two, aaa.CausePortPreempted)
}

// What is left in the store of a session of this server, or of one that is gone, keeps nobody out.
func TestDenyIsNotForTheDead(t *testing.T) {
	config := testConfig()
	config.Sessions = Sessions{Deny: true}
	w := start(t, config)
	peers := neighbours{gone: map[string]bool{"dead": true}}
	w.Join(peers)
	for _, node := range []string{"dead", w.config.Node, "alive"} {
		held := lease.Request{Pool: "main", Owner: node, Session: sid{1}.String(), Node: node, TTL: time.Hour, Data: []byte("unreadable")}
		if _, err := w.store.Acquire(t.Context(), held); err != nil {
			t.Fatal(err)
		}
		_, err := w.Offer(t.Context(), request(node, client(1, 1)))
		if node == "alive" {
			fails(t, err, ErrDenied)
		} else if err != nil {
			t.Errorf("kept out by a session of %q: %v", node, err)
		}
	}
	w.clock.advance(time.Hour)
	w.login(request("alive", client(2, 2))) // the lease is over
}

// While the store is away nobody is let in who may have his sessions elsewhere; who has one here goes on.
func TestLimitWhileStoreIsAway(t *testing.T) {
	config := testConfig()
	config.Sessions = Sessions{Limit: 2, Deny: true}
	w := newWorld(t, config)
	store := &awayStore{Store: w.store}
	w.otherStore = store
	w.restart()
	w.Join(neighbours{})
	s := w.login(request("alice", client(1, 1)))
	store.away = true
	_, err := w.Offer(t.Context(), request("alice", client(2, 2)))
	fails(t, err, ErrInProgress)
	if same := w.offer(request("alice", client(1, 1))); same.Endpoint != s.Endpoint { // no store is asked
		t.Errorf("endpoint %v, was %v", same.Endpoint, s.Endpoint)
	}
	w.forwards(s)
}

// awayStore gives nothing while it is away.
type awayStore struct {
	lease.Store
	away bool
}

func (a *awayStore) Acquire(ctx context.Context, r lease.Request) (lease.Lease, error) {
	if a.away {
		return lease.Lease{}, lease.ErrUnavailable
	}
	return a.Store.Acquire(ctx, r)
}
