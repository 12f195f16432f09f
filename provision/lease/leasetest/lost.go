// SPDX-License-Identifier: GPL-2.0-or-later

package leasetest

import (
	"testing"
	"time"

	"ddtb/provision/lease"
)

// Extend tells of a lost lease whether it went to a later session of its owner.
func testPreempted(t *testing.T, open Open) {
	for _, c := range []struct {
		name      string
		shared    bool // told only where there are other nodes
		preempted bool
		lose      func(s tester, a lease.Lease)
	}{
		{"another session", false, true, func(s tester, _ lease.Lease) { s.acquire(ask("a", session("two"))) }},
		{"another index", false, true, func(s tester, _ lease.Lease) { s.acquire(ask("a", session("two"), index(2))) }},
		{"a reserved index", false, true, func(s tester, _ lease.Lease) {
			s.reserve(2, "a", true)
			s.acquire(ask("a", session("two")))
		}},
		{"another node", true, true, func(s tester, _ lease.Lease) { s.acquire(ask("a", session("two"), node("node2"))) }},
		{"another node, and gone", true, true, func(s tester, _ lease.Lease) {
			s.release(s.acquire(ask("a", session("two"), node("node2"))))
		}},
		{"another node and index, and gone", true, true, func(s tester, _ lease.Lease) {
			s.release(s.acquire(ask("a", session("two"), node("node2"), index(2))))
		}},
		{"released", false, false, func(s tester, a lease.Lease) { s.release(a) }},
		{"somebody else", false, false, func(s tester, a lease.Lease) { expire(s, a, "node1") }},
		{"somebody else at another node", false, false, func(s tester, a lease.Lease) { expire(s, a, "node2") }},
		{"somebody else, and another node", false, false, func(s tester, a lease.Lease) {
			expire(s, a, "node2")
			s.release(s.find(a.Index))
		}},
		{"its prefix to somebody else", false, false, func(s tester, _ lease.Lease) {
			s.Advance(TTL)
			s.acquire(ask("b", node("node2"), inOffice, foreign("2001:db8:f000::/48")))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, open, 3)
			if c.shared && s.Alone {
				return
			}
			a := s.acquire(ask("a", index(1), session("one"), foreign("2001:db8:f000::/48")))
			s.Advance(time.Second)
			c.lose(s, a)
			lost := s.extend(TTL, a)
			if len(lost) != 1 || !sameHolder(lost[0].Holder, holder(a)) || lost[0].Preempted != c.preempted {
				t.Errorf("lost %+v, expected preempted: %v", lost, c.preempted)
			}
		})
	}
}

// expire lets a lease end and somebody else have it, at a node.
func expire(s tester, a lease.Lease, at string) {
	s.Helper()
	s.Advance(TTL + Quarantine)
	s.acquire(ask("b", index(a.Index), node(at)))
}
