// SPDX-License-Identifier: GPL-2.0-or-later

package leasetest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ddtb/provision/lease"
)

func testArithmetic(t *testing.T, open Open) {
	s := start(t, open, 10)
	l := s.acquire(ask("alice", index(3)))
	want := lease.Lease{
		Pool: "home", Index: 3, ID: 3, Endpoint: netip.MustParseAddr("2001:db8:8000::3"),
		Prefix: netip.MustParsePrefix("2001:db8:4000:300::/56"),
	}
	got := lease.Lease{Pool: l.Pool, Index: l.Index, ID: l.ID, Endpoint: l.Endpoint, Prefix: l.Prefix, Foreign: l.Foreign}
	if got.Endpoint != want.Endpoint || got.Prefix != want.Prefix || got.ID != want.ID || got.Foreign {
		t.Errorf("got %+v, want %+v", got, want)
	}
	req := ask("alice", index(3))
	req.Pool = "office"
	l = s.acquire(req)
	if l.ID != 1<<24+3 || l.Prefix.IsValid() || l.Endpoint != netip.MustParseAddr("2001:db8:8001::3") {
		t.Errorf("in a pool without prefixes: %+v", l)
	}
	if l.Expires.Sub(l.Since) != TTL {
		t.Errorf("since %v, expires %v", l.Since, l.Expires)
	}
}

func testSticky(t *testing.T, open Open) {
	s := start(t, open, 10)
	first := s.acquire(ask("alice"))
	if first.Index == 0 {
		t.Fatal("index 0 was leased")
	}
	s.acquire(ask("bob"))
	s.release(first)
	if l := s.find(first.Index); l.State != lease.Idle || l.Owner != "alice" || l.Session != "" || len(l.Data) > 0 {
		t.Errorf("released: %+v", l)
	}
	for _, wait := range []time.Duration{0, Quarantine / 2, 2 * Quarantine} {
		s.Advance(wait)
		l := s.acquire(ask("alice", session(fmt.Sprint("after ", wait))))
		if l.Index != first.Index {
			t.Errorf("%v later: index %d, was %d", wait, l.Index, first.Index)
		}
		s.release(l)
	}
}

func testTakeover(t *testing.T, open Open) {
	s := start(t, open, 10)
	old := s.acquire(ask("alice", session("old")))
	s.Advance(time.Second)
	req := ask("alice", session("new"))
	req.Node, req.Data = "node2", []byte("other data")
	l := s.acquire(req)
	if l.Index != old.Index || l.Endpoint != old.Endpoint || l.Prefix != old.Prefix {
		t.Errorf("took over %+v, got %+v", old, l)
	}
	if l.Since.Sub(old.Since) != time.Second {
		t.Errorf("since %v, the old session since %v", l.Since, old.Since)
	}
	// The old session has no say any more.
	if lost := s.extend(TTL, old); len(lost) != 1 || !sameHolder(lost[0].Holder, holder(old)) {
		t.Errorf("the old session extends: lost %v", lost)
	}
	s.release(old)
	if got := s.find(l.Index); got.Session != "new" || got.Node != "node2" || string(got.Data) != "other data" {
		t.Errorf("after the old session's release: %+v", got)
	}
}

