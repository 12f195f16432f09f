// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unique"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// routed is a request of a subscriber with routes.
func routed(name string, from netip.AddrPort, prefixes ...string) Request {
	r := request(name, from)
	for _, p := range prefixes {
		r.Subscriber.Routes = append(r.Subscriber.Routes, aaa.Route{Prefix: netip.MustParsePrefix(p), Metric: 1})
	}
	return r
}

func TestRoutes(t *testing.T) {
	w := start(t, testConfig())
	r := routed("alice", client(1, 1), "2001:dba:2::5/48", "2001:dba:1::/56", "2001:dba:3::5/128", "2001:dba:77:1::/64", "2001:dba:77::/48", "2001:dba:1::/56")
	r.Subscriber.Prefix = netip.MustParsePrefix("2001:dba:77::/48")
	alice := w.login(r)
	if got := alice.Routes.String(); got != "2001:dba:1::/56 2001:dba:2::/48 2001:dba:3::5/128" {
		t.Errorf("routes are %q", got)
	}
	w.forwards(alice)
	w.sweep(t.Context())
	w.restart()
	if got := w.session(alice.ID); got.Routes != alice.Routes {
		t.Errorf("recovered with routes %q", got.Routes)
	}
	w.forwards(alice)
	for address, n := range map[string]int{"2001:dba:2:ffff::1": 1, "2001:dba:3::5": 1, "2001:dba:3::6": 0} {
		if got := w.count(Filter{Address: netip.MustParseAddr(address)}); got != n {
			t.Errorf("%d sessions have %s", got, address)
		}
	}
	if w.count(Filter{Prefix: netip.MustParsePrefix("2001:dba::/46")}) != 1 {
		t.Error("a session is not found by what holds its routes")
	}
	r = routed("alice", client(1, 2), "2001:dba:2::/48", "2001:dba:4::/48") // others now, and another place
	r.Subscriber.SessionLimit = 3
	moved := w.login(r)
	w.forwards(moved)
	for _, record := range append(w.records.Session(alice.ID), w.records.Session(moved.ID)...) {
		want := alice.Routes
		if record.Session == moved.ID {
			want = moved.Routes
		}
		if !slices.Equal(record.Routes, slices.Collect(want.All())) {
			t.Errorf("a record with status %v has routes %v", record.Status, record.Routes)
		}
	}
	w.stopped(alice, aaa.CausePortPreempted) // whatever his limit: a route leads to one place
	if len(w.claims) != 2 {
		t.Errorf("claims are %v", w.claims)
	}
	w.sweepAfter(time.Second)
	w.path.Reboot()
	w.restart()
	w.forwards(moved)
	if guest := w.login(func() Request {
		r := anonymous(client(2, 1))
		r.Subscriber.Routes = []aaa.Route{{Prefix: netip.MustParsePrefix("2001:dba:9::/48"), Gateway: testServer}}
		return r
	}()); guest.Routes.Len() != 0 {
		t.Errorf("an anonymous session has routes %v", guest.Routes)
	}
}

