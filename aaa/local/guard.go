// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Limits bound guessing. Each zero field stands for its default.
//
// A bucket holds so many failures, and one more fits every so often. A source is an IPv4 address or the /64 of an IPv6
// address; it has one bucket for passwords and one for answers to challenges.
type Limits struct {
	// Of one account from one source. Full: ErrThrottled, nothing is verified. Defaults: 8, 30 s.
	Pair  int
	Every time.Duration
	// Of one source, over all accounts. Full: ErrThrottled, except for accounts that logged in from there before, since
	// many subscribers may share an address. Defaults: 50, 1 s.
	Source      int
	SourceEvery time.Duration
	// Of one account, over all sources. Full: a login takes Slow longer, right or wrong, except from sources where it
	// succeeded before. Defaults: 20, 10 s.
	Account      int
	AccountEvery time.Duration
	Slow         time.Duration // default: 2 s
	// A failed login is answered no sooner than so long after it came, whatever it failed of. Default: 500 ms.
	Failure time.Duration
}

func (l Limits) withDefaults() Limits {
	d := Limits{
		Pair: 8, Every: 30 * time.Second, Source: 50, SourceEvery: time.Second, Account: 20, AccountEvery: 10 * time.Second,
		Slow: 2 * time.Second, Failure: 500 * time.Millisecond,
	}
	for _, f := range []struct{ value, standard *int }{{&l.Pair, &d.Pair}, {&l.Source, &d.Source}, {&l.Account, &d.Account}} {
		if *f.value == 0 {
			*f.value = *f.standard
		}
	}
	for _, f := range []struct{ value, standard *time.Duration }{
		{&l.Every, &d.Every}, {&l.SourceEvery, &d.SourceEvery}, {&l.AccountEvery, &d.AccountEvery}, {&l.Slow, &d.Slow}, {&l.Failure, &d.Failure},
	} {
		if *f.value == 0 {
			*f.value = *f.standard
		}
	}
	return l
}

// tableSize is how many accounts, sources and pairs of them are remembered at least. Whoever wants to be forgotten has
// to fail from that many others first.
const tableSize = 1 << 16

// verdict is what becomes of a login before it is verified.
type verdict int

const (
	admitted verdict = iota
	slowed
	refused
)

// guard counts failures. It keeps hashes of names, no names.
type guard struct {
	limits Limits
	clock  func() time.Time
	seed   maphash.Seed

	mu                       sync.Mutex
	pairs, sources, accounts recent[uint64, bucket]
	known                    recent[uint64, struct{}] // pairs that succeeded
}

// bucket is how full it was when.
type bucket struct {
	level float64
	at    time.Time
}

func newGuard(limits Limits, clock func() time.Time) *guard {
	g := &guard{limits: limits.withDefaults(), clock: clock, seed: maphash.MakeSeed()}
	for _, t := range []*recent[uint64, bucket]{&g.pairs, &g.sources, &g.accounts} {
		t.limit = tableSize
	}
	g.known.limit = tableSize
	return g
}

// attempt is one login of an account from a source.
type attempt struct{ pair, source, account uint64 }

// attempt of an account from a source. Over UDP a password can come from anybody who forges the subscriber's address, and the response to a
// challenge cannot: answered keeps the failures of the two apart, so that forged passwords lock nobody out who answers challenges.
func (g *guard) attempt(name string, client netip.Addr, answered bool) attempt {
	source := client.Unmap().WithZone("")
	if source.Is6() {
		p, _ := source.Prefix(64) // cannot fail
		source = p.Addr()
	}
	hash := func(s string) uint64 { return maphash.String(g.seed, s) }
	kind := "password "
	if answered {
		kind = "answer "
	}
	return attempt{
		pair: hash("pair " + kind + source.String() + " " + name), source: hash("source " + kind + source.String()), account: hash("account " + name),
	}
}

// admit says what to do with a login. The pair pays at once, so that logins side by side cannot guess more than the same
// logins one by one; succeeded and aborted pay back.
func (g *guard) admit(a attempt) verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.limits
	now := g.clock()
	if g.level(&g.pairs, a.pair, now, l.Every)+1 > float64(l.Pair) {
		return refused
	}
	_, known := g.known.get(a.pair)
	if !known && g.level(&g.sources, a.source, now, l.SourceEvery)+1 > float64(l.Source) {
		return refused
	}
	g.add(&g.pairs, a.pair, now, l.Every, 1)
	if !known && g.level(&g.accounts, a.account, now, l.AccountEvery)+1 > float64(l.Account) {
		return slowed
	}
	return admitted
}

// failed counts a login that was admitted and is wrong.
func (g *guard) failed(a attempt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.clock()
	g.add(&g.sources, a.source, now, g.limits.SourceEvery, 1)
	g.add(&g.accounts, a.account, now, g.limits.AccountEvery, 1)
}

// succeeded remembers a login that was admitted and is right.
func (g *guard) succeeded(a attempt) {
	g.aborted(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known.put(a.pair, struct{}{})
}

// aborted forgets a login that was admitted and not verified.
func (g *guard) aborted(a attempt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.add(&g.pairs, a.pair, g.clock(), g.limits.Every, -1)
}

// level is how full a bucket is that loses one every so often.
func (g *guard) level(table *recent[uint64, bucket], key uint64, now time.Time, every time.Duration) float64 {
	b, _ := table.get(key)
	return max(0, b.level-max(0, float64(now.Sub(b.at))/float64(every)))
}

func (g *guard) add(table *recent[uint64, bucket], key uint64, now time.Time, every time.Duration, n float64) {
	table.put(key, bucket{max(0, g.level(table, key, now, every)+n), now})
}
