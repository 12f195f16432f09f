// SPDX-License-Identifier: GPL-2.0-or-later

// Package leasetest holds the suite that every lease.Store passes: Run. It knows stores by their contract only, among
// them those that keep time themselves and those that count it in milliseconds.
package leasetest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"ddtb/provision/lease"
)

// Quarantine is what stores under test are opened with.
const Quarantine = time.Hour

// TTL is what the suite asks for, unless it is about time.
const TTL = 10 * time.Minute

// Subject is a store under test.
type Subject struct {
	Store   lease.Store
	Advance func(time.Duration) // moves the store's time forward
	Alone   bool                // the store of one server: no session can be displaced
	// Reopen ends the store and opens it again on what it kept; nil if it keeps nothing.
	Reopen func(t *testing.T) lease.Store
}

// Open makes an empty store of pools whose quarantine is Quarantine.
type Open func(t *testing.T, pools []lease.Pool) Subject

// Clock is a clock that goes only when told. It stands at a whole second at first.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

// Now is lease.Options.Clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Pools are two pools as an ISP would have them, "home" with size indices and "office" with twice as many.
func Pools(size uint32) []lease.Pool {
	return []lease.Pool{
		{
			Name: "home", First: 0, Size: size, EndpointBase: netip.MustParseAddr("2001:db8:8000::"),
			PrefixBase: netip.MustParseAddr("2001:db8:4000::"), PrefixLen: 56,
		},
		{Name: "office", First: 1 << 24, Size: 2 * size, EndpointBase: netip.MustParseAddr("2001:db8:8001::")},
	}
}

// Run runs the suite.
func Run(t *testing.T, open Open) {
	t.Run("Arithmetic", func(t *testing.T) { testArithmetic(t, open) })
	t.Run("Sticky", func(t *testing.T) { testSticky(t, open) })
	t.Run("Yield", func(t *testing.T) { testYield(t, open) })
	t.Run("YieldAtOnce", func(t *testing.T) { testYieldAtOnce(t, open) })
	t.Run("Displaced", func(t *testing.T) { testDisplaced(t, open) })
	t.Run("Preempted", func(t *testing.T) { testPreempted(t, open) })
	t.Run("Takeover", func(t *testing.T) { testTakeover(t, open) })
	t.Run("Repeat", func(t *testing.T) { testRepeat(t, open) })
	t.Run("Expiry", func(t *testing.T) { testExpiry(t, open) })
	t.Run("Data", func(t *testing.T) { testData(t, open) })
	t.Run("Quarantine", func(t *testing.T) { testQuarantine(t, open) })
	t.Run("ExpiredGoLast", func(t *testing.T) { testExpiredGoLast(t, open) })
	t.Run("LongestIdleFirst", func(t *testing.T) { testLongestIdleFirst(t, open) })
	t.Run("Forget", func(t *testing.T) { testForget(t, open) })
	t.Run("LostHolder", func(t *testing.T) { testLostHolder(t, open) })
	t.Run("Wanted", func(t *testing.T) { testWanted(t, open) })
	t.Run("Reserve", func(t *testing.T) { testReserve(t, open) })
	t.Run("ReserveWhileActive", func(t *testing.T) { testReserveWhileActive(t, open) })
	t.Run("Foreign", func(t *testing.T) { testForeign(t, open) })
	t.Run("Invalid", func(t *testing.T) { testInvalid(t, open) })
	t.Run("Canceled", func(t *testing.T) { testCanceled(t, open) })
	t.Run("ConcurrentOwner", func(t *testing.T) { testConcurrentOwner(t, open) })
	t.Run("ConcurrentOwners", func(t *testing.T) { testConcurrentOwners(t, open) })
	t.Run("ConcurrentForeign", func(t *testing.T) { testConcurrentForeign(t, open) })
	t.Run("Model", func(t *testing.T) { testModel(t, open) })
}

// tester is a store with what a test needs around it.
type tester struct {
	*testing.T
	Subject
}

func start(t *testing.T, open Open, size uint32) tester {
	t.Helper()
	return tester{t, open(t, Pools(size))}
}

