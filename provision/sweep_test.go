// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

func TestSilentSessionIsReaped(t *testing.T) {
	w := start(t, testConfig())
	silent := w.login(request("alice", client(1, 1)))
	alive := w.login(request("bob", client(2, 1)))
	for range 9 {
		w.send(alive, 1)
		w.sweepAfter(9 * time.Second)
	}
	if s := w.session(silent.ID); !s.Seen.Equal(silent.Since) {
		t.Errorf("the silent session was seen at %v", s.Seen)
	}
	w.send(alive, 1)
	w.sweepAfter(10 * time.Second) // 91 s: more than three times 30 s
	stop := w.stopped(silent, aaa.CauseLostCarrier)
	if stop.SessionTime != 91*time.Second {
		t.Errorf("Stop record is %+v", stop)
	}
	if l := w.lease(silent); l.State != lease.Idle || l.Owner != "alice" {
		t.Errorf("lease is %+v", l)
	}
	w.forwards(alive)
	if s := w.session(alive.ID); s.Traffic.RxPackets != 10 || s.Seen.Before(s.Since.Add(time.Minute)) {
		t.Errorf("session is %+v", s)
	}
}

// What came between the last look and the end is in the Stop record.
func TestStopCountsToTheLastPacket(t *testing.T) {
	w := start(t, testConfig())
	s := w.login(request("alice", client(1, 1)))
	w.send(s, 5)
	w.sweepAfter(10 * time.Second)
	w.send(s, 7)
	if err := w.Release(t.Context(), s.ID, aaa.CauseAdminReset); err != nil {
		t.Fatal(err)
	}
	if stop := w.stopped(s, aaa.CauseAdminReset); stop.Packets.Input != 12 {
		t.Errorf("Stop record is %+v", stop)
	}
	if got := w.Status().Traffic; got.RxPackets != 12 || got.TxPackets != 2+3 {
		t.Errorf("the broker counted %+v", got)
	}
}

func TestIdleAndSessionTimeout(t *testing.T) {
	w := start(t, testConfig())
	r := request("alice", client(1, 1))
	r.Subscriber.IdleTimeout = 20 * time.Second
	idle := w.login(r)
	r = request("bob", client(2, 1))
	r.Subscriber.SessionTimeout = time.Hour
	short := w.login(r)
	r = request("carol", client(3, 1))
	r.Keepalive = 0
	quiet := w.login(r)
	w.sweepAfter(21 * time.Second)
	w.stopped(idle, aaa.CauseIdleTimeout)
	w.send(short, 1)
	w.sweepAfter(59*time.Minute + 38*time.Second)
	w.forwards(quiet) // it may be: it was never told to send anything
	if w.sweepAfter(2 * time.Second); len(w.records.Session(short.ID)) != 2 {
		t.Fatal("the session outlives its lifetime")
	}
	if got := w.records.Session(short.ID)[1].Cause; got != aaa.CauseSessionTimeout && got != aaa.CauseLostCarrier {
		t.Errorf("cause is %d", got)
	}
	w.sweepAfter(time.Minute)
	w.stopped(quiet, aaa.CauseLostCarrier)
}

func TestInterimRecords(t *testing.T) {
	config := testConfig()
	config.Interim, config.LostAfter = 10*time.Minute, 1000
	w := start(t, config)
	ours := w.login(request("alice", client(1, 1)))
	r := request("bob", client(2, 1))
	r.Subscriber.InterimInterval = time.Second // too often: RFC 2869 section 5.16
	theirs := w.login(r)
	for minute := 1; minute <= 60; minute++ {
		w.send(ours, 1)
		w.sweepAfter(time.Minute)
	}
	records := w.records.Session(ours.ID)
	if len(records) != 7 {
		t.Fatalf("%d records in an hour at 10 minutes", len(records))
	}
	for i, record := range records[1:] {
		if record.Status != aaa.StatusInterim || record.Packets.Input != uint64(record.SessionTime/time.Minute) {
			t.Errorf("record %d is %+v", i, record)
		}
	}
	if n := len(w.records.Session(theirs.ID)); n != 1+60 {
		t.Errorf("%d records in an hour at a minute", n)
	}
}

func TestLeasesAreExtended(t *testing.T) {
	config := testConfig()
	config.LostAfter = 1000
	w := start(t, config)
	s := w.login(request("alice", client(1, 1)))
	for range 30 {
		w.sweepAfter(10 * time.Minute)
		if l := w.lease(s); l.Session != s.ID || l.Expires.Before(w.clock.Now().Add(20*time.Minute)) {
			t.Fatalf("lease is %+v at %v", l, w.clock.Now())
		}
	}
	w.forwards(s)
}

// A login at another server takes the lease; the session here ends, and does not take it back.
func TestLostLeaseEndsTheSession(t *testing.T) {
	w := start(t, testConfig())
	s := w.login(request("alice", client(1, 1)))
	other := lease.Request{Pool: s.Pool, Owner: "alice", Session: "elsewhere", Node: "other", TTL: time.Hour, Data: []byte{1}}
	if _, err := w.store.Acquire(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		w.send(s, 1)
		w.sweepAfter(time.Minute)
		if _, ok := w.tunnel(s.TunnelID); !ok {
			break
		}
	}
	w.stopped(s, aaa.CausePortPreempted)
	if l := w.lease(s); l.Session != "elsewhere" {
		t.Errorf("lease is %+v", l)
	}
}

// down is a store that does not answer while it is down.
type down struct {
	lease.Store
	down bool
}

func (d *down) Extend(ctx context.Context, ttl time.Duration, holders ...lease.Holder) ([]lease.Holder, error) {
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

func TestRunMarksAndSweeps(t *testing.T) {
	config := testConfig()
	config.SweepInterval = time.Second
	w := start(t, config)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	s := w.login(request("alice", client(1, 1)))
	for phaseOf(w.lease(s)) != phaseActive {
		runtime.Gosched()
	}
	w.clock.advance(2 * time.Minute)
	_, err := w.records.Wait(t.Context(), func(r aaa.Record) bool { return r.Status == aaa.StatusStop })
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func phaseOf(l lease.Lease) phase {
	m, err := readMemo(l.Data)
	if err != nil {
		return 0
	}
	return m.phase
}

func TestShutdown(t *testing.T) {
	for _, keep := range []bool{true, false} {
		w := start(t, testConfig())
		active := w.login(request("alice", client(1, 1)))
		w.send(active, 3)
		offer := w.offer(request("bob", client(2, 1)))
		if err := w.Shutdown(t.Context(), keep); err != nil {
			t.Fatal(err)
		}
		w.gone(offer)
		_, err := w.Offer(t.Context(), request("carol", client(3, 1)))
		fails(t, err, ErrBusy)
		if !keep {
			if stop := w.stopped(active, aaa.CauseAdminReboot); stop.Packets.Input != 3 {
				t.Errorf("Stop record is %+v", stop)
			}
			continue
		}
		w.forwards(active)
		w.restart()
		w.forwards(active)
		w.billed(active, aaa.StatusStart)
	}
}
