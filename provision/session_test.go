// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

func TestLoginAndLogout(t *testing.T) {
	w := start(t, testConfig())
	offered := w.offer(request("alice", client(1, 4000)))
	if offered.State != Offered || w.count(Filter{}) != 1 {
		t.Errorf("offer is %+v", offered)
	}
	if _, ok := w.tunnel(offered.TunnelID); ok {
		t.Error("the tunnel forwards before it was accepted")
	}
	w.billed(offered)
	if err := w.Activate(t.Context(), offered.ID); err != nil {
		t.Fatal(err)
	}
	s := w.session(offered.ID)
	w.forwards(s)
	if s.State != Active || s.Endpoint != offered.Endpoint || s.Prefix != offered.Prefix || s.Prefix.Bits() != 56 {
		t.Errorf("session is %+v, offered was %+v", s, offered)
	}
	if err := w.Activate(t.Context(), s.ID); err != nil {
		t.Errorf("accepting again: %v", err)
	}
	w.billed(s, aaa.StatusStart)

	w.clock.advance(time.Minute)
	w.send(s, 10)
	if err := w.Release(t.Context(), s.ID, aaa.CauseUserRequest); err != nil {
		t.Fatal(err)
	}
	stop := w.stopped(s, aaa.CauseUserRequest)
	if stop.Octets != (aaa.Traffic{Input: 1000, Output: 500}) || stop.Packets != (aaa.Traffic{Input: 10, Output: 5}) {
		t.Errorf("Stop record counts %+v and %+v", stop.Octets, stop.Packets)
	}
	if stop.SessionTime != time.Minute || stop.Client != s.Client || stop.Prefix != s.Prefix || stop.Encap != "v6udpv4" {
		t.Errorf("Stop record is %+v", stop)
	}
	fails(t, w.Release(t.Context(), s.ID, aaa.CauseUserRequest), ErrNotFound)

	if again := w.login(request("alice", client(1, 4001))); again.Endpoint != s.Endpoint || again.Prefix != s.Prefix || again.ID == s.ID {
		t.Errorf("the next session is %+v, the last was %+v", again, s)
	}
}

