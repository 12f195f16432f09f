// SPDX-License-Identifier: GPL-2.0-or-later

package leasetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"ddtb/provision/lease"
)

// A lease past its end is its session's until somebody else needs the index.
func testExpiry(t *testing.T, open Open) {
	s := start(t, open, 2) // one to lease
	a := s.acquire(ask("a"))
	s.Advance(TTL)
	for _, wait := range []time.Duration{0, Quarantine - time.Second} {
		s.Advance(wait)
		s.refused(ask("b"), lease.ErrFull)
		s.refused(ask("b", index(a.Index)), lease.ErrTaken)
		if l := s.find(a.Index); !equal(l, a) {
			t.Errorf("past its end: %+v, was %+v", l, a)
		}
	}
	if lost := s.extend(TTL, a); lost != nil {
		t.Fatalf("lost %v", lost)
	}
	if l := s.find(a.Index); !l.Since.Equal(a.Since) || !l.Expires.Equal(a.Expires.Add(Quarantine-time.Second+TTL)) || string(l.Data) != string(a.Data) {
		t.Errorf("extended past its end: %+v, was %+v", l, a)
	}
	s.Advance(TTL + Quarantine/2)
	if l := s.acquire(ask("a")); !l.Since.Equal(a.Since) {
		t.Errorf("the same session again: since %v, was %v", l.Since, a.Since)
	}
	s.Advance(TTL + Quarantine)
	if b := s.acquire(ask("b")); b.Index != a.Index {
		t.Errorf("b got %d, want %d", b.Index, a.Index)
	}
	if lost := s.extend(TTL, a); len(lost) != 1 {
		t.Errorf("b has the index, and a lost %v", lost)
	}
	// Released past its end it rests from the release on.
	s.Advance(TTL + Quarantine/2)
	s.release(s.find(a.Index))
	s.Advance(Quarantine - time.Second)
	s.refused(ask("c"), lease.ErrFull)
	s.Advance(time.Second)
	s.acquire(ask("c"))
}

func testData(t *testing.T, open Open) {
	s := start(t, open, 10)
	a, b := s.acquire(ask("a", foreign("2001:db8:f000::/48"))), s.acquire(ask("b"))
	put := holder(a)
	put.Data = []byte("newer")
	gone := holder(b)
	gone.Session, gone.Data = "another", []byte("not to be kept")
	lost, err := s.Store.Extend(t.Context(), TTL, put, gone, holder(b))
	if err != nil || len(lost) != 1 || !sameHolder(lost[0].Holder, gone) {
		t.Fatalf("lost %v, %v", lost, err)
	}
	want := a
	want.Data = []byte("newer")
	if got := s.find(a.Index); !equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := s.find(b.Index); string(got.Data) != "data of b" {
		t.Errorf("no new data: %q", got.Data)
	}
	put.Data = []byte{}
	if _, err := s.Store.Extend(t.Context(), TTL, put); err != nil {
		t.Fatal(err)
	}
	if got := s.find(a.Index); len(got.Data) != 0 {
		t.Errorf("emptied: %q", got.Data)
	}
	put.Data = make([]byte, lease.MaxData+1)
	if _, err := s.Store.Extend(t.Context(), TTL, put); !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("too much: %v, want ErrInvalid", err)
	}
	// Much data for many leases at once.
	var holders []lease.Holder
	for i := range 9 {
		l := s.acquire(ask(fmt.Sprint("owner", i), func(r *lease.Request) { r.Pool = "office" }))
		h := holder(l)
		h.Data = make([]byte, lease.MaxData)
		for range 40 {
			holders = append(holders, h)
		}
	}
	if lost, err := s.Store.Extend(t.Context(), TTL, holders...); err != nil || lost != nil {
		t.Errorf("lost %v, %v", lost, err)
	}
}

// Idle indices are given away before those of sessions that are merely past their end.
func testExpiredGoLast(t *testing.T, open Open) {
	s := start(t, open, 3)
	expired, idle := s.acquire(ask("expired")), s.acquire(ask("idle"))
	s.Advance(2 * TTL)
	s.release(idle)
	s.Advance(Quarantine)
	if l := s.acquire(ask("first")); l.Index != idle.Index {
		t.Errorf("got %d, want the idle %d", l.Index, idle.Index)
	}
	if l := s.acquire(ask("second")); l.Index != expired.Index {
		t.Errorf("got %d, want the expired %d", l.Index, expired.Index)
	}
}

func testQuarantine(t *testing.T, open Open) {
	s := start(t, open, 4) // three to lease
	for _, owner := range []string{"a", "b", "c"} {
		s.acquire(ask(owner))
	}
	s.refused(ask("d"), lease.ErrFull)
	b := s.acquire(ask("b"))
	s.release(b)
	s.refused(ask("d"), lease.ErrFull)
	s.Advance(Quarantine - time.Second) // a and c are past their ends
	s.refused(ask("d"), lease.ErrFull)
	s.Advance(time.Second)
	if d := s.acquire(ask("d")); d.Index != b.Index {
		t.Errorf("got %d, want %d, the only one past its quarantine", d.Index, b.Index)
	}
	s.refused(ask("b"), lease.ErrFull)
}

func testLongestIdleFirst(t *testing.T, open Open) {
	s := start(t, open, 6)
	var leases []lease.Lease
	for i := range 5 {
		leases = append(leases, s.acquire(ask(fmt.Sprint("first", i))))
	}
	order := []int{3, 0, 4, 1, 2}
	for _, i := range order {
		s.Advance(time.Second)
		s.release(leases[i])
	}
	s.Advance(Quarantine)
	// The second owner comes back and is the last to lose his index.
	s.release(s.acquire(ask("first0")))
	for _, i := range []int{3, 4, 1, 2} {
		if l := s.acquire(ask(fmt.Sprint("second", i))); l.Index != leases[i].Index {
			t.Errorf("got index %d, want %d", l.Index, leases[i].Index)
		}
	}
	s.refused(ask("late"), lease.ErrFull)
}
