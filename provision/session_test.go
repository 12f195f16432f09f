// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"net/netip"
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
	if !slices.Equal(order, []aaa.Status{aaa.StatusStart, aaa.StatusStop, aaa.StatusStart}) {
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

func TestSessionPolicy(t *testing.T) {
	config := testConfig()
	config.Sessions = Sessions{Limit: 2}
	w := start(t, config)
	one := w.login(request("alice", client(1, 1)))
	w.clock.advance(time.Second)
	two := w.login(request("alice", client(2, 2)))
	w.clock.advance(time.Second)
	if one.Endpoint == two.Endpoint || one.Owner != "alice" || two.Owner != "alice#2" {
		t.Errorf("sessions are %+v and %+v", one, two)
	}
	if owned := w.Owned("alice"); len(owned) != 2 || owned[0].ID != one.ID {
		t.Errorf("alice has %+v", owned)
	}
	w.send(one, 1)
	w.sweepAfter(time.Second) // the second one is the longest silent now
	three := w.login(request("alice", client(3, 3)))
	w.stopped(two, aaa.CausePortPreempted)
	if three.Endpoint != two.Endpoint {
		t.Errorf("the third session has endpoint %v, that of the second was %v", three.Endpoint, two.Endpoint)
	}
	w.forwards(one)
	if err := w.Release(t.Context(), one.ID, aaa.CauseUserRequest); err != nil {
		t.Fatal(err)
	}
	if four := w.login(request("alice", client(4, 4))); four.Endpoint != one.Endpoint {
		t.Errorf("the fourth session has endpoint %v, that of the free slot was %v", four.Endpoint, one.Endpoint)
	}
	if again := w.login(request("alice", client(3, 3))); again.Endpoint != three.Endpoint {
		t.Error("a login from the same outer address did not take its own slot")
	}

	r := request("bob", client(5, 5)) // the backend's word goes before ours
	r.Subscriber.SessionLimit = 1
	b := w.login(r)
	r.Client = client(6, 6)
	w.login(r)
	w.stopped(b, aaa.CausePortPreempted)
}

func TestDenyPolicy(t *testing.T) {
	config := testConfig()
	config.Sessions = Sessions{Deny: true}
	w := start(t, config)
	offer := w.offer(request("alice", client(1, 1)))
	_, err := w.Offer(t.Context(), request("alice", client(2, 2)))
	fails(t, err, ErrInProgress)
	if err := w.Activate(t.Context(), offer.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.Offer(t.Context(), request("alice", client(2, 2)))
	fails(t, err, ErrDenied)
	w.forwards(w.session(offer.ID))
	same := w.login(request("alice", client(1, 1))) // the same socket: the client began again
	w.clock.advance(2 * time.Minute)                // silent, and not yet swept
	w.login(request("alice", client(2, 2)))
	w.stopped(same, aaa.CausePortPreempted)
}

func TestOwnerOfSlots(t *testing.T) {
	seen := make(map[string]string)
	for _, name := range []string{"a", "a#", "a#2", "a##", "a##2", "a###2", "#", "#2", "##"} {
		for slot := 1; slot <= 12; slot++ {
			owner, who := Owner(name, slot), name+" slot "+string(rune('0'+slot))
			if other, ok := seen[owner]; ok {
				t.Errorf("%s and %s are both %q", who, other, owner)
			}
			seen[owner] = who
		}
	}
	if other, ok := seen[anonymousOwner(sid{})]; ok {
		t.Errorf("anonymous and %s are the same", other)
	}
}

func TestAdmission(t *testing.T) {
	config := testConfig()
	config.MaxSessions, config.MaxNegotiating = 4, 2
	w := start(t, config)
	one := w.offer(request("a", client(1, 1)))
	two := w.offer(request("b", client(2, 1)))
	_, err := w.Offer(t.Context(), request("c", client(3, 1)))
	fails(t, err, ErrBusy)
	for _, s := range []Session{one, two} {
		if err := w.Activate(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.login(request("c", client(3, 1)))
	w.login(request("d", client(4, 1)))
	_, err = w.Offer(t.Context(), request("e", client(5, 1)))
	fails(t, err, ErrFull)
	_, err = w.Offer(t.Context(), anonymous(client(5, 1)))
	fails(t, err, ErrFull)
	w.login(request("a", client(6, 1))) // takes the place of his own
	w.stopped(one, aaa.CausePortPreempted)
	if status := w.Status(); status.Logins != 5 || status.Refused != 3 || status.Active[datapath.V6UDPV4] != 4 {
		t.Errorf("status is %+v", status)
	}
}

func TestFullPool(t *testing.T) {
	config := testConfig()
	config.AnonymousPerAddress = 1000
	w := start(t, config)
	for n := range 255 {
		w.login(anonymous(client(1, uint16(n+1))))
	}
	_, err := w.Offer(t.Context(), anonymous(client(1, 999)))
	fails(t, err, ErrFull)
}

func TestAnonymous(t *testing.T) {
	config := testConfig()
	config.AnonymousPerAddress = 2
	w := start(t, config)
	one := w.login(anonymous(client(1, 1)))
	w.login(anonymous(client(1, 2)))
	if one.Pool != "guest" || one.Prefix.IsValid() || !one.Subscriber.Anonymous {
		t.Errorf("session is %+v", one)
	}
	_, err := w.Offer(t.Context(), anonymous(client(1, 3)))
	fails(t, err, ErrDenied)
	w.login(anonymous(client(2, 1)))
	r := anonymous(client(3, 1))
	r.Router = true
	_, err = w.Offer(t.Context(), r)
	fails(t, err, ErrAnonymousPrefix)
	if err := w.Release(t.Context(), one.ID, aaa.CauseUserRequest); err != nil {
		t.Fatal(err)
	}
	w.stopped(one, aaa.CauseUserRequest)
	w.login(anonymous(client(1, 3)))
}

func TestPrefixLength(t *testing.T) {
	w := start(t, testConfig())
	for _, c := range []struct {
		pool string
		want int
		err  error
	}{
		{"main", 0, nil}, {"main", 56, nil}, {"main", 64, nil}, {"main", 48, ErrPrefixLength}, {"gold", 48, nil}, {"guest", 0, ErrPrefixLength},
	} {
		r := request("alice", client(1, 1))
		r.Subscriber.Pool, r.PrefixLen = c.pool, c.want
		_, err := w.Offer(t.Context(), r)
		if (err == nil) != (c.err == nil) {
			t.Errorf("/%d from %s: %v", c.want, c.pool, err)
		}
		if c.err != nil {
			fails(t, err, c.err)
		}
	}
	r := request("bob", client(2, 1))
	r.Subscriber.NoPrefix = true
	_, err := w.Offer(t.Context(), r)
	fails(t, err, ErrPrefixLength)
	r.Router = false
	if s := w.login(r); s.Prefix.IsValid() {
		t.Errorf("a host got prefix %v", s.Prefix)
	}
}

func TestStaticAddresses(t *testing.T) {
	w := start(t, testConfig())
	pool := testPools()[0]
	r := request("alice", client(1, 1))
	r.Subscriber.Endpoint = pool.Endpoint(4711)
	if s := w.login(r); s.Endpoint != pool.Endpoint(4711) || s.Prefix != pool.Prefix(4711) {
		t.Errorf("session is %+v", s)
	}
	r = request("bob", client(2, 1))
	r.Subscriber.Prefix = pool.Prefix(12)
	if s := w.login(r); s.Endpoint != pool.Endpoint(12) || s.Prefix != pool.Prefix(12) {
		t.Errorf("session is %+v", s)
	}
	r = request("carol", client(3, 1))
	r.Subscriber.Prefix = netip.MustParsePrefix("2001:dba:77::/48")
	carol := w.login(r)
	if carol.Prefix != r.Subscriber.Prefix {
		t.Errorf("session is %+v", carol)
	}
	w.forwards(carol)
	r = request("dave", client(4, 1)) // somebody else's foreign prefix
	r.Subscriber.Prefix = carol.Prefix
	_, err := w.Offer(t.Context(), r)
	fails(t, err, ErrBusy)
	for _, sub := range []aaa.Subscriber{
		{Name: "e", Endpoint: netip.MustParseAddr("2001:dbb::1")},
		{Name: "e", Endpoint: pool.Endpoint(7), Prefix: pool.Prefix(8)},
		{Name: "e", Endpoint: pool.Endpoint(0)},
		{Name: "e", Endpoint: pool.Endpoint(7), Pool: "gold"},
		{Name: "e", Pool: "none"},
		{Name: strings.Repeat("e", 300)},
		{},
	} {
		r := request("", client(5, 1))
		r.Subscriber = sub
		if s, err := w.Offer(t.Context(), r); err == nil {
			t.Errorf("%+v got %+v", sub, s)
		}
	}
	twice := request("alice", client(11, 1)) // whatever his limit: a static address is in one place
	twice.Subscriber.Endpoint, twice.Subscriber.SessionLimit = pool.Endpoint(4711), 3
	if s := w.login(twice); s.Endpoint != pool.Endpoint(4711) || len(w.Owned("alice")) != 1 {
		t.Errorf("session is %+v", s)
	}
	moved := request("alice", client(1, 1)) // the static address was changed while he is there
	moved.Subscriber.Endpoint = pool.Endpoint(4712)
	if s := w.login(moved); s.Endpoint != pool.Endpoint(4712) {
		t.Errorf("session is %+v", s)
	} else {
		w.forwards(s)
	}
	if _, ok := w.tunnel(pool.ID(4711)); ok {
		t.Error("the old static address still forwards")
	}
}

func TestClientAddressInUse(t *testing.T) {
	w := start(t, testConfig())
	alice := w.login(v6v4(request("alice", client(1, 0))))
	_, err := w.Offer(t.Context(), v6v4(request("bob", client(1, 0))))
	fails(t, err, ErrAddressInUse)
	again := w.login(v6v4(request("alice", client(1, 9)))) // his own
	w.stopped(alice, aaa.CausePortPreempted)
	w.clock.advance(91 * time.Second)
	bob := w.login(v6v4(request("bob", client(1, 0)))) // alice was silent too long
	w.stopped(again, aaa.CausePortPreempted)
	w.forwards(bob)

	guest := w.login(v6v4(anonymous(client(2, 0)))) // no account keeps this address
	w.login(v6v4(request("carol", client(2, 0))))
	w.stopped(guest, aaa.CausePortPreempted)

	one := w.offer(v6v4(request("dave", client(3, 0)))) // who accepts first has it
	two := w.offer(v6v4(request("erin", client(3, 0))))
	if err := w.Activate(t.Context(), one.ID); err != nil {
		t.Fatal(err)
	}
	fails(t, w.Activate(t.Context(), two.ID), ErrAddressInUse)
	w.forwards(w.session(one.ID))
}

// A NAT gives an outer address and port to another client once the first is gone.
func TestReusedPortEndsTheOlder(t *testing.T) {
	w := start(t, testConfig())
	old := w.login(request("alice", client(1, 4000)))
	w.send(old, 3)
	fresh := w.login(request("bob", client(1, 4000)))
	w.forwards(fresh)
	if stop := w.stopped(old, aaa.CausePortPreempted); stop.Packets.Input != 3 {
		t.Errorf("Stop record is %+v", stop)
	}
}

func TestHostileRequests(t *testing.T) {
	w := start(t, testConfig())
	for _, addr := range []string{"0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[2001:db8::1]:1", "198.51.0.1:0"} {
		_, err := w.Offer(t.Context(), request("alice", netip.MustParseAddrPort(addr)))
		fails(t, err, ErrClientAddress)
	}
	mapped := request("alice", netip.MustParseAddrPort("[::ffff:198.51.0.1]:77"))
	if s := w.login(mapped); s.Client != netip.MustParseAddrPort("198.51.0.1:77") {
		t.Errorf("client is %v", s.Client)
	}
	for _, id := range []string{"", "x", strings.Repeat("0", 24), strings.Repeat("A", 24), strings.Repeat("é", 12)} {
		fails(t, w.Activate(t.Context(), id), ErrNotFound)
		fails(t, w.Release(t.Context(), id, aaa.CauseUserRequest), ErrNotFound)
		if err := w.Reject(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	r := request("alice", client(1, 1))
	r.Encap = 9
	if _, err := w.Offer(t.Context(), r); err == nil {
		t.Error("an unknown encapsulation was offered")
	}
}

func TestKeepaliveAndLifetime(t *testing.T) {
	w := start(t, testConfig())
	for _, c := range []struct{ asked, told time.Duration }{
		{0, 30 * time.Second}, {time.Second, 10 * time.Second}, {time.Minute, time.Minute}, {time.Hour, 5 * time.Minute},
	} {
		r := request("alice", client(1, 1))
		r.Keepalive = c.asked
		if s := w.offer(r); s.Keepalive != c.told || s.Lifetime != 7*24*time.Hour {
			t.Errorf("asked for %v: %+v", c.asked, s)
		}
	}
	r := request("alice", client(1, 1))
	r.Subscriber.SessionTimeout = time.Hour
	if s := w.offer(r); s.Lifetime != time.Hour {
		t.Errorf("lifetime is %v", s.Lifetime)
	}
}

// A subscriber whose last request is still being worked on is told so when he cannot wait any longer.
func TestBusySubscriber(t *testing.T) {
	w := start(t, testConfig())
	if err := w.locks.lock(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Offer(ctx, request("alice", client(1, 1)))
	fails(t, err, ErrInProgress)
	w.login(request("bob", client(2, 1)))
	w.locks.unlock("alice")
	w.login(request("alice", client(1, 1)))
}
