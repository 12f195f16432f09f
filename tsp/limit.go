// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"sync"
	"time"
)

// source is whom a message is charged to: an IPv4 address, or the /64 of an IPv6 one, since that is what one customer has.
type source uint64

func sourceOf(addr netip.Addr) source {
	if addr.Is4() {
		b := addr.As4()
		return source(0xffff<<32 | uint64(binary.BigEndian.Uint32(b[:])))
	}
	b := addr.As16()
	return source(binary.BigEndian.Uint64(b[:]))
}

// ways is how many sources share one set of the limiter's table.
const ways = 4

// limiter is a token bucket for every source, in a table that never grows. A source that has no place takes that of the one
// with the most tokens among a few: who is in debt is not forgotten.
type limiter struct {
	seed  maphash.Seed
	start time.Time

	mu    sync.Mutex
	rate  float32 // tokens a second, Unlimited
	burst float32
	sets  [][ways]bucket
}

type bucket struct {
	source source
	tokens float32
	last   uint32 // milliseconds since start; it wraps after 49 days, when a bucket has long been full
	used   bool
}

// newLimiter makes one for at least sources sources.
func newLimiter(rate float64, burst, sources int, start time.Time) *limiter {
	sets := 1 << bits.Len(uint((sources-1)/ways))
	return &limiter{rate: float32(rate), burst: float32(burst), seed: maphash.MakeSeed(), start: start, sets: make([][ways]bucket, sets)}
}

// bound changes rate and burst. What a source has left stays, up to the burst.
func (l *limiter) bound(rate float64, burst int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate, l.burst = float32(rate), float32(burst)
}

// allow takes one token of a source; false if it has none left.
func (l *limiter) allow(src source, now time.Time) bool {
	at := uint32(now.Sub(l.start).Milliseconds())
	set := &l.sets[maphash.Comparable(l.seed, src)&uint64(len(l.sets)-1)]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == Unlimited {
		return true
	}
	richest := &set[0]
	for i := range set {
		b := &set[i]
		if !b.used {
			*b = bucket{source: src, tokens: l.burst, last: at, used: true}
		}
		l.refill(b, at)
		if b.source == src {
			return b.take()
		}
		if b.tokens > richest.tokens {
			richest = b
		}
	}
	*richest = bucket{source: src, tokens: l.burst, last: at, used: true}
	return richest.take()
}

func (l *limiter) refill(b *bucket, at uint32) {
	if elapsed := int32(at - b.last); elapsed > 0 { // else the clock went back
		b.tokens = min(l.burst, b.tokens+float32(elapsed)/1000*l.rate)
	}
	b.last = at
}

func (b *bucket) take() bool {
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
