// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

func TestRestartAdoptsTunnels(t *testing.T) {
	config := testConfig()
	config.Interim = 10 * time.Minute
	w := start(t, config)
	r := request("alice", client(1, 1))
	r.Subscriber.Class = [][]byte{[]byte("opaque")}
	r.Subscriber.IdleTimeout = time.Hour
	udp := w.login(r)
	v4 := w.login(v6v4(request("bob", client(2, 1))))
	guest := w.login(anonymous(client(3, 1)))
	r = request("carol", client(4, 1))
	r.Subscriber.Prefix = udp.Prefix // a static prefix of the pool, another subscriber's
	r.Subscriber.Pool, r.Subscriber.Prefix = "gold", testPools()[2].Prefix(77)
	static := w.login(r)
	w.sweepAfter(time.Second)
	for _, s := range []Session{udp, v4, guest, static} {
		w.send(s, 4)
	}
	w.clock.advance(15 * time.Second)
	before, _ := w.tunnel(udp.TunnelID)

	w.restart()
	for _, s := range []Session{udp, v4, guest, static} {
		w.forwards(s)
		got := w.session(s.ID)
		if got.Subscriber.Name != s.Subscriber.Name || got.Client != s.Client || got.Prefix != s.Prefix || got.Owner != s.Owner ||
			!got.Since.Equal(s.Since) || got.Keepalive != s.Keepalive || got.Lifetime != s.Lifetime || got.MTU != s.MTU {
			t.Errorf("recovered %+v, was %+v", got, s)
		}
		if got.Traffic.RxPackets != 4 {
			t.Errorf("recovered with %+v", got.Traffic)
		}
		w.billed(s, aaa.StatusStart)
	}
	if after, _ := w.tunnel(udp.TunnelID); after != before {
		t.Errorf("the tunnel is %+v, was %+v", after, before)
	}
	w.sweepAfter(10 * time.Minute)
	w.stopped(v4, aaa.CauseLostCarrier)
	w.stopped(guest, aaa.CauseLostCarrier)
	if stop := w.stopped(udp, aaa.CauseLostCarrier); len(stop.Subscriber.Class) != 1 || string(stop.Subscriber.Class[0]) != "opaque" {
		t.Errorf("Stop record is %+v", stop)
	}
	if again := w.login(request("alice", client(9, 9))); again.Endpoint != udp.Endpoint {
		t.Error("the lease was not sticky")
	}
}

// The host was rebooted: the kernel knows no tunnel any more.
func TestRestartAfterReboot(t *testing.T) {
	for name, away := range map[string]time.Duration{"soon": time.Minute, "late": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := start(t, testConfig())
			s := w.login(request("alice", client(1, 1)))
			w.sweepAfter(time.Second)
			if _, err := w.path.Delete(t.Context(), s.TunnelID); err != nil {
				t.Fatal(err)
			}
			w.clock.advance(away)
			w.restart()
			if name == "late" {
				if stop := w.stopped(s, aaa.CauseNASReboot); stop.SessionTime > time.Minute {
					t.Errorf("Stop record is %+v", stop)
				}
				return
			}
			w.forwards(s)
			w.sweepAfter(time.Minute)
			w.forwards(s)
			w.billed(s, aaa.StatusStart)
		})
	}
}

// The daemon was away for longer than its leases; the kernel forwarded all the time.
func TestRestartAfterLongAbsence(t *testing.T) {
	w := start(t, testConfig())
	s := w.login(request("alice", client(1, 1)))
	w.sweepAfter(time.Second)
	w.clock.advance(24 * time.Hour)
	w.send(s, 5)
	w.restart()
	w.forwards(s)
	w.sweepAfter(time.Second)
	w.forwards(s)
	if l := w.lease(s); l.Session != s.ID || l.Expires.Before(w.clock.Now()) {
		t.Errorf("lease is %+v", l)
	}
}