// ask is a request for owner in pool "home", by a session of his own.
func ask(owner string, change ...func(*lease.Request)) lease.Request {
	r := lease.Request{Pool: "home", Owner: owner, Session: "s-" + owner, Node: "node1", TTL: TTL, Data: []byte("data of " + owner)}
	for _, c := range change {
		c(&r)
	}
	return r
}

func session(s string) func(*lease.Request)    { return func(r *lease.Request) { r.Session = s } }
func index(i uint32) func(*lease.Request)      { return func(r *lease.Request) { r.Index = i } }
func node(n string) func(*lease.Request)       { return func(r *lease.Request) { r.Node = n } }
func ttl(d time.Duration) func(*lease.Request) { return func(r *lease.Request) { r.TTL = d } }
func forgotten(r *lease.Request)               { r.Forget = true }
func foreign(p string) func(*lease.Request) {
	return func(r *lease.Request) { r.Foreign = netip.MustParsePrefix(p) }
}

func holder(l lease.Lease) lease.Holder {
	return lease.Holder{Pool: l.Pool, Index: l.Index, Session: l.Session, Owner: l.Owner}
}

// sameHolder compares who and what, not the data that came along.
func sameHolder(a, b lease.Holder) bool {
	return a.Pool == b.Pool && a.Index == b.Index && a.Session == b.Session
}

func sameLost(a, b lease.Lost) bool {
	return sameHolder(a.Holder, b.Holder) && a.Owner == b.Owner && a.Preempted == b.Preempted
}

// acquire must succeed.
func (t tester) acquire(req lease.Request) lease.Lease {
	t.Helper()
	l, err := t.Store.Acquire(t.Context(), req)
	if err != nil {
		t.Fatalf("Acquire for %q: %v", req.Owner, err)
	}
	if l.Owner != req.Owner || l.Session != req.Session || l.Node != req.Node || l.State != lease.Active || string(l.Data) != string(req.Data) {
		t.Fatalf("Acquire for %q: asked %+v, got %+v", req.Owner, req, l)
	}
	return l
}

// refused must fail.
func (t tester) refused(req lease.Request, want error) {
	t.Helper()
	if l, err := t.Store.Acquire(t.Context(), req); !errors.Is(err, want) {
		t.Fatalf("Acquire for %q: index %d, %v; want %v", req.Owner, l.Index, err, want)
	}
}

func (t tester) release(leases ...lease.Lease) {
	t.Helper()
	var holders []lease.Holder
	for _, l := range leases {
		holders = append(holders, holder(l))
	}
	if err := t.Store.Release(t.Context(), holders...); err != nil {
		t.Fatalf("Release: %v", err)
	}
}

// extend returns who has lost his lease.
func (t tester) extend(d time.Duration, leases ...lease.Lease) []lease.Lost {
	t.Helper()
	var holders []lease.Holder
	for _, l := range leases {
		holders = append(holders, holder(l))
	}
	lost, err := t.Store.Extend(t.Context(), d, holders...)
	if err != nil {
		t.Fatalf("Extend: %v", err)
	}
	return lost
}

func (t tester) reserve(index uint32, owner string, on bool) {
	t.Helper()
	if err := t.Store.Reserve(t.Context(), "home", index, owner, on); err != nil {
		t.Fatalf("Reserve(%d, %q, %v): %v", index, owner, on, err)
	}
}

// all returns every lease, sorted, without what is displaced.
func (t tester) all() []lease.Lease {
	t.Helper()
	return slices.DeleteFunc(t.list(), func(l lease.Lease) bool { return l.State == lease.Displaced })
}

// displaced returns what is, sorted.
func (t tester) displaced() []lease.Lease {
	t.Helper()
	return slices.DeleteFunc(t.list(), func(l lease.Lease) bool { return l.State != lease.Displaced })
}

func (t tester) list() []lease.Lease {
	t.Helper()
	var out []lease.Lease
	for l, err := range t.Store.All(t.Context()) {
		if err != nil {
			t.Fatalf("All: %v", err)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b lease.Lease) int { return int(a.ID) - int(b.ID) })
	return out
}

// find returns the lease of an index, which must be there.
func (t tester) find(index uint32) lease.Lease {
	t.Helper()
	for _, l := range t.all() {
		if l.Pool == "home" && l.Index == index {
			return l
		}
	}
	t.Fatalf("index %d is not among all leases", index)
	return lease.Lease{}
}

// canceled is a context at its end.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
