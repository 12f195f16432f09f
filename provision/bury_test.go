// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"net/netip"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

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
