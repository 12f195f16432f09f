// SPDX-License-Identifier: GPL-2.0-or-later

package leasetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"ddtb/provision/lease"
)

func yield(over string) func(*lease.Request) {
	return func(r *lease.Request) { r.Yield, r.Over = true, over }
}

// inOffice asks in the pool "office".
func inOffice(r *lease.Request) { r.Pool = "office" }

// yields wants a request to be refused for a lease that is held.
func (t tester) yields(req lease.Request, held lease.Lease) {
	t.Helper()
	l, err := t.Store.Acquire(t.Context(), req)
	if !errors.Is(err, lease.ErrHeld) || !equal(l, held) {
		t.Errorf("Acquire that yields: %+v, %v; held is %+v", l, err, held)
	}
}

// Who yields takes nothing from a session, wherever and in whatever pool it is, unless its time is over or it is named.
func testYield(t *testing.T, open Open) {
	s := start(t, open, 10)
	a := s.acquire(ask("a", session("one"), foreign("2001:db8:f000::/48"), yield("")))
	again := s.acquire(ask("a", session("one"), foreign("2001:db8:f000::/48"), yield("")))
	if again.Index != a.Index || !again.Since.Equal(a.Since) {
		t.Errorf("asked again: %+v, was %+v", again, a)
	}
	other := []func(*lease.Request){session("two"), node("node2")}
	s.yields(ask("a", append(other, yield(""))...), a)
	s.yields(ask("a", append(other, yield("three"))...), a)
	s.yields(ask("a", append(other, yield(""), index(7))...), a)
	s.yields(ask("a", append(other, yield(""), foreign("2001:db8:f000::/48"))...), a)
	s.yields(ask("a", append(other, yield(""), inOffice)...), a)
	if got := s.find(a.Index); !equal(got, again) {
		t.Errorf("refused requests made %+v of %+v", got, again)
	}
	two := s.acquire(ask("a", append(other, yield("one"))...))
	s.yields(ask("a", session("one"), yield("")), two)
	s.acquire(ask("b", session("three"), yield("")))
	// Past its end a lease keeps nobody out, nor does a reservation without session.
	s.Advance(TTL)
	three := s.acquire(ask("a", session("three"), yield("")))
	s.release(three)
	s.reserve(three.Index, "a", true)
	four := s.acquire(ask("a", session("four"), yield("")))
	s.yields(ask("a", session("five"), yield("")), four)
	s.acquire(ask("a", session("five")))
}

// Of sessions that yield and ask at the same time in different pools, one at most gets a lease, and what the others are told is true.
func testYieldAtOnce(t *testing.T, open Open) {
	s := start(t, open, 600)
	const rounds = 200
	got := 0
	for n := range rounds {
		owner := fmt.Sprint("owner", n)
		results := make(chan error, 2)
		var held [2]lease.Lease
		for i, where := range []func(*lease.Request){func(*lease.Request) {}, inOffice} {
			go func() {
				l, err := s.Store.Acquire(t.Context(), ask(owner, session(fmt.Sprint(owner, "-", i)), node(fmt.Sprint("node", i)), yield(""), where))
				if err == nil {
					held[i] = l
				}
				results <- err
			}()
		}
		winners := 0
		for range 2 {
			if err := <-results; err == nil {
				winners++
			} else if !errors.Is(err, lease.ErrHeld) {
				t.Fatal(err)
			}
		}
		if got += winners; winners > 1 {
			t.Fatalf("round %d: %s has %+v and %+v", n, owner, held[0], held[1])
		}
		for _, l := range held {
			if l.Session != "" {
				s.release(l)
			}
		}
		for l, err := range s.Store.All(t.Context()) {
			if err != nil || l.Owner == owner && l.State == lease.Active {
				t.Fatalf("round %d: a lease is left over: %+v, %v", n, l, err)
			}
		}
	}
	if got == 0 {
		t.Error("nobody ever got a lease")
	}
}