func testRepeat(t *testing.T, open Open) {
	s := start(t, open, 10)
	first := s.acquire(ask("alice", foreign("2001:db8:f000::/48")))
	s.Advance(time.Minute)
	req := ask("alice", foreign("2001:db8:f000::/48"), ttl(2*TTL))
	req.Node, req.Data = "node2", []byte("newer")
	again := s.acquire(req)
	if again.Index != first.Index || !again.Since.Equal(first.Since) || !again.Expires.Equal(first.Since.Add(time.Minute+2*TTL)) {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if diff := cmp.Diff([]lease.Lease{again}, s.all(), cmp.Comparer(equal)); diff != "" {
		t.Error(diff)
	}
	s.release(again)
	s.release(again)
	s.release(lease.Lease{Pool: "home", Index: 5, Session: "nobody's"})
	s.release(lease.Lease{Pool: "nowhere", Index: 5, Session: "nobody's"})
	s.release()
	if lost := s.extend(TTL); lost != nil {
		t.Errorf("nobody extended, lost %v", lost)
	}
}

// equal compares leases, times by instant.
func equal(a, b lease.Lease) bool {
	return a.Pool == b.Pool && a.Index == b.Index && a.ID == b.ID && a.Endpoint == b.Endpoint && a.Prefix == b.Prefix && a.Foreign == b.Foreign &&
		a.Owner == b.Owner && a.Session == b.Session && a.Taker == b.Taker && a.Node == b.Node && a.State == b.State &&
		a.Since.Equal(b.Since) && a.Expires.Equal(b.Expires) && string(a.Data) == string(b.Data)
}

func testForget(t *testing.T, open Open) {
	s := start(t, open, 3)
	l := s.acquire(ask("guest", forgotten))
	if again := s.acquire(ask("guest", forgotten)); again.Index != l.Index {
		t.Errorf("repeated: index %d, was %d", again.Index, l.Index)
	}
	s.release(l)
	if got := s.find(l.Index); got.Owner != "" || got.State != lease.Idle {
		t.Errorf("released: %+v", got)
	}
	other := s.acquire(ask("guest", forgotten))
	if other.Index == l.Index {
		t.Errorf("index %d came back within its quarantine", l.Index)
	}
	s.refused(ask("third"), lease.ErrFull)
	s.release(other)
	s.Advance(Quarantine)
	if got := s.all(); len(got) != 0 {
		t.Errorf("everybody is forgotten, but there are %+v", got)
	}
	s.acquire(ask("third"))
	s.acquire(ask("fourth"))
}

func testLostHolder(t *testing.T, open Open) {
	s := start(t, open, 10)
	l := s.acquire(ask("alice"))
	for _, h := range []lease.Holder{
		{Pool: "home", Index: l.Index, Session: "another"},
		{Pool: "home", Index: l.Index, Session: ""},
		{Pool: "office", Index: l.Index, Session: l.Session},
		{Pool: "nowhere", Index: l.Index, Session: l.Session},
		{Pool: "home", Index: l.Index + 1, Session: l.Session},
		{Pool: "home", Index: 0, Session: ""},
		{Pool: "home", Index: 1 << 31, Session: l.Session},
	} {
		lost, err := s.Store.Extend(t.Context(), TTL, h, holder(l))
		if err != nil || len(lost) != 1 || !sameHolder(lost[0].Holder, h) {
			t.Errorf("Extend %+v: lost %v, %v", h, lost, err)
		}
		if err := s.Store.Release(t.Context(), h); err != nil {
			t.Errorf("Release %+v: %v", h, err)
		}
	}
	if got := s.find(l.Index); got.Session != l.Session {
		t.Errorf("%+v", got)
	}
}

func testWanted(t *testing.T, open Open) {
	s := start(t, open, 10)
	a := s.acquire(ask("a", index(7)))
	if a.Index != 7 {
		t.Fatalf("wanted 7, got %d", a.Index)
	}
	s.refused(ask("b", index(7)), lease.ErrTaken)
	s.release(a)
	s.refused(ask("b", index(7)), lease.ErrTaken) // in quarantine
	// He who has another index leaves it behind, and it rests.
	s.acquire(ask("a"))
	if l := s.acquire(ask("a", index(8))); l.Index != 8 {
		t.Fatalf("wanted 8, got %d", l.Index)
	}
	if l := s.find(7); l.State != lease.Idle || l.Owner != "" {
		t.Errorf("left behind: %+v", l)
	}
	s.refused(ask("b", index(7)), lease.ErrTaken)
	s.Advance(Quarantine)
	if l := s.acquire(ask("b", index(7))); l.Index != 7 {
		t.Errorf("wanted 7, got %d", l.Index)
	}
	// a wants nothing in particular any more.
	if l := s.acquire(ask("a")); l.Index != 8 {
		t.Errorf("index %d, was 8", l.Index)
	}
}

func testReserve(t *testing.T, open Open) {
	s := start(t, open, 4)
	s.reserve(2, "boss", true)
	s.reserve(2, "boss", true)
	if l := s.find(2); l.State != lease.Reserved || l.Owner != "boss" || !l.Expires.IsZero() {
		t.Errorf("reserved: %+v", l)
	}
	a, c := s.acquire(ask("a")), s.acquire(ask("c"))
	s.refused(ask("d"), lease.ErrFull)
	s.refused(ask("d", index(2)), lease.ErrTaken)
	s.Advance(10 * Quarantine)
	s.acquire(ask("a"))
	s.acquire(ask("c"))
	s.refused(ask("d"), lease.ErrFull)
	l := s.acquire(ask("boss"))
	if l.Index != 2 {
		t.Errorf("index %d, 2 is reserved", l.Index)
	}
	s.Advance(TTL)
	s.release(l) // he keeps his index for ever
	if l := s.find(2); l.State != lease.Reserved || l.Owner != "boss" {
		t.Errorf("ended: %+v", l)
	}
	for _, tc := range []struct {
		index uint32
		owner string
		on    bool
		want  error
	}{
		{2, "another", true, lease.ErrTaken},
		{2, "another", false, lease.ErrTaken},
		{a.Index, "boss", true, lease.ErrTaken}, // one reservation an owner
		{0, "another", true, lease.ErrInvalid},
		{4, "another", true, lease.ErrInvalid},
		{c.Index, "", true, lease.ErrInvalid},
		{c.Index, "another", false, nil},
	} {
		if err := s.Store.Reserve(t.Context(), "home", tc.index, tc.owner, tc.on); !errors.Is(err, tc.want) {
			t.Errorf("Reserve(%d, %q, %v): %v, want %v", tc.index, tc.owner, tc.on, err, tc.want)
		}
	}
	if err := s.Store.Reserve(t.Context(), "nowhere", 1, "a", true); !errors.Is(err, lease.ErrNoPool) {
		t.Errorf("%v, want ErrNoPool", err)
	}
	// An index that has rested and is reserved for somebody else is his at once, and the last owner's no more.
	if err := s.Store.Reserve(t.Context(), "home", a.Index, "heir", true); !errors.Is(err, lease.ErrTaken) {
		t.Errorf("reserved for another in quarantine: %v, want ErrTaken", err)
	}
	s.Advance(Quarantine)
	s.reserve(a.Index, "heir", true)
	if l := s.acquire(ask("heir")); l.Index != a.Index {
		t.Errorf("index %d, want %d", l.Index, a.Index)
	}
	s.reserve(2, "boss", false)
	s.reserve(2, "boss", false)
	s.refused(ask("d", index(2)), lease.ErrTaken) // it rests
	s.Advance(Quarantine)
	if l := s.acquire(ask("boss")); l.Index != 2 {
		t.Errorf("not reserved any more: index %d, was 2", l.Index)
	}
}

func testReserveWhileActive(t *testing.T, open Open) {
	s := start(t, open, 10)
	a := s.acquire(ask("a", index(3)))
	if err := s.Store.Reserve(t.Context(), "home", 3, "b", true); !errors.Is(err, lease.ErrTaken) {
		t.Errorf("%v, want ErrTaken", err)
	}
	// Reserved elsewhere, he stays where he is until he logs in again.
	s.reserve(5, "a", true)
	if lost := s.extend(TTL, a); lost != nil {
		t.Errorf("lost %v", lost)
	}
	s.Advance(time.Second)
	l := s.acquire(ask("a", session("next")))
	if l.Index != 5 {
		t.Errorf("index %d, 5 is reserved", l.Index)
	}
	if got := s.find(3); got.State != lease.Idle || got.Owner != "" {
		t.Errorf("left behind: %+v", got)
	}
	// Wanting another does not cost him the reservation.
	if l := s.acquire(ask("a", session("next"), index(6))); l.Index != 6 {
		t.Errorf("wanted 6, got %d", l.Index)
	}
	if got := s.find(5); got.State != lease.Reserved || got.Owner != "a" {
		t.Errorf("his reservation: %+v", got)
	}
	if l := s.acquire(ask("a")); l.Index != 5 {
		t.Errorf("index %d, 5 is reserved", l.Index)
	}
	s.reserve(5, "a", false)
	if got := s.find(5); got.State != lease.Active || got.Owner != "a" {
		t.Errorf("the reservation's end ended the lease: %+v", got)
	}
}

func testForeign(t *testing.T, open Open) {
	s := start(t, open, 10)
	const block = "2001:db8:f000::/48"
	a := s.acquire(ask("a", foreign(block)))
	if a.Prefix != netip.MustParsePrefix(block) || !a.Foreign {
		t.Errorf("%+v", a)
	}
	for _, p := range []string{block, "2001:db8:f000:5::/64", "2001:db8:f000::/56", "2001:db8:c000::/34"} {
		s.refused(ask("b", foreign(p)), lease.ErrTaken)
	}
	b := s.acquire(ask("b", foreign("2001:db8:f001::/48")))
	s.refused(ask("a", foreign("2001:db8:f000::/47")), lease.ErrTaken) // his own and b's
	// A new session of the same owner has the prefix at once, also a wider one around it.
	s.acquire(ask("a", foreign("2001:db8:f000::/48"), session("next")))
	s.release(b)
	s.acquire(ask("a", foreign("2001:db8:f000::/47"), session("next")))
	s.refused(ask("b", foreign("2001:db8:f001::/48")), lease.ErrTaken)
	// Whoever stops asking for it gives it up, and so does he whose lease ends.
	a = s.acquire(ask("a", session("next")))
	if a.Foreign || a.Prefix != netip.MustParsePrefix(fmt.Sprintf("2001:db8:4000:%x00::/56", a.Index)) {
		t.Errorf("without the foreign prefix: %+v", a)
	}
	s.acquire(ask("b", foreign(block)))
	s.refused(ask("a", foreign(block)), lease.ErrTaken)
	s.Advance(TTL)
	s.acquire(ask("a", foreign(block)))
	if l := s.find(b.Index); l.State != lease.Idle || l.Foreign {
		t.Errorf("past its end, and still %+v", l)
	}
}

func testInvalid(t *testing.T, open Open) {
	s := start(t, open, 10)
	for name, change := range map[string]func(*lease.Request){
		"no owner":            func(r *lease.Request) { r.Owner = "" },
		"long owner":          func(r *lease.Request) { r.Owner = strings.Repeat("x", lease.MaxOwner+1) },
		"no session":          func(r *lease.Request) { r.Session = "" },
		"long session":        func(r *lease.Request) { r.Session = strings.Repeat("x", lease.MaxSession+1) },
		"long node":           func(r *lease.Request) { r.Node = strings.Repeat("x", lease.MaxNode+1) },
		"much data":           func(r *lease.Request) { r.Data = make([]byte, lease.MaxData+1) },
		"no time":             func(r *lease.Request) { r.TTL = 0 },
		"index beyond":        func(r *lease.Request) { r.Index = 10 },
		"prefix of the pool":  foreign("2001:db8:4000:300::/56"),
		"prefix around it":    foreign("2001:db8::/32"),
		"prefix of endpoints": foreign("2001:db8:8001::/64"),
		"small prefix":        foreign("2001:db8:f000::/65"),
		"large prefix":        foreign("2000::/3"),
		"host bits":           foreign("2001:db8:f000::1/64"),
		"multicast":           foreign("ff0e::/48"),
		"IPv4":                foreign("192.0.2.0/24"),
	} {
		if _, err := s.Store.Acquire(t.Context(), ask("a", change)); !errors.Is(err, lease.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	req := ask("a")
	req.Pool = "nowhere"
	s.refused(req, lease.ErrNoPool)
	if _, err := s.Store.Extend(t.Context(), 0, holder(s.acquire(ask("a")))); !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("Extend by no time: %v, want ErrInvalid", err)
	}
	longest := ask(strings.Repeat("o", lease.MaxOwner), session(strings.Repeat("s", lease.MaxSession)))
	longest.Node, longest.Data = strings.Repeat("n", lease.MaxNode), make([]byte, lease.MaxData)
	s.acquire(longest)
}

func testCanceled(t *testing.T, open Open) {
	s := start(t, open, 10)
	s.acquire(ask("a"))
	ctx := canceled()
	if _, err := s.Store.Acquire(ctx, ask("b")); !errors.Is(err, lease.ErrUnavailable) {
		t.Errorf("Acquire: %v, want ErrUnavailable", err)
	}
	var err error
	for _, err = range s.Store.All(ctx) {
		if err != nil {
			break
		}
	}
	if !errors.Is(err, lease.ErrUnavailable) {
		t.Errorf("All: %v, want ErrUnavailable", err)
	}
	for _, err := range s.Store.All(t.Context()) {
		if err != nil {
			t.Error(err)
		}
		break // to stop early is allowed
	}
}