func TestRestartRemovesWhatIsNobodys(t *testing.T) {
	w := start(t, testConfig())
	stray := datapath.Tunnel{
		ID: 1007, Session: 7, Encap: datapath.V6UDPV4, Local: local, Remote: client(9, 9), Endpoint: testPools()[0].Endpoint(7),
	}
	if err := w.path.Set(t.Context(), stray); err != nil {
		t.Fatal(err)
	}
	offer := w.offer(request("alice", client(1, 1)))
	unreadable := lease.Request{
		Pool: "main", Owner: "mallory", Session: sid{1}.String(), Node: "test", TTL: time.Hour, Data: []byte{99, 1, 2, 3},
	}
	if _, err := w.store.Acquire(t.Context(), unreadable); err != nil {
		t.Fatal(err)
	}
	other := lease.Request{Pool: "main", Owner: "trudy", Session: "elsewhere", Node: "other", TTL: time.Hour}
	elsewhere, err := w.store.Acquire(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	if _, ok := w.tunnel(stray.ID); ok {
		t.Error("the tunnel of nobody is still there")
	}
	w.gone(offer)
	for l, err := range w.store.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if l.State == lease.Active && l.Index != elsewhere.Index {
			t.Errorf("lease %+v is still held", l)
		}
	}
	if w.count(Filter{}) != 0 {
		t.Error("there are sessions")
	}
}

// A configuration that no longer has the pool of a session ends it.
func TestRestartWithoutPool(t *testing.T) {
	w := start(t, testConfig())
	r := request("alice", client(1, 1))
	r.Subscriber.Pool = "gold"
	s := w.login(r)
	w.sweepAfter(time.Second)
	w.config.Pools = w.config.Pools[:2]
	w.restart()
	if w.count(Filter{}) != 0 {
		t.Error("the session is still there")
	}
	if _, ok := w.tunnel(s.TunnelID); ok {
		t.Error("its tunnel is still there")
	}
	if stop := w.stopped(s, aaa.CauseNASReboot); stop.Endpoint != s.Endpoint || stop.Prefix != s.Prefix || stop.TunnelID != s.TunnelID {
		t.Errorf("Stop record is %+v", stop)
	}
}

func TestNothingIsOfferedBeforeRecover(t *testing.T) {
	w := newWorld(t, testConfig())
	b, err := New(w.config, Deps{Store: w.store, Datapath: w.path})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Offer(t.Context(), request("alice", client(1, 1)))
	fails(t, err, ErrBusy)
	fails(t, b.Release(t.Context(), sid{}.String(), aaa.CauseAdminReset), ErrBusy)
	if b.Status().Ready {
		t.Error("it says it is ready")
	}
}

func TestRecoverCanBeTriedAgain(t *testing.T) {
	w := newWorld(t, testConfig())
	broken := aaa.Status(0)
	w.accountant = failing{w.records, func(r aaa.Record) bool { return r.Status == broken }}
	w.restart()
	var sessions []Session
	for n := range 20 {
		sessions = append(sessions, w.login(request(fmt.Sprint("user", n), client(n+1, 1)))) // none of them is marked yet
	}
	broken = aaa.StatusStart
	b, err := New(w.config, Deps{Store: w.store, Datapath: w.path, Accountant: w.accountant, Clock: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	if b.Recover(t.Context()) == nil {
		t.Fatal("recovered although the accountant refuses")
	}
	broken = 0
	if err := b.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions {
		w.forwards(s)
	}
	if n := b.sessions(); n != len(sessions) {
		t.Errorf("%d sessions", n)
	}
}

// Accounting-On and Accounting-Off are given when no session goes on, and only then: billing closes all it has open.
func TestAnnounce(t *testing.T) {
	w := start(t, testConfig())
	statuses := func() (out []aaa.Status) {
		for _, r := range w.records.Records() {
			out = append(out, r.Status)
		}
		return out
	}
	s := w.login(request("alice", client(1, 1)))
	w.sweepAfter(time.Second)
	w.restart()
	if err := w.Shutdown(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.forwards(s)
	if err := w.Shutdown(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	w.restart()
	want := []aaa.Status{aaa.StatusOn, aaa.StatusStart, aaa.StatusStop, aaa.StatusOff, aaa.StatusOn}
	if got := statuses(); !slices.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}
	if off := w.records.Records()[3]; off.Cause != aaa.CauseAdminReboot || off.Session != "" {
		t.Errorf("Accounting-Off is %+v", off)
	}
}
