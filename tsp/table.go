// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"sync"
	"time"
)

// standing is what a dialogue has earned.
type standing uint8

const (
	over     standing = iota // answered to the end; a connection that its client keeps open
	stranger                 // has named a mechanism or opened a connection, no more; or is anonymous and without an offer
	known                    // the Backend works for it or knows it
	standings
)

// entry is one dialogue's place in a table.
type entry struct {
	source     source
	standing   standing
	gone       bool      // no longer in the table
	since      time.Time // of this standing
	owner      evictee
	prev, next *entry
}

// evictee has an entry that the table may take away. evicted is called under the table's lock and must not block.
type evictee interface{ evicted() }

// table bounds how many dialogues there are, in all and from one source. When it is full, the oldest that is over makes room, else the
// oldest stranger, never one that is known: so strangers cannot drive out those who log in. Entries of one standing live equally
// long, so each list is in the order in which they expire.
type table struct {
	mu        sync.Mutex // guards all below, the entries in it, and what else its user puts under it
	limit     int
	perSource int
	lifetimes [standings]time.Duration
	lists     [standings]entry // rings; the element itself is the root
	counts    [standings]int
	sources   map[source]int // entries that are not over
}

func newTable(limit, perSource int, lifetimes [standings]time.Duration) *table {
	t := &table{limit: limit, perSource: perSource, lifetimes: lifetimes, sources: map[source]int{}}
	for i := range t.lists {
		t.lists[i].prev, t.lists[i].next = &t.lists[i], &t.lists[i]
	}
	return t
}

// bound changes the limits. Those who are there stay.
func (t *table) bound(limit, perSource int, lifetimes [standings]time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit, t.perSource, t.lifetimes = limit, perSource, lifetimes
}

// verdict is what add decided.
type verdict uint8

const (
	added verdict = iota
	addedByEviction
	sourceFull
	tableFull
)

// add takes a stranger in, in place of another if it must be.
func (t *table) add(e *entry, src source, owner evictee, now time.Time) verdict {
	if t.sources[src] >= t.perSource {
		return sourceFull
	}
	result := added
	if t.counts[over]+t.counts[stranger]+t.counts[known] >= t.limit {
		switch {
		case t.counts[over] > 0:
			t.evict(t.lists[over].next)
		case t.counts[stranger] > 0:
			t.evict(t.lists[stranger].next)
			result = addedByEviction
		default:
			return tableFull
		}
	}
	*e = entry{source: src, owner: owner, standing: stranger}
	t.sources[src]++
	t.link(e, now)
	return result
}

// move changes an entry's standing.
func (t *table) move(e *entry, to standing, now time.Time) {
	if e.gone {
		return
	}
	t.unlink(e)
	if to == over {
		t.forget(e)
	}
	e.standing = to
	t.link(e, now)
}

// remove takes an entry out.
func (t *table) remove(e *entry) {
	if e.gone {
		return
	}
	t.unlink(e)
	if e.standing != over {
		t.forget(e)
	}
	e.gone = true
}

func (t *table) evict(e *entry) {
	t.remove(e)
	e.owner.evicted()
}

// expired gives the oldest entry whose time is up, nil if there is none.
func (t *table) expired(now time.Time) *entry {
	for i := range t.lists {
		if e := t.lists[i].next; e != &t.lists[i] && now.Sub(e.since) >= t.lifetimes[i] {
			return e
		}
	}
	return nil
}

// busy tells how many dialogues are not over.
func (t *table) busy() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[stranger] + t.counts[known]
}

// count tells how many entries have a standing.
func (t *table) count(s standing) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[s]
}

func (t *table) link(e *entry, now time.Time) {
	root := &t.lists[e.standing]
	e.since = now
	e.prev, e.next = root.prev, root
	e.prev.next, e.next.prev = e, e
	t.counts[e.standing]++
}

func (t *table) unlink(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	t.counts[e.standing]--
}

// forget gives a source its place back.
func (t *table) forget(e *entry) {
	if t.sources[e.source]--; t.sources[e.source] == 0 {
		delete(t.sources, e.source)
	}
}
