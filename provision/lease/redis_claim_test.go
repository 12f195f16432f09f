// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"ddtb/provision/redis/redistest"
)

// openNode opens the store of one server, past the grace of a new pool.
func openNode(t *testing.T, s *redistest.Server, node string) *Redis {
	t.Helper()
	pools := []Pool{{Name: "homes", Size: 16, EndpointBase: netip.MustParseAddr("2001:db8:f000:1::")}}
	r, err := OpenRedis(t.Context(), pools, RedisOptions{Conn: redistest.Open(t, s.Options()), Node: node, Grace: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	for _, err := range r.All(t.Context()) { // it knows then what it serves, and says so
		if err != nil {
			t.Fatal(err)
		}
	}
	probe := Request{Pool: "homes", Owner: node, Session: node, Node: node, TTL: time.Hour, Foreign: netip.MustParsePrefix("2001:dba::/48")}
	for deadline := time.Now().Add(time.Minute); ; {
		l, err := r.Acquire(t.Context(), probe)
		if err == nil {
			if err := r.Release(t.Context(), Holder{Pool: "homes", Index: l.Index, Session: node}); err != nil {
				t.Fatal(err)
			}
			return r
		}
		if !errors.Is(err, ErrGrace) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestClaimLastsNoLonger: a claim that is repeated and takes its time to Redis ends with its lease all the same; one that Redis
// gives more time than this server knows of keeps it.
func TestClaimLastsNoLonger(t *testing.T) {
	now, delay := time.Unix(1772366400, 0), time.Duration(0)
	r, err := openRedis(t.Context(), []Pool{{Name: "homes", Size: 16, EndpointBase: netip.MustParseAddr("2001:db8:f000:1::")}}, RedisOptions{
		Conn: redistest.Open(t, redistest.Start(t).Options()), Node: "one", Options: Options{Clock: func() time.Time { return now }}, Jump: 48 * time.Hour,
		Time: func() time.Time { // asked when a script is sent
			now, delay = now.Add(delay), 0
			return now
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range r.All(t.Context()) { // it knows then what it serves
		if err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(24 * time.Hour) // the grace of new pools is over
	for range 2 {                 // the second look tells that all is asserted
		if err := r.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	take := func(owner string, ttl time.Duration) (Lease, error) {
		return r.Acquire(t.Context(), Request{Pool: "homes", Owner: owner, Session: owner, Node: "one", TTL: ttl, Foreign: netip.MustParsePrefix("2001:db9::/48")})
	}
	again := func(l Lease, left time.Duration) {
		t.Helper()
		served, _ := r.served.get(r.pools[0], l.Index)
		served.end = now.Add(left)
		if _, ok, err := r.claimNow(t.Context(), r.pools[0], l.Index, served); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	l, err := take("alice", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	again(l, time.Second)
	now = now.Add(5 * time.Second)
	if _, err := take("mallory", time.Minute); !errors.Is(err, ErrTaken) {
		t.Errorf("another one gets the prefix before its time is over: %v", err)
	}
	delay = 20 * time.Second
	again(l, 5*time.Second)
	if _, err := take("mallory", time.Minute); err != nil {
		t.Errorf("the prefix stays taken when its lease is over: %v", err)
	}
}

// TestClaimOfEarlierSession: what a server says late of a session, while its subscriber has a newer one, takes the newer one's
// foreign prefix from nobody: not when it is another, not when the newer one is at another server, and not when the old one ends.
func TestClaimOfEarlierSession(t *testing.T) {
	s := redistest.Start(t)
	one, two := openNode(t, s, "one"), openNode(t, s, "two")
	wide, narrow := netip.MustParsePrefix("2001:db9::/48"), netip.MustParsePrefix("2001:db9:0:1::/64")
	take := func(r *Redis, owner, session string, prefix netip.Prefix) (Lease, error) {
		time.Sleep(2 * time.Millisecond) // sessions of one subscriber begin apart
		return r.Acquire(context.Background(), Request{
			Pool: "homes", Owner: owner, Session: session, Node: r.options.Node, TTL: time.Hour, Foreign: prefix,
		})
	}
	denied := func(what string, prefix netip.Prefix) {
		t.Helper()
		if _, err := take(one, "mallory", "m", prefix); !errors.Is(err, ErrTaken) {
			t.Errorf("%s: another one gets %v: %v", what, prefix, err)
		}
	}
	for _, c := range []struct {
		name      string
		at        *Redis // where the newer session is
		old, next netip.Prefix
	}{{"other prefix", one, wide, narrow}, {"same prefix", one, wide, wide}, {"other server", two, wide, wide}, {"both", two, wide, narrow}} {
		first, err := take(one, "alice", "old", c.old)
		if err != nil {
			t.Fatal(c.name, err)
		}
		late, _ := one.served.get(one.pools[0], first.Index)
		second, err := take(c.at, "alice", "next", c.next)
		if err != nil {
			t.Fatal(c.name, err)
		}
		one.served.drop(one.pools[0], first.Index, "old") // it has ended meanwhile
		if _, _, err := one.claimNow(t.Context(), one.pools[0], first.Index, late); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		denied(c.name, c.next)
		if err := c.at.Release(t.Context(), Holder{Pool: "homes", Index: second.Index, Session: "next"}); err != nil {
			t.Fatal(c.name, err)
		}
		got, err := take(one, "bob", "b", wide)
		if err != nil {
			t.Errorf("%s: %v is not free in the end: %v", c.name, wide, err)
		}
		if err := one.Release(t.Context(), Holder{Pool: "homes", Index: got.Index, Session: "b"}); err != nil {
			t.Fatal(c.name, err)
		}
	}
}

// TestClaimOfSameSession: what is repeated of a lease, since Redis may have lost it, is what its session has by then, and what it has
// no longer is not claimed for it again; while the owner says something himself, it waits.
func TestClaimOfSameSession(t *testing.T) {
	one := openNode(t, redistest.Start(t), "one")
	p := one.pools[0]
	wide, narrow := netip.MustParsePrefix("2001:db9::/48"), netip.MustParsePrefix("2001:db9:0:1::/64")
	take := func(owner string, prefix netip.Prefix) (Lease, error) {
		return one.Acquire(t.Context(), Request{Pool: "homes", Owner: owner, Session: owner, Node: "one", TTL: time.Hour, Foreign: prefix})
	}
	late := func(index uint32, was tenure) {
		t.Helper()
		if _, err := one.claimAgain(t.Context(), p, index, was); err != nil {
			t.Error(err)
		}
	}
	l, err := take("alice", wide)
	if err != nil {
		t.Fatal(err)
	}
	was, _ := one.served.get(p, l.Index)
	if l, err = take("alice", narrow); err != nil {
		t.Fatal(err)
	}
	late(l.Index, was)
	if _, err := take("mallory", narrow); !errors.Is(err, ErrTaken) {
		t.Errorf("another one gets %v: %v", narrow, err)
	}
	give, err := one.turns.take(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	was, _ = one.served.get(p, l.Index)
	if _, err := one.claimAgain(ctx, p, l.Index, was); !errors.Is(err, ErrUnavailable) {
		t.Errorf("claimed out of turn: %v", err)
	}
	give()
	if err := one.Release(t.Context(), Holder{Pool: "homes", Index: l.Index, Session: "alice"}); err != nil {
		t.Fatal(err)
	}
	late(l.Index, was)
	if _, err := take("bob", wide); err != nil {
		t.Errorf("%v is not free in the end: %v", wide, err)
	}
}

// TestClaimTakenBackLate: what takes a claim back and reaches Redis late leaves what the session has claimed since.
func TestClaimTakenBackLate(t *testing.T) {
	one := openNode(t, redistest.Start(t), "one")
	ask := func(owner string) Request {
		return Request{Pool: "homes", Owner: owner, Session: owner, Node: "one", TTL: time.Hour, Foreign: netip.MustParsePrefix("2001:db9::/48")}
	}
	var undo [2]func(context.Context) error
	for i := range undo {
		var err error
		if _, undo[i], err = one.claim(t.Context(), one.pools[0], ask("alice"), tenure{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []error{ErrTaken, nil} {
		if err := undo[i](t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := one.Acquire(t.Context(), ask("mallory")); !errors.Is(err, want) {
			t.Errorf("after claim %d was taken back another one gets the prefix: %v, want %v", i+1, err, want)
		}
	}
}

// TestClaimOfNoLease: a login that comes to nothing, and whose commands reach Redis when its subscriber has long logged in again, takes
// that session's foreign prefix neither by its claim nor by taking it back.
func TestClaimOfNoLease(t *testing.T) {
	one := openNode(t, redistest.Start(t), "one")
	wide, narrow := netip.MustParsePrefix("2001:db9::/48"), netip.MustParsePrefix("2001:db9:0:1::/64")
	ask := func(owner, session string, prefix netip.Prefix) Request {
		return Request{Pool: "homes", Owner: owner, Session: session, Node: "one", TTL: time.Hour, Foreign: prefix}
	}
	for _, late := range []netip.Prefix{narrow, wide, netip.MustParsePrefix("2001:db9:1::/48")} {
		l, err := one.Acquire(t.Context(), ask("alice", "there", narrow))
		if err != nil {
			t.Fatal(err)
		}
		denied := func(what string) {
			t.Helper()
			if _, err := one.Acquire(t.Context(), ask("mallory", "m", narrow)); !errors.Is(err, ErrTaken) {
				t.Errorf("late %v, %s: another one gets %v: %v", late, what, narrow, err)
			}
			lost, err := one.Extend(t.Context(), time.Hour, Holder{Pool: "homes", Index: l.Index, Session: "there"})
			if err != nil || lost != nil {
				t.Errorf("late %v, %s: lost %v, %v", late, what, lost, err)
			}
		}
		_, undo, err := one.claim(t.Context(), one.pools[0], ask("alice", "gone", late), tenure{})
		if err != nil {
			t.Fatal(err)
		}
		denied("claimed")
		if err := undo(t.Context()); err != nil {
			t.Fatal(err)
		}
		denied("taken back")
		if _, again, err := one.claim(t.Context(), one.pools[0], ask("alice", "there", narrow), tenure{}); err != nil {
			t.Error(err)
		} else if err := again(t.Context()); err != nil {
			t.Error(err)
		}
		denied("claimed by the session itself, and taken back")
		if err := one.Release(t.Context(), Holder{Pool: "homes", Index: l.Index, Session: "there"}); err != nil {
			t.Fatal(err)
		}
		got, err := one.Acquire(t.Context(), ask("bob", "b", wide))
		if err != nil {
			t.Fatalf("late %v: not free in the end: %v", late, err)
		}
		if err := one.Release(t.Context(), Holder{Pool: "homes", Index: got.Index, Session: "b"}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClaimOfDisplaced: a server that has not heard that its session went to another one may serve the foreign prefix still. It goes to
// somebody else when that server has ended the session, whatever becomes of the other one.
func TestClaimOfDisplaced(t *testing.T) {
	s := redistest.Start(t)
	one, two := openNode(t, s, "one"), openNode(t, s, "two")
	take := func(r *Redis, owner string) (Lease, error) {
		return r.Acquire(t.Context(), Request{
			Pool: "homes", Owner: owner, Session: owner + r.options.Node, Node: r.options.Node, TTL: time.Hour, Foreign: netip.MustParsePrefix("2001:db9::/48"),
		})
	}
	for _, r := range []*Redis{one, two} {
		l, err := take(r, "alice")
		if err == nil && r == two {
			err = r.Release(t.Context(), Holder{Pool: "homes", Index: l.Index, Session: l.Session})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := take(two, "bob"); !errors.Is(err, ErrTaken) {
		t.Errorf("the first server may serve it still, and another one gets it: %v", err)
	}
	if err := one.Release(t.Context(), Holder{Pool: "homes", Index: 1, Session: "aliceone"}); err != nil {
		t.Fatal(err)
	}
	if _, err := take(two, "bob"); err != nil {
		t.Errorf("not free in the end: %v", err)
	}
}

// TestClaimsOfOneUser: as they overlap, one that reaches far is found behind those that lie in it.
func TestClaimsOfOneUser(t *testing.T) {
	one := openNode(t, redistest.Start(t), "one")
	claim := func(owner, session, prefix string) error {
		r := Request{Pool: "homes", Owner: owner, Session: session, Node: "one", TTL: time.Hour, Foreign: netip.MustParsePrefix(prefix)}
		_, _, err := one.claim(t.Context(), one.pools[0], r, tenure{})
		return err
	}
	for session, prefix := range map[string]string{"a": "2001:db9::/32", "b": "2001:db9:1::/48", "c": "2001:db9:1:2::/64", "d": "2001:db9:1:2::/64"} {
		if err := claim("alice", session, prefix); err != nil {
			t.Error(err)
		}
	}
	if err := claim("bob", "b", "2001:dba:0:1::/64"); err != nil {
		t.Error(err)
	}
	for prefix, want := range map[string]error{
		"2001:db9:1:3::/64": ErrTaken, "2001:db9:ffff::/48": ErrTaken, "2001:db9::/64": ErrTaken, "2001:db9::/32": ErrTaken, "2001:db8::/30": ErrTaken,
		"2001:db9:1:2::/64": ErrTaken, "2001:dba::/48": ErrTaken, "2001:dbb::/32": nil, "2001:db9:ffff:ffff::/64": ErrTaken, "2001:dba:0:2::/64": nil,
	} {
		if err := claim("mallory", prefix, prefix); !errors.Is(err, want) {
			t.Errorf("another one claims %s: %v, want %v", prefix, err, want)
		}
	}
}
