// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"runtime"
	"testing"
	"time"

	"ddtb/aaa"
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
