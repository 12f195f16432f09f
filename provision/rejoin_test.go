// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

// lonely is a store that is down, and keeps what this node served.
type lonely struct {
	down
	mu   sync.Mutex
	kept map[string]lease.Lease // by session
	over func(lease.Holder) bool
}

func (s *lonely) All(ctx context.Context) iter.Seq2[lease.Lease, error] {
	if s.down.down {
		return func(yield func(lease.Lease, error) bool) { yield(lease.Lease{}, lease.ErrUnavailable) }
	}
	return s.Store.All(ctx)
}

func (s *lonely) Kept() ([]lease.Lease, bool) {
	return slices.Collect(maps.Values(s.kept)), s.down.down
}

func (s *lonely) Extend(ctx context.Context, ttl time.Duration, holders ...lease.Holder) ([]lease.Lost, error) {
	lost, err := s.down.Extend(ctx, ttl, holders...)
	if s.down.down {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, h := range holders {
			if l, ok := s.kept[h.Session]; ok && h.Data != nil {
				l.Data = h.Data
				s.kept[h.Session] = l
			}
			if s.over(h) {
				lost = append(lost, lease.Lost{Holder: h})
			}
		}
	}
	return lost, err
}

// leave takes the store away, which keeps what this node serves in this moment.
func (s *lonely) leave(w *world) {
	w.Helper()
	s.kept = make(map[string]lease.Lease)
	for l, err := range s.Store.All(w.Context()) {
		if err != nil {
			w.Fatal(err)
		}
		if l.State == lease.Active && l.Node == w.config.Node {
			s.kept[l.Session] = l
		}
	}
	s.down.down = true
}

// startLonely makes a world whose store can be away at a start.
func startLonely(t *testing.T) (*world, *lonely) {
	t.Helper()
	w := newWorld(t, testConfig())
	store := &lonely{down: down{Store: w.store}}
	store.over = func(h lease.Holder) bool { return !store.kept[h.Session].Expires.After(w.clock.Now()) }
	w.otherStore = store
	w.restart()
	return w, store
}

// A daemon that starts while the store is away ends each session when its time is over: silent ones, those whose lifetime has
// passed, and all when their leases have ended. The Stop records tell when that was.
func TestRestartWhileStoreAway(t *testing.T) {
	w, store := startLonely(t)
	stays, silent := w.login(request("stays", client(1, 1))), w.login(request("silent", client(2, 1)))
	short := request("short", client(3, 1))
	short.Subscriber.SessionTimeout = 5 * time.Minute
	brief := w.login(short)
	logout := w.login(request("logout", client(4, 1)))
	w.sweepAfter(time.Second)
	w.send(stays, 3)
	store.leave(w)
	w.clock.advance(time.Second)
	w.restart()
	for _, s := range []Session{stays, silent, brief, logout} {
		w.forwards(s)
	}
	_ = w.Release(t.Context(), logout.ID, aaa.CauseUserRequest)
	began := w.clock.Now()
	last := began
	for w.session(stays.ID).State == Active {
		w.send(stays, 1)
		if w.session(brief.ID).State == Active {
			w.send(brief, 1)
		}
		last = w.clock.Now()
		if w.sweepAfter(10 * time.Second); w.clock.Now().Sub(began) > 2*time.Hour {
			t.Fatal("a session outlives its lease")
		}
	}
	for _, s := range []Session{stays, silent, brief, logout} {
		if _, ok := w.tunnel(s.TunnelID); ok {
			t.Errorf("%s still forwards", s.Subscriber.Name)
		}
		w.billed(s, aaa.StatusStart)
	}
	w.restart() // what has ended is not begun again
	if n := w.count(Filter{State: Active}); n != 0 {
		t.Errorf("%d sessions are in force again", n)
	}
	w.sweepAfter(10 * time.Minute)
	store.down.down = false
	w.sweepAfter(10 * time.Second)
	w.stopped(logout, aaa.CauseUserRequest)
	if stop := w.stopped(silent, aaa.CauseLostCarrier); stop.SessionTime > 2*time.Minute {
		t.Errorf("Stop of the silent session is %+v", stop)
	}
	if stop := w.stopped(brief, aaa.CauseSessionTimeout); stop.SessionTime < 5*time.Minute || stop.SessionTime > 5*time.Minute+11*time.Second {
		t.Errorf("Stop of the short session is %+v", stop)
	}
	if stop := w.stopped(stays, aaa.CauseNASError); stop.Time.Sub(last) > 11*time.Second {
		t.Errorf("Stop of the last session is %+v, it was in force until %v", stop, last)
	}
	if err := w.Status().SweepErr; err != nil {
		t.Error(err)
	}
}

// What the store learned while no daemon was here comes to light when it is there again: each session has one Stop record.
func TestRejoin(t *testing.T) {
	w, store := startLonely(t)
	other := beside(w, "other", neighbours{})
	moved, stays := w.login(request("moved", client(1, 1))), w.login(request("stays", client(2, 1)))
	lost := w.login(request("lost", client(3, 1)))
	offered := w.offer(request("offered", client(4, 1)))
	w.sweepAfter(time.Second)
	w.send(moved, 4)
	again := other.login(request("moved", client(9, 1))) // nobody is here
	store.leave(w)
	delete(store.kept, lost.ID)
	delete(store.kept, offered.ID)
	w.clock.advance(time.Second)
	w.restart()
	w.forwards(stays)
	w.billed(moved, aaa.StatusStart)
	store.down.down = false
	w.sweepAfter(time.Second)
	reassert(w)
	w.stopped(lost, aaa.CauseNASReboot)
	w.gone(offered)
	w.forwards(stays)
	other.forwards(again)
	w.restart()
	for s, statuses := range map[*Session][]aaa.Status{&moved: {aaa.StatusStart, aaa.StatusStop}, &lost: {aaa.StatusStart, aaa.StatusStop}, &stays: {aaa.StatusStart}} {
		w.billed(*s, statuses...)
	}
	if left := w.displaced(); len(left) > 0 {
		t.Errorf("displaced are %+v", left)
	}
}