func TestRejectedOffer(t *testing.T) {
	w := start(t, testConfig())
	s := w.offer(request("alice", client(1, 4000)))
	for range 2 {
		if err := w.Reject(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.gone(s)
	w.billed(s)
	fails(t, w.Activate(t.Context(), s.ID), ErrNotFound)
	active := w.login(request("alice", client(1, 4000)))
	fails(t, w.Reject(t.Context(), active.ID), ErrInProgress)
	w.forwards(active)
}

func TestOfferTimesOut(t *testing.T) {
	w := start(t, testConfig())
	s := w.offer(request("alice", client(1, 4000)))
	w.sweepAfter(30 * time.Second)
	w.session(s.ID)
	w.sweepAfter(31 * time.Second)
	w.gone(s)
	fails(t, w.Activate(t.Context(), s.ID), ErrNotFound)
}

func TestTakeover(t *testing.T) {
	w := start(t, testConfig())
	old := w.login(request("alice", client(1, 4000)))
	w.send(old, 20)
	w.clock.advance(time.Minute)

	offer := w.offer(request("alice", client(2, 5000)))
	if offer.Endpoint != old.Endpoint || offer.Prefix != old.Prefix || offer.ID == old.ID {
		t.Errorf("offer is %+v, the session to be replaced %+v", offer, old)
	}
	w.forwards(old)
	w.billed(old, aaa.StatusStart)
	w.send(old, 2)

	if err := w.Activate(t.Context(), offer.ID); err != nil {
		t.Fatal(err)
	}
	fresh := w.session(offer.ID)
	w.forwards(fresh)
	stop := w.stopped(old, aaa.CausePortPreempted)
	if stop.Packets.Input != 22 || stop.SessionTime != time.Minute || stop.Endpoint != old.Endpoint || stop.Prefix != old.Prefix {
		t.Errorf("Stop record is %+v", stop)
	}
	if start := w.billed(fresh, aaa.StatusStart)[0]; start.Client != client(2, 5000) {
		t.Errorf("Start record is %+v", start)
	}
	var order []aaa.Status
	for _, r := range w.records.Records() {
		order = append(order, r.Status)
	}
	if !slices.Equal(order, []aaa.Status{aaa.StatusOn, aaa.StatusStart, aaa.StatusStop, aaa.StatusStart}) {
		t.Errorf("records came as %v", order)
	}
	if state, _ := w.tunnel(fresh.TunnelID); state.Counters != (datapath.Counters{}) {
		t.Errorf("the new session begins with %+v", state.Counters)
	}
}

// An offer that nobody accepts must not harm the session it would replace, however it ends.
func TestUnacceptedTakeoverHarmsNobody(t *testing.T) {
	for name, end := range map[string]func(w *world, offer Session){
		"reject":  func(w *world, offer Session) { _ = w.Reject(w.Context(), offer.ID) },
		"timeout": func(w *world, _ Session) { w.sweepAfter(2 * time.Minute) },
		"newer": func(w *world, _ Session) {
			newer := w.offer(request("alice", client(4, 1)))
			_ = w.Reject(w.Context(), newer.ID)
		},
		"crash": func(w *world, _ Session) {
			w.sweep(w.Context())
			w.restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.LostAfter = 1000
			w := start(t, config)
			old := w.login(request("alice", client(1, 4000)))
			offer := w.offer(request("alice", client(2, 5000)))
			end(w, offer)
			if _, ok := w.Session(offer.ID); ok {
				t.Error("the offer is still there")
			}
			w.forwards(old)
			for range 3 { // long enough for the lease to have to be extended, and for a lost one to show
				w.sweepAfter(40 * time.Minute)
			}
			w.forwards(old)
			if l := w.lease(old); l.Session != old.ID || !l.Expires.After(w.clock.Now()) {
				t.Errorf("lease is %+v", l)
			}
			w.billed(old, aaa.StatusStart)
		})
	}
}

// While an offer is open the session it would replace may end by itself.
func TestTakeoverOfSessionEndedMeanwhile(t *testing.T) {
	w := start(t, testConfig())
	old := w.login(request("alice", client(1, 4000)))
	offer := w.offer(request("alice", client(2, 5000)))
	if err := w.Release(t.Context(), old.ID, aaa.CauseAdminReset); err != nil {
		t.Fatal(err)
	}
	if err := w.Activate(t.Context(), offer.ID); err != nil {
		t.Fatal(err)
	}
	fresh := w.session(offer.ID)
	w.forwards(fresh)
	w.stopped(old, aaa.CauseAdminReset)
	if fresh.Endpoint != old.Endpoint {
		t.Errorf("the new session has endpoint %v, promised was %v", fresh.Endpoint, old.Endpoint)
	}
}

func TestTakeoverIntoAnotherPool(t *testing.T) {
	w := start(t, testConfig())
	old := w.login(request("alice", client(1, 4000)))
	r := request("alice", client(1, 4000))
	r.Subscriber.Pool = "gold"
	fresh := w.login(r)
	if fresh.Pool != "gold" || fresh.Prefix.Bits() != 48 {
		t.Errorf("new session is %+v", fresh)
	}
	w.forwards(fresh)
	stop := w.stopped(old, aaa.CausePortPreempted)
	if stop.Endpoint != old.Endpoint || stop.TunnelID != old.TunnelID {
		t.Errorf("Stop record is %+v", stop)
	}
	if l := w.lease(old); l.State != lease.Idle {
		t.Errorf("the old lease is %+v", l)
	}
}

func TestManyLoginsOfOneSubscriberAtOnce(t *testing.T) {
	w := start(t, testConfig())
	var wait sync.WaitGroup
	var mu sync.Mutex
	all := []Session{w.login(request("alice", client(100, 1)))}
	for n := range 16 {
		wait.Go(func() {
			for port := range uint16(8) {
				s, err := w.Offer(w.Context(), request("alice", client(n+1, 4000+port)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, s)
				mu.Unlock()
				if port%4 == 3 {
					err = w.Reject(w.Context(), s.ID)
				} else {
					err = w.Activate(w.Context(), s.ID)
				}
				if err != nil && !strings.Contains(err.Error(), ErrNotFound.Error()) {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	var sweeps sync.WaitGroup
	sweeps.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				w.sweep(w.Context())
			}
		}
	})
	wait.Wait()
	close(done)
	sweeps.Wait()
	last := w.Owned("alice")
	if len(last) != 1 || w.count(Filter{State: Active}) != 1 {
		t.Fatalf("%d sessions are active", len(last))
	}
	w.forwards(last[0])
	if l := w.lease(last[0]); l.Session != last[0].ID {
		t.Errorf("lease is %+v", l)
	}
	for _, s := range all {
		records := w.records.Session(s.ID)
		switch {
		case s.ID == last[0].ID:
			w.billed(s, aaa.StatusStart)
		case len(records) > 0:
			w.stopped(s, aaa.CausePortPreempted)
		}
	}
	if w.sessions() != 1 || len(w.byID) != 1 || len(w.offers) != 0 || len(w.locks.keys) != 0 || len(w.endings) != 0 {
		t.Errorf("tables: %d sessions, %d ids, %d offers, %d locks, %d endings",
			w.sessions(), len(w.byID), len(w.offers), len(w.locks.keys), len(w.endings))
	}
}
