// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import "time"

// retransmission is how long a client repeats a request that was answered: 8 times in 66 s.
const retransmission = 66 * time.Second

// generations are the parts of what is remembered: the one that is filled, and two that wait for their end.
const generations = 3

// answered remembers what the last message of a dialogue over datagrams was answered with, when nothing else of the
// dialogue is needed any more, at least for the time of retransmission. It is guarded by the lock of the table that the
// dialogues were in.
//
// Fifty thousand clients that log in after a restart are all remembered at once, so an entry is small, has no place in any
// list, and they are forgotten many at a time: what is young is put into the first map; now and then that one becomes the
// second, and what was the last is dropped.
type answered struct {
	limit  int // entries of one generation
	young  [generations]map[endpoints]memory
	turned time.Time
}

// memory is what is left of a dialogue.
type memory struct {
	said      *said
	first     header // of the AUTHENTICATE
	last      uint32 // sequence of the last message, answered with said
	version   uint32 // sequence of a VERSION that came since
	restarted bool   // one did
}

// said is an answer, and what polls fetch after it. It is shared and never changed.
type said struct {
	answer  []byte
	pending [][]byte
}

func newAnswered(limit int, now time.Time) *answered {
	a := &answered{turned: now}
	a.bound(limit)
	for i := range a.young {
		a.young[i] = map[endpoints]memory{}
	}
	return a
}

// bound sets how many are remembered.
func (a *answered) bound(limit int) { a.limit = max(limit/generations, 1) }

// put remembers a dialogue, in place of what is remembered of its endpoints.
func (a *answered) put(key endpoints, m memory, now time.Time) {
	a.forget(key)
	if len(a.young[0]) >= a.limit {
		a.turn(now)
	}
	a.young[0][key] = m
}

// get finds what is remembered of endpoints.
func (a *answered) get(key endpoints) (m memory, ok bool) {
	for _, generation := range a.young {
		if m, ok = generation[key]; ok {
			return m, true
		}
	}
	return memory{}, false
}

// change puts m in place of what is remembered of the same endpoints, which grows no older nor younger by it.
func (a *answered) change(key endpoints, m memory) {
	for _, generation := range a.young {
		if _, ok := generation[key]; ok {
			generation[key] = m
			return
		}
	}
}

func (a *answered) forget(key endpoints) {
	for _, generation := range a.young {
		delete(generation, key)
	}
}

// age drops what is old enough.
func (a *answered) age(now time.Time) {
	if now.Sub(a.turned) >= retransmission/(generations-1) {
		a.turn(now)
	}
}

func (a *answered) turn(now time.Time) {
	copy(a.young[1:], a.young[:])
	a.young[0], a.turned = map[endpoints]memory{}, now
}

// count tells how many dialogues are remembered.
func (a *answered) count() (n int) {
	for _, generation := range a.young {
		n += len(generation)
	}
	return n
}

// memory is what has to be remembered of a dialogue.
func (d *udpDialogue) memory() memory {
	return memory{first: d.first, last: d.last.sequence, version: d.version, restarted: d.restarted}
}

// begins tells whether an AUTHENTICATE is that of a new dialogue, not the earlier one's datagram that comes late.
func (m memory) begins(h header) bool {
	followsVersion := m.restarted && h.sequence == (m.version+1)&sequenceMask
	return h != m.first && (followsVersion || older(m.last, h.sequence))
}

// recall answers what comes after the end of a dialogue: its last message once more, and polls. The table is locked.
func (s *udpServer) recall(key endpoints, h header, data, answer []byte) []byte {
	m, ok := s.answered.get(key)
	switch {
	case !ok:
		s.metrics.drops.unknown.Inc()
		return nil
	case h.sequence == m.last:
		s.metrics.repeated.Inc()
		return append(answer, m.said.answer...)
	case len(data) > 0 || !older(m.last, h.sequence):
		s.metrics.drops.stale.Inc()
		return nil
	}
	s.metrics.requests.poll.Inc()
	next := &said{}
	if len(m.said.pending) > 0 {
		next = &said{answer: m.said.pending[0], pending: m.said.pending[1:]}
	}
	m.last, m.said = h.sequence, next
	s.answered.change(key, m)
	return append(answer, next.answer...)
}

// remembered tells how many dialogues are over and may still hear a retransmission.
func (s *udpServer) remembered() int {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	return s.answered.count()
}

// close forgets a dialogue that is over, all but what it was answered with. The table is locked.
func (s *udpServer) close(d *udpDialogue) {
	s.forget(d)
	m := d.memory()
	if m.said = s.statuses[string(d.answer)]; m.said == nil || len(d.pending) > 0 {
		m.said = &said{answer: d.answer, pending: d.pending}
	}
	s.answered.put(d.key, m, s.now())
}
