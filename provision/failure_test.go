// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// down is a store that does not answer while it is down.
type down struct {
	lease.Store
	down bool
}

func (d *down) Extend(ctx context.Context, ttl time.Duration, holders ...lease.Holder) ([]lease.Lost, error) {
	if d.down {
		return nil, lease.ErrUnavailable
	}
	return d.Store.Extend(ctx, ttl, holders...)
}

func (d *down) Acquire(ctx context.Context, r lease.Request) (lease.Lease, error) {
	if d.down {
		return lease.Lease{}, lease.ErrUnavailable
	}
	return d.Store.Acquire(ctx, r)
}

func (d *down) Release(ctx context.Context, holders ...lease.Holder) error {
	if d.down {
		return lease.ErrUnavailable
	}
	return d.Store.Release(ctx, holders...)
}

func TestStoreAway(t *testing.T) {
	w := newWorld(t, testConfig())
	store := &down{Store: w.store}
	w.otherStore = store
	w.restart()
	alive := w.login(request("alice", client(1, 1)))
	silent := w.login(request("bob", client(2, 1)))
	w.sweepAfter(time.Second)

	store.down = true
	_, err := w.Offer(t.Context(), request("carol", client(3, 1)))
	fails(t, err, ErrInProgress)
	offer := w.offer(request("alice", client(4, 1))) // known: it needs no store to be offered
	fails(t, w.Activate(t.Context(), offer.ID), ErrInProgress)
	w.forwards(alive)
	for range 10 {
		w.send(alive, 1)
		w.sweepAfter(10 * time.Second)
	}
	w.forwards(alive)
	if _, ok := w.tunnel(silent.TunnelID); ok {
		t.Error("the silent session still forwards")
	}
	if s := w.session(silent.ID); s.State != Ending {
		t.Errorf("session is %+v", s)
	}
	if w.Status().SweepErr == nil {
		t.Error("the sweep does not tell that the store is away")
	}

	store.down = false
	w.sweepAfter(10 * time.Second)
	if stop := w.stopped(silent, aaa.CauseLostCarrier); stop.SessionTime > 92*time.Second {
		t.Errorf("the session ended when the store came back: %+v", stop)
	}
	w.forwards(alive)
	w.billed(alive, aaa.StatusStart)
	if err := w.Status().SweepErr; err != nil {
		t.Error(err)
	}
}

// A session cut for a takeover that then fails goes on, and counts on.
func TestFailedTakeoverKeepsTheCount(t *testing.T) {
	w := newWorld(t, testConfig())
	refused := aaa.Status(0)
	w.accountant = failing{w.records, func(r aaa.Record) bool { return r.Status == refused }}
	w.restart()
	old := w.login(request("alice", client(1, 1)))
	w.send(old, 10)
	refused = aaa.StatusStop
	fails(t, w.Activate(t.Context(), w.offer(request("alice", client(2, 2))).ID), ErrBusy)
	w.forwards(old)
	if l := w.lease(old); l.Session != old.ID {
		t.Errorf("lease is %+v", l)
	}
	w.send(old, 5)
	w.sweepAfter(time.Second)
	if s := w.session(old.ID); s.Traffic.RxPackets != 15 {
		t.Errorf("session is %+v", s)
	}
	refused = 0
	w.restart()
	w.send(old, 1)
	if err := w.Release(t.Context(), old.ID, aaa.CauseUserRequest); err != nil {
		t.Fatal(err)
	}
	if stop := w.stopped(old, aaa.CauseUserRequest); stop.Packets.Input != 16 {
		t.Errorf("Stop record is %+v", stop)
	}
}

func TestAccountantThatRefusesStart(t *testing.T) {
	w := newWorld(t, testConfig())
	refuse := true
	w.accountant = failing{w.records, func(r aaa.Record) bool { return refuse && r.Status == aaa.StatusStart }}
	w.restart()
	offer := w.offer(request("alice", client(1, 1)))
	fails(t, w.Activate(t.Context(), offer.ID), ErrBusy)
	w.gone(offer)
	w.billed(offer)
	refuse = false
	old := w.login(request("alice", client(1, 1)))
	refuse = true
	offer = w.offer(request("alice", client(2, 2)))
	fails(t, w.Activate(t.Context(), offer.ID), ErrBusy)
	w.gone(offer)
	w.stopped(old, aaa.CausePortPreempted) // its Stop was taken: it cannot go on
	refuse = false
	w.login(request("alice", client(2, 2)))
}

