// SPDX-License-Identifier: GPL-2.0-or-later

package spool

import (
	"cmp"
	"slices"

	"ddtb/aaa"
)

// queue orders what waits. An entry may be taken when it is safe, is its session's first, and no barrier stands before it.
type queue struct {
	sessions map[string]*session // with entries before the first barrier
	order    []*session          // whose first entry may be taken, longest waiting first
	held     []*entry            // from the first barrier on, in order
	bySeq    map[uint64]*entry
	length   int
}

// session is the entries of one session that wait, in order.
type session struct {
	entries []*entry
	queued  bool // in order
	delayed bool // its first entry is to be left alone for a while
}

func (q *queue) has(seq uint64) bool { return q.bySeq[seq] != nil }

// add puts an entry at the end.
func (q *queue) add(e *entry) {
	if q.bySeq == nil {
		q.bySeq = make(map[uint64]*entry)
	}
	q.bySeq[e.seq] = e
	q.length++
	if e.barrier() || len(q.held) > 0 {
		q.held = append(q.held, e)
		return
	}
	q.enter(e)
}

// enter puts an entry with its session.
func (q *queue) enter(e *entry) {
	s := q.sessions[e.session]
	if s == nil {
		s = &session{}
		q.sessions[e.session] = s
	}
	s.entries = append(s.entries, e)
	q.offer(s)
}

// offer puts a session among those that may be taken from, if it may.
func (q *queue) offer(s *session) {
	if !s.queued && !s.delayed && len(s.entries) > 0 && s.entries[0].safe && !s.entries[0].taken {
		s.queued = true
		q.order = append(q.order, s)
	}
}

// settle notes that an entry is safe and takes out the Interim-Updates it supersedes.
func (q *queue) settle(e *entry) (superseded []*entry) {
	e.safe = true
	if e.status == aaa.StatusInterim || e.status == aaa.StatusStop {
		superseded = q.supersede(e)
	}
	if s := q.sessions[e.session]; s != nil {
		q.offer(s)
	}
	return superseded
}

func (q *queue) supersede(by *entry) []*entry {
	var out []*entry
	list := q.held
	if s := q.sessions[by.session]; s != nil {
		list = s.entries
	}
	for _, e := range list {
		if e.session == by.session && e.status == aaa.StatusInterim && e.seq < by.seq && e.safe && !e.taken {
			out = append(out, e)
		}
	}
	for _, e := range out {
		q.remove(e)
	}
	return out
}

// settleAll puts everything replayed in force.
func (q *queue) settleAll() {
	q.order = nil
	for _, s := range q.sessions {
		s.queued = false
		q.offer(s)
	}
	slices.SortFunc(q.order, func(a, b *session) int { return cmp.Compare(a.entries[0].seq, b.entries[0].seq) })
}

// take returns the next entry to deliver, nil if there is none.
func (q *queue) take() *entry {
	for len(q.order) > 0 {
		s := q.order[0]
		q.order[0] = nil
		q.order = q.order[1:]
		s.queued = false
		if len(s.entries) == 0 || !s.entries[0].safe || s.entries[0].taken || s.delayed {
			continue
		}
		s.entries[0].taken = true
		return s.entries[0]
	}
	if len(q.sessions) == 0 && len(q.held) > 0 && q.held[0].safe && !q.held[0].taken && q.held[0].barrier() {
		q.held[0].taken = true
		return q.held[0]
	}
	return nil
}

// remove takes an entry out, wherever it is.
func (q *queue) remove(e *entry) {
	if q.bySeq[e.seq] == nil {
		return
	}
	delete(q.bySeq, e.seq)
	q.length--
	if i := slices.Index(q.held, e); i >= 0 {
		q.held = slices.Delete(q.held, i, i+1)
		if i == 0 && e.barrier() {
			q.release()
		}
		return
	}
	s := q.sessions[e.session]
	s.entries = slices.DeleteFunc(s.entries, func(x *entry) bool { return x == e })
	if len(s.entries) == 0 {
		delete(q.sessions, e.session)
		return
	}
	q.offer(s)
}

func (q *queue) removeSeq(seq uint64) *entry {
	e := q.bySeq[seq]
	if e != nil {
		q.remove(e)
	}
	return e
}

// release lets what was held up to the next barrier go.
func (q *queue) release() {
	n := slices.IndexFunc(q.held, (*entry).barrier)
	if n < 0 {
		n = len(q.held)
	}
	for _, e := range q.held[:n] {
		q.enter(e)
	}
	q.held = slices.Delete(q.held, 0, n)
}

// putBack lets a taken entry be taken again, at once or after delay is lifted.
func (q *queue) putBack(e *entry, delayed bool) {
	e.taken = false
	if s := q.sessions[e.session]; s != nil && !e.barrier() {
		s.delayed = delayed
		q.offer(s)
	}
}

// lift ends a delay.
func (q *queue) lift(name string) {
	if s := q.sessions[name]; s != nil {
		s.delayed = false
		q.offer(s)
	}
}

// all returns every entry, in order.
func (q *queue) all() []*entry {
	out := make([]*entry, 0, q.length)
	for _, e := range q.bySeq {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	return out
}