// What a session leaves that lost its lease to one of another node stays until it is released.
func testDisplaced(t *testing.T, open Open) {
	s := start(t, open, 3)
	a := s.acquire(ask("a", session("one"), foreign("2001:db8:f000::/48")))
	s.acquire(ask("a", session("two"), foreign("2001:db8:f000::/48"))) // of the same node: it knows itself
	if got := s.displaced(); len(got) > 0 {
		t.Errorf("displaced by its own node: %+v", got)
	}
	s.Advance(time.Second)
	s.acquire(ask("a", session("three"), node("node2")))
	if s.Alone {
		if got := s.displaced(); len(got) > 0 {
			t.Errorf("there is one server, and displaced are %+v", got)
		}
		return
	}
	want := a
	want.Session, want.State, want.Taker, want.Expires = "two", lease.Displaced, "a", a.Since.Add(time.Second)
	s.owed(want)
	// It can change what it leaves, and is lost all the same.
	h := holder(want)
	h.Data = []byte("newer")
	if lost, err := s.Store.Extend(t.Context(), TTL, h); err != nil || len(lost) != 1 {
		t.Errorf("a displaced session extends: lost %v, %v", lost, err)
	}
	want.Data = h.Data
	s.owed(want)
	if s.Reopen != nil {
		s.Store = s.Reopen(t)
		s.owed(want)
	}
	s.release(want)
	s.release(want)
	s.owed()
	// It is not displaced any more when it has the lease again.
	s.acquire(ask("a", session("four"), node("node1")))
	s.acquire(ask("a", session("three"), node("node2")))
	if got := s.displaced(); len(got) != 1 || got[0].Session != "four" {
		t.Errorf("displaced: %+v", got)
	}
	s.release(got(s, "four"))
	// The index goes to somebody else, long after the end; it ended then.
	left := s.find(a.Index)
	s.acquire(ask("b"))
	s.Advance(TTL + Quarantine)
	if l := s.acquire(ask("c", node("node3"))); l.Index != a.Index {
		t.Errorf("c got %d, expected %d", l.Index, a.Index)
	}
	left.State, left.Taker = lease.Displaced, "c"
	s.owed(left)
	s.release(left)
	// It is reserved for somebody else, long after the end, too.
	left = s.find(a.Index)
	s.Advance(TTL + Quarantine)
	s.reserve(a.Index, "d", true)
	left.State, left.Taker = lease.Displaced, "d"
	s.owed(left)
	s.release(left)
	testDisplacedElsewhere(t, open)
}

// A lease that is left behind for another index, or whose foreign prefix another pool's takes, displaces no less.
func testDisplacedElsewhere(t *testing.T, open Open) {
	s := start(t, open, 600)
	a := s.acquire(ask("a", session("one")))
	s.acquire(ask("a", session("two"), node("node2"), index(7)))
	if got := s.displaced(); len(got) != 1 || got[0].Index != a.Index || got[0].Session != "one" {
		t.Errorf("left behind: %+v", got)
	}
	s.release(a)
	b := s.acquire(ask("b", foreign("2001:db8:f000::/48")))
	s.Advance(TTL)
	s.acquire(ask("c", node("node2"), inOffice, foreign("2001:db8:f000::/48")))
	if got := s.displaced(); len(got) != 1 || got[0].Session != b.Session || !got[0].Expires.Equal(b.Expires) {
		t.Errorf("another has its prefix: %+v", got)
	}
	s.release(b)
	// What a session had before a reservation took its lease is not what its next one has.
	d := s.acquire(ask("d", foreign("2001:db8:f001::/48")))
	s.Advance(TTL + Quarantine)
	s.reserve(d.Index, "e", true)
	d = s.acquire(ask("d"))
	s.Advance(TTL)
	s.acquire(ask("f", foreign("2001:db8:f001::/48")))
	if got := s.find(d.Index); got.State != lease.Active || got.Session != d.Session {
		t.Errorf("another has the prefix it had once, and its lease is %+v", got)
	}
	for i := range 300 { // more than a page
		s.acquire(ask(fmt.Sprint("many", i)))
		s.acquire(ask(fmt.Sprint("many", i), session("taker"), node("node2")))
	}
	if got := s.displaced(); len(got) != 300 {
		t.Errorf("%d are displaced, expected 300", len(got))
	}
}

// owed wants these to be displaced.
func (t tester) owed(want ...lease.Lease) {
	t.Helper()
	got := t.displaced()
	if len(got) != len(want) {
		t.Fatalf("displaced are %+v, expected %+v", got, want)
	}
	for i := range want {
		if !equal(got[i], want[i]) {
			t.Errorf("displaced is %+v, expected %+v", got[i], want[i])
		}
	}
}

// got is what the named session left.
func got(s tester, session string) lease.Lease {
	s.Helper()
	for _, l := range s.displaced() {
		if l.Session == session {
			return l
		}
	}
	s.Fatalf("%s is not displaced", session)
	return lease.Lease{}
}