func TestAccountantThatRefusesStop(t *testing.T) {
	w := newWorld(t, testConfig())
	refuse := true
	w.accountant = failing{w.records, func(r aaa.Record) bool { return refuse && r.Status == aaa.StatusStop }}
	w.restart()
	s := w.login(request("alice", client(1, 1)))
	w.send(s, 4)
	fails(t, w.Release(t.Context(), s.ID, aaa.CauseUserRequest), ErrBusy)
	if _, ok := w.tunnel(s.TunnelID); ok || w.session(s.ID).State != Ending {
		t.Error("the session still forwards")
	}
	_, err := w.Offer(t.Context(), request("alice", client(1, 1))) // what is owed comes first
	fails(t, err, ErrBusy)
	w.clock.advance(time.Hour)
	refuse = false
	if again := w.login(request("alice", client(1, 1))); again.Endpoint != s.Endpoint {
		t.Errorf("the next session is %+v", again)
	}
	if stop := w.stopped(s, aaa.CauseUserRequest); stop.SessionTime != 0 || stop.Packets.Input != 4 {
		t.Errorf("Stop record is %+v", stop)
	}
}

// broken is a datapath that refuses some tunnels.
type broken struct {
	datapath.Datapath
	set, deleted bool
}

func (b *broken) Set(ctx context.Context, tunnels ...datapath.Tunnel) error {
	if b.set {
		return errors.New("no memory")
	}
	return b.Datapath.Set(ctx, tunnels...)
}

func (b *broken) Delete(ctx context.Context, id uint32) (datapath.Counters, error) {
	if b.deleted {
		return datapath.Counters{}, errors.New("no memory")
	}
	return b.Datapath.Delete(ctx, id)
}

func TestDatapathThatRefuses(t *testing.T) {
	w := newWorld(t, testConfig())
	path := &broken{Datapath: w.path}
	w.otherPath = path
	w.restart()
	old := w.login(request("alice", client(1, 1)))
	path.deleted = true
	fails(t, w.Activate(t.Context(), w.offer(request("alice", client(2, 2))).ID), ErrBusy)
	fails(t, w.Release(t.Context(), old.ID, aaa.CauseUserRequest), ErrBusy)
	w.forwards(old)
	w.billed(old, aaa.StatusStart)
	path.deleted, path.set = false, true
	fails(t, w.Activate(t.Context(), w.offer(request("bob", client(3, 3))).ID), ErrBusy)
	fails(t, w.Activate(t.Context(), w.offer(request("alice", client(2, 2))).ID), ErrBusy)
	w.stopped(old, aaa.CauseNASError) // it could not be set again either
	path.set = false
	w.login(request("alice", client(2, 2)))
}

func TestSweepRepairsTheDatapath(t *testing.T) {
	w := start(t, testConfig())
	s := w.login(request("alice", client(1, 1)))
	w.send(s, 10)
	w.sweepAfter(time.Minute)
	if _, err := w.path.Delete(t.Context(), s.TunnelID); err != nil {
		t.Fatal(err)
	}
	stray := datapath.Tunnel{
		ID: 1007, Session: 7, Encap: datapath.V6UDPV4, Local: local, Remote: client(9, 9), Endpoint: testPools()[0].Endpoint(7),
	}
	if err := w.path.Set(t.Context(), stray); err != nil {
		t.Fatal(err)
	}
	w.sweepAfter(time.Second)
	w.forwards(s)
	if _, ok := w.tunnel(stray.ID); !ok {
		t.Error("a tunnel that may just be coming was removed")
	}
	w.sweepAfter(time.Second)
	if _, ok := w.tunnel(stray.ID); ok {
		t.Error("the tunnel of no session is still there")
	}
	w.send(s, 1)
	w.sweepAfter(time.Second)
	if s := w.session(s.ID); s.Traffic.RxPackets != 11 {
		t.Errorf("session is %+v", s)
	}
}
