// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"ddtb/aaa"
)

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

// TestForgedAddress: a login that anybody could have sent from a client's address does not end his tunnel, but those of the subscriber
// himself, of guests, and of whoever is not heard of any more.
func TestForgedAddress(t *testing.T) {
	w := start(t, testConfig())
	forged := func(r Request) Request {
		r.Forgeable = true
		return r
	}
	alice := w.login(forged(request("alice", client(1, 4000))))
	_, err := w.Offer(t.Context(), forged(request("bob", client(1, 4000))))
	fails(t, err, ErrAddressInUse)
	_, err = w.Offer(t.Context(), forged(anonymous(client(1, 4000))))
	fails(t, err, ErrAddressInUse)
	w.forwards(alice)
	again := w.login(forged(request("alice", client(1, 4000))))
	w.stopped(alice, aaa.CausePortPreempted)
	w.clock.advance(91 * time.Second)
	bob := w.login(forged(request("bob", client(1, 4000))))
	w.stopped(again, aaa.CausePortPreempted)
	w.forwards(bob)

	guest := w.login(forged(anonymous(client(2, 4000))))
	w.login(forged(request("carol", client(2, 4000))))
	w.stopped(guest, aaa.CausePortPreempted)
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
