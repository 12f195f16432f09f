// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"net/netip"
	"testing"
	"time"
)

func clientAt(n int) endpoints {
	return endpointsOf(netip.MustParseAddrPort("192.0.2.1:3653"),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1024))
}

// TestAnsweredLasts: what was answered is remembered for as long as a client repeats its request, and not much longer.
func TestAnsweredLasts(t *testing.T) {
	a := newAnswered(1000, epoch)
	born := map[int]time.Duration{}
	for n, at := 0, time.Duration(0); at < 5*time.Minute; at += time.Second {
		a.age(epoch.Add(at))
		a.put(clientAt(n), memory{last: uint32(n)}, epoch.Add(at))
		born[n] = at
		n++
		for i, then := range born {
			m, ok := a.get(clientAt(i))
			if ok && m.last != uint32(i) {
				t.Fatalf("client %d has the sequence %d", i, m.last)
			}
			if age := at - then; !ok && age < retransmission || ok && age > retransmission*2 {
				t.Fatalf("client %d after %v: remembered %v", i, age, ok)
			}
		}
	}
}

// TestAnsweredIsBounded: of too many, the oldest are forgotten first.
func TestAnsweredIsBounded(t *testing.T) {
	const limit = 300
	a := newAnswered(limit, epoch)
	for i := range 10 * limit {
		a.put(clientAt(i), memory{}, epoch)
		if n := a.count(); n > limit {
			t.Fatalf("%d are remembered", n)
		}
		if _, ok := a.get(clientAt(max(0, i-limit/generations))); !ok {
			t.Fatalf("one that is young is forgotten after %d", i)
		}
	}
}

// TestAnsweredAgain: one client is remembered once, with the last that was said to it, and stays as old as it is.
func TestAnsweredAgain(t *testing.T) {
	a := newAnswered(300, epoch)
	key := clientAt(1)
	a.put(key, memory{last: 1}, epoch)
	a.turn(epoch)
	a.change(key, memory{last: 2})
	a.change(clientAt(2), memory{last: 2})
	if m, ok := a.get(key); !ok || m.last != 2 || a.count() != 1 || len(a.young[1]) != 1 {
		t.Errorf("%+v %v of %d", m, ok, a.count())
	}
	a.put(key, memory{last: 3}, epoch)
	if m, ok := a.get(key); !ok || m.last != 3 || a.count() != 1 || len(a.young[0]) != 1 {
		t.Errorf("%+v %v of %d", m, ok, a.count())
	}
	a.forget(key)
	if _, ok := a.get(key); ok || a.count() != 0 {
		t.Error("not forgotten")
	}
}