func TestRoutesRefused(t *testing.T) {
	w := start(t, testConfig())
	pool := testPools()[0]
	many := routed("alice", client(1, 1))
	for n := range datapath.MaxRoutes + 1 {
		many.Subscriber.Routes = append(many.Subscriber.Routes, aaa.Route{Prefix: netip.MustParsePrefix(fmt.Sprintf("2001:dba:%x::/48", n))})
	}
	elsewhere := routed("alice", client(1, 1), "2001:dba:1::/48")
	elsewhere.Subscriber.Routes[0].Gateway = netip.MustParseAddr("2001:dba:1::1")
	for name, r := range map[string]Request{
		"in a pool":        routed("alice", client(1, 1), "2001:dba:1::/48", pool.Prefix(7).String()),
		"over a pool":      routed("alice", client(1, 1), "2001:db8::/32"),
		"an endpoint":      routed("alice", client(1, 1), pool.Endpoint(7).String()+"/128"),
		"the server":       routed("alice", client(1, 1), testServer.String()+"/64"),
		"all there is":     routed("alice", client(1, 1), "::/0"),
		"multicast":        routed("alice", client(1, 1), "ff08::/16"),
		"link-local":       routed("alice", client(1, 1), "fe80::/64"),
		"mapped IPv4":      routed("alice", client(1, 1), "::ffff:192.0.2.0/120"),
		"too many":         many,
		"another's router": elsewhere,
	} {
		if s, err := w.Offer(t.Context(), r); err == nil {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	if n := w.count(Filter{}); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	for l, err := range w.store.All(t.Context()) {
		if err != nil || l.State == lease.Active {
			t.Errorf("left is %+v, %v", l, err)
		}
	}
	for _, gateway := range []netip.Addr{pool.Endpoint(9), pool.Prefix(9).Addr().Next()} {
		r := routed("bob", client(2, 1), "2001:dba:1::/48")
		r.Subscriber.Endpoint, r.Subscriber.Routes[0].Gateway = pool.Endpoint(9), gateway
		if s := w.login(r); s.Routes.Len() != 1 {
			t.Errorf("through %v: %+v", gateway, s)
		}
	}
}

// What one has nobody else gets, nor a part of it, nor what it is a part of.
func TestRoutesOfAnother(t *testing.T) {
	w := start(t, testConfig())
	alice := w.login(routed("alice", client(1, 1), "2001:dba:1::/48"))
	static := request("carol", client(3, 1))
	static.Subscriber.Prefix = netip.MustParsePrefix("2001:dba:7::/48")
	carol := w.login(static)
	statically := func(prefix string) Request {
		r := request("bob", client(2, 1))
		r.Subscriber.Prefix = netip.MustParsePrefix(prefix)
		return r
	}
	for _, r := range []Request{
		routed("bob", client(2, 1), "2001:dba:2::/48", "2001:dba:1::/48"), routed("bob", client(2, 1), "2001:dba:1:ff::/64"),
		routed("bob", client(2, 1), "2001:dba::/32"), routed("bob", client(2, 1), "2001:dba:7:1::/64"),
		statically("2001:dba:1::/48"), statically("2001:dba:1:ff00::/56"), statically("2001:dba::/40"),
	} {
		_, err := w.Offer(t.Context(), r)
		fails(t, err, ErrBusy)
	}
	w.restart()
	_, err := w.Offer(t.Context(), routed("bob", client(2, 1), "2001:dba:1:ff::/64"))
	fails(t, err, ErrBusy)

	one, two := w.offer(routed("bob", client(2, 1), "2001:dba:2::/48")), w.offer(routed("dave", client(4, 1), "2001:dba:2:1::/64"))
	if err := w.Activate(t.Context(), one.ID); err != nil { // who accepts first has it
		t.Fatal(err)
	}
	fails(t, w.Activate(t.Context(), two.ID), ErrBusy)
	w.forwards(one)
	for _, s := range []Session{alice, one, carol} {
		if err := w.Release(t.Context(), s.ID, aaa.CauseUserRequest); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Activate(t.Context(), two.ID); err != nil {
		t.Fatal(err)
	}
	w.login(routed("erin", client(5, 1), "2001:dba:1::/48", "2001:dba:7::/48"))
	if len(w.claims) != 3 {
		t.Errorf("claims are %v", w.claims)
	}
}

// A login that fails keeps nothing, and takes nothing from the session it was to replace.
func TestRoutesOfAFailedLogin(t *testing.T) {
	w := newWorld(t, testConfig())
	fail := false
	w.accountant = failing{Accountant: w.records, refuse: func(aaa.Record) bool { return fail }}
	w.restart()
	old := w.login(routed("alice", client(1, 1), "2001:dba:1::/48"))
	s := w.offer(routed("alice", client(1, 2), "2001:dba:1::/48", "2001:dba:2::/48"))
	fail = true
	if err := w.Activate(t.Context(), s.ID); err == nil {
		t.Fatal("a session started without its record")
	}
	fail = false
	w.forwards(old)
	if len(w.claims) != 1 || w.claims[0].e.id.String() != old.ID {
		t.Errorf("claims are %v", w.claims)
	}
	w.login(routed("bob", client(2, 1), "2001:dba:2::/48"))
	_, err := w.Offer(t.Context(), routed("carol", client(3, 1), "2001:dba:1::/48"))
	fails(t, err, ErrBusy)
}

// TestClaims compares claims with a list, at random.
func TestClaims(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	terms := func() unique.Handle[terms] {
		var routes []netip.Prefix
		for range 1 + random.IntN(4) {
			a := netip.MustParseAddr("2001:dba::").As16()
			a[4], a[5] = byte(random.IntN(4)), byte(random.IntN(4)<<6)
			routes = append(routes, netip.PrefixFrom(netip.AddrFrom16(a), 32+random.IntN(12)))
		}
		return unique.Make(terms{routes: datapath.PrefixesOf(routes...)})
	}
	var have claims
	var list []*entry
	refused := 0
	for n := range 20000 {
		if len(list) > 0 && random.IntN(3) == 0 {
			at := random.IntN(len(list))
			have.remove(list[at])
			list = slices.Delete(list, at, at+1)
			continue
		}
		e := &entry{name: fmt.Sprint("user", random.IntN(8)), terms: terms(), client: [4]byte{byte(n)}}
		want, same := false, 0
		for _, other := range list {
			if other.name == e.name {
				same++
				continue
			}
			want = want || slices.ContainsFunc(e.outside(), other.terms.Value().routes.Overlaps)
		}
		err := have.contend(e)
		if want != errors.Is(err, ErrBusy) {
			t.Fatalf("%v beside %v: %v, refusal expected: %v", e.outside(), have, err, want)
		}
		if err != nil {
			refused++
		} else if same < 2 {
			have.add(e)
			list = append(list, e)
		}
	}
	for _, e := range list {
		have.remove(e)
	}
	if len(have) != 0 || refused < 1000 {
		t.Errorf("left are %v, refused were %d", have, refused)
	}
}

// Of several delegated prefixes (RFC 4818 section 3) the client is told of the first. The others are led to it, if it is a router, and
// are billed as what they are.
func TestFurtherPrefixes(t *testing.T) {
	w := start(t, testConfig())
	r := routed("alice", client(1, 1), "2001:dba:1::/56")
	r.Subscriber.Prefix = netip.MustParsePrefix("2001:dba:77::/48")
	further := aaa.Route{Prefix: netip.MustParsePrefix("2001:dba:78::/48"), Delegated: true}
	r.Subscriber.Routes = append(r.Subscriber.Routes, further)
	alice := w.login(r)
	if alice.Prefix != r.Subscriber.Prefix || alice.Routes.String() != "2001:dba:1::/56 2001:dba:78::/48" {
		t.Errorf("prefix %v, routes %v", alice.Prefix, alice.Routes)
	}
	w.forwards(alice)
	other := request("other", client(2, 1))
	other.Subscriber.Prefix = netip.MustParsePrefix("2001:dba:78:1::/64")
	if s, err := w.Offer(t.Context(), other); err == nil {
		err = w.Activate(t.Context(), s.ID)
		fails(t, err, ErrBusy)
	}
	w.sweepAfter(time.Second)
	w.restart()
	w.forwards(alice)
	if err := w.Release(t.Context(), alice.ID, aaa.CauseUserRequest); err != nil {
		t.Fatal(err)
	}
	for _, record := range w.billed(alice, aaa.StatusStart, aaa.StatusStop) {
		if record.Prefix != alice.Prefix || !slices.Equal(record.Further, []netip.Prefix{further.Prefix}) || !slices.Equal(record.Routes, []netip.Prefix{netip.MustParsePrefix("2001:dba:1::/56")}) {
			t.Errorf("a record has prefix %v, further %v, routes %v", record.Prefix, record.Further, record.Routes)
		}
	}
	r.Router = false
	if host := w.login(r); host.Prefix.IsValid() || host.Routes.String() != "2001:dba:1::/56" {
		t.Errorf("a host has prefix %v, routes %v", host.Prefix, host.Routes)
	}
	r.Router = true
	r.Subscriber.Routes = []aaa.Route{{Prefix: netip.MustParsePrefix("2001:db8:1000:100::/56"), Delegated: true}}
	if _, err := w.Offer(t.Context(), r); err == nil {
		t.Error("a further prefix lies in a pool")
	}
	if err := CheckGrant(testPools(), r.Subscriber); err == nil {
		t.Error("nobody is warned of it")
	}
}
