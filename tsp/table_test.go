// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// tenant is somebody with an entry.
type tenant struct {
	entry
	out bool
}

func (t *tenant) evicted() { t.out = true }

func testTable(limit, perSource int) *table {
	return newTable(limit, perSource, [standings]time.Duration{over: 60 * time.Second, stranger: 10 * time.Second, known: 30 * time.Second})
}

func TestTableMakesRoom(t *testing.T) {
	table := testTable(3, 10)
	var tenants [8]tenant
	add := func(i int, want verdict) {
		t.Helper()
		if got := table.add(&tenants[i].entry, source(i), &tenants[i], epoch); got != want {
			t.Fatalf("tenant %d: verdict %d, want %d", i, got, want)
		}
	}
	add(0, added)
	add(1, added)
	add(2, added)
	table.move(&tenants[0].entry, known, epoch)
	table.move(&tenants[2].entry, over, epoch)
	add(3, added) // 2 is over: it goes first, though it came last
	if !tenants[2].out || tenants[1].out {
		t.Error("the one that is over stays")
	}
	add(4, addedByEviction) // then the oldest stranger
	if !tenants[1].out || tenants[3].out {
		t.Error("the oldest stranger stays")
	}
	table.move(&tenants[3].entry, known, epoch)
	table.move(&tenants[4].entry, known, epoch)
	add(5, tableFull) // who is known stays
	table.remove(&tenants[4].entry)
	table.remove(&tenants[4].entry) // again: nothing
	add(6, added)
	if tenants[0].out || tenants[3].out || tenants[4].out {
		t.Error("somebody known was driven out")
	}
	if table.busy() != 3 || table.count(known) != 2 || table.count(stranger) != 1 {
		t.Errorf("counts %v", table.counts)
	}
}

func TestTableSharesBySource(t *testing.T) {
	table := testTable(100, 2)
	var tenants [4]tenant
	const greedy, other = source(1), source(2)
	for i, test := range []struct {
		src  source
		want verdict
	}{{greedy, added}, {greedy, added}, {greedy, sourceFull}, {other, added}} {
		if got := table.add(&tenants[i].entry, test.src, &tenants[i], epoch); got != test.want {
			t.Errorf("tenant %d: %d, want %d", i, got, test.want)
		}
	}
	table.move(&tenants[0].entry, over, epoch) // it no longer counts
	if got := table.add(&tenants[2].entry, greedy, &tenants[2], epoch); got != added {
		t.Errorf("no place for another: %d", got)
	}
	for i := range tenants {
		table.remove(&tenants[i].entry)
	}
	if len(table.sources) != 0 {
		t.Errorf("sources %v are still counted", table.sources)
	}
}

func TestTableExpires(t *testing.T) {
	table := testTable(100, 100)
	var a, b tenant
	table.add(&a.entry, 1, &a, epoch)
	table.add(&b.entry, 1, &b, epoch.Add(5*time.Second))
	if e := table.expired(epoch.Add(9 * time.Second)); e != nil {
		t.Error("too early")
	}
	table.move(&a.entry, known, epoch.Add(9*time.Second))
	if e := table.expired(epoch.Add(14 * time.Second)); e != nil {
		t.Error("a was given more time")
	}
	if e := table.expired(epoch.Add(15 * time.Second)); e != &b.entry {
		t.Error("b's time is up")
	}
	table.remove(&b.entry)
	if e := table.expired(epoch.Add(39 * time.Second)); e != &a.entry {
		t.Error("a's time is up")
	}
}

// TestTableAtRandom does what it may a hundred thousand times and counts after.
func TestTableAtRandom(t *testing.T) {
	table, random, now := testTable(50, 10), rand.New(rand.NewPCG(1, 2)), epoch
	live := map[*tenant]bool{}
	for range 100000 {
		now = now.Add(time.Duration(random.IntN(300)) * time.Millisecond)
		var some *tenant
		for some = range live {
			break
		}
		switch op := random.IntN(8); {
		case op < 4 || some == nil:
			e := new(tenant)
			if table.add(&e.entry, source(random.IntN(20)), e, now) <= addedByEviction {
				live[e] = true
			}
		case op == 4:
			table.remove(&some.entry)
		case op == 5 && some.standing == stranger:
			table.move(&some.entry, known, now)
		case op == 6 && some.standing != over:
			table.move(&some.entry, over, now)
		case op == 7:
			for e := table.expired(now); e != nil; e = table.expired(now) {
				table.remove(e)
			}
		}
		for e := range live {
			if e.gone {
				delete(live, e)
			}
		}
		counts, sources := [standings]int{}, map[source]int{}
		for e := range live {
			if counts[e.standing]++; e.standing != over {
				sources[e.source]++
			}
		}
		if counts != table.counts || len(live) > 50 || len(sources) != len(table.sources) {
			t.Fatalf("counts %v, really %v; %d sources, really %d", table.counts, counts, len(table.sources), len(sources))
		}
		for src, n := range sources {
			if n > 10 || n != table.sources[src] {
				t.Fatalf("source %d: %d, really %d", src, table.sources[src], n)
			}
		}
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter(10, 5, 64, epoch)
	a, b := sourceOf(netip.MustParseAddr("192.0.2.1")), sourceOf(netip.MustParseAddr("192.0.2.2"))
	spend := func(src source, at time.Duration) (n int) {
		for l.allow(src, epoch.Add(at)) {
			n++
		}
		return n
	}
	for _, test := range []struct {
		src  source
		at   time.Duration
		want int
	}{{a, 0, 5}, {a, 0, 0}, {b, 0, 5}, {a, 100 * time.Millisecond, 1}, {a, 50 * time.Millisecond, 0}, {a, 300 * time.Millisecond, 2},
		{a, time.Hour, 5}, {a, 50 * 24 * time.Hour, 5}} { // the 32-bit clock has wrapped
		if got := spend(test.src, test.at); got != test.want {
			t.Errorf("at %v: %d, want %d", test.at, got, test.want)
		}
	}
	if unlimited := newLimiter(Unlimited, 0, 0, epoch); !unlimited.allow(a, epoch) {
		t.Error("no limit limits")
	}
}

// TestLimiterForgetsTheRich: a flood of new sources cannot make it forget one that is in debt.
func TestLimiterForgetsTheRich(t *testing.T) {
	l := newLimiter(0.001, 10, 64, epoch)
	const debtor = source(42)
	for l.allow(debtor, epoch) {
	}
	for i := range source(10000) {
		l.allow(1000+i, epoch)
	}
	if l.allow(debtor, epoch) {
		t.Error("the debt is forgotten")
	}
	if got := len(l.sets) * ways; got != 64 {
		t.Errorf("%d places", got)
	}
}

func TestSources(t *testing.T) {
	addr := netip.MustParseAddr
	for _, pair := range [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8:0:1::1", "2001:db8:0:2::1"}, {"192.0.2.1", "::1"}} {
		if sourceOf(addr(pair[0])) == sourceOf(addr(pair[1])) {
			t.Errorf("%v are one source", pair)
		}
	}
	if sourceOf(addr("2001:db8::1")) != sourceOf(addr("2001:db8::ffff:1")) {
		t.Error("one customer's /64 is many sources")
	}
}
