// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

// Two servers that bury the same one at the same time give each session one Stop record: one of them is refused, and finds
// nothing left when it tries again.
func TestBuryTwiceAtOnce(t *testing.T) {
	w := start(t, testConfig())
	peers := neighbours{gone: map[string]bool{}, claimed: new(atomic.Bool)}
	dead, third := beside(w, "dead", peers), beside(w, "third", peers)
	for i := range 50 {
		dead.login(request(fmt.Sprint("user", i), client(i, 1)))
	}
	peers.gone["dead"] = true
	under, refused := make(chan struct{}, 50), make(chan error, 1)
	third.accountant = failing{third.records, func(r aaa.Record) bool {
		if r.Status != aaa.StatusStop {
			return false
		}
		under <- struct{}{} // the first waits in its first record for the second
		if err := <-refused; !errors.Is(err, ErrClaimed) {
			t.Errorf("bury at two servers at once: %v", err)
		}
		refused <- ErrClaimed
		return false
	}}
	third.restart()
	go func() {
		<-under
		_, _, err := w.Bury(t.Context(), "dead", aaa.NAS{})
		refused <- err
	}()
	done, left, err := third.Bury(t.Context(), "dead", aaa.NAS{})
	if want := (Burial{50, 50}); err != nil || done != want || left != (Burial{}) {
		t.Errorf("done is %+v, left %+v, %v", done, left, err)
	}
	if done, left, err := w.Bury(t.Context(), "dead", aaa.NAS{}); err != nil || done != (Burial{}) || left != (Burial{}) {
		t.Errorf("afterwards done is %+v, left %+v, %v", done, left, err)
	}
	stops := func(w *world) (n int) {
		for _, r := range w.records.Records() {
			if r.Status == aaa.StatusStop {
				n++
			}
		}
		return n
	}
	if a, b := stops(third), stops(w); a != 50 || b != 0 {
		t.Errorf("%d and %d Stop records, expected 50 and none", a, b)
	}
}

// What a server has left that is gone for good gets one Stop record each, in its name, and its leases are free by the usual rules.
func TestBury(t *testing.T) {
	config := testConfig()
	config.Interim = time.Minute
	w := start(t, config)
	peers := neighbours{gone: map[string]bool{}}
	dead := beside(w, "dead", peers)
	r := request("alice", client(1, 1))
	r.Subscriber.Class = [][]byte{[]byte("opaque")}
	alice, bob, carol := dead.login(r), dead.login(request("bob", client(2, 1))), dead.login(request("carol", client(3, 1)))
	dead.offer(request("offered", client(4, 1)))
	mine := w.login(request("mine", client(5, 1)))
	dead.send(alice, 7)
	dead.sweepAfter(time.Minute)
	// bob moves, and nobody is there to notice; carol replaces her session, and its start is not marked; then all is lost
	moved := w.login(request("bob", client(6, 1)))
	newer := dead.login(request("carol", client(7, 1)))
	w.clock.advance(20 * time.Minute)

	_, _, err := w.Bury(t.Context(), "dead", aaa.NAS{})
	fails(t, err, ErrAlive)
	_, err = w.Left(t.Context(), "test")
	fails(t, err, ErrAlive)
	peers.gone["dead"] = true
	left, err := w.Left(t.Context(), "dead")
	if want := (Burial{3, 4}); err != nil || left != want {
		t.Fatalf("left is %+v, %v, expected %+v", left, err, want)
	}
	nas := aaa.NAS{Identifier: "the.dead", Address: netip.MustParseAddr("203.0.113.9")}
	done, left, err := w.Bury(t.Context(), "dead", nas)
	if want := (Burial{3, 4}); err != nil || done != want || left != (Burial{}) {
		t.Fatalf("done is %+v, left %+v, %v, expected %+v", done, left, err, want)
	}
	w.billed(newer, aaa.StatusStart, aaa.StatusStop) // that the Start was given is not known
	for cause, sessions := range map[aaa.Cause][]Session{aaa.CauseNASReboot: {alice, bob, newer}, aaa.CausePortPreempted: {carol}} {
		for _, s := range sessions {
			records := w.records.Session(s.ID)
			if s.ID != newer.ID {
				w.billed(s, aaa.StatusStop)
			}
			if stop := records[len(records)-1]; stop.Cause != cause || stop.NAS != nas || stop.Endpoint != s.Endpoint || stop.Prefix != s.Prefix {
				t.Errorf("Stop record is %+v", stop)
			}
		}
	}
	if stop := w.records.Session(alice.ID)[0]; stop.Packets.Input != 7 || string(stop.Subscriber.Class[0]) != "opaque" || stop.SessionTime > 2*time.Minute {
		t.Errorf("Stop record is %+v", stop)
	}
	w.forwards(mine)
	w.forwards(moved)
	for l, err := range w.store.All(t.Context()) {
		if err != nil || l.Node == "dead" || l.Owner == "alice" && l.State != lease.Idle {
			t.Errorf("lease is %+v, %v", l, err)
		}
	}
	if again := w.login(request("alice", client(8, 1))); again.Endpoint != alice.Endpoint {
		t.Errorf("alice has %v, expected %v", again.Endpoint, alice.Endpoint)
	}
	at := len(w.records.Records())
	if done, _, err := w.Bury(t.Context(), "dead", nas); err != nil || done != (Burial{}) || len(w.records.Records()) != at {
		t.Errorf("once more: %+v, %v, %d records, %d before", done, err, len(w.records.Records()), at)
	}
}
