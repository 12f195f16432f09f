// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"ddtb/tsp/mmsg"
	"ddtb/tsp/sasl"
)

// endpoints is the 4-tuple a UDP dialogue is known by.
type endpoints struct {
	local, remote [18]byte // address and port
}

func endpointsOf(local, remote netip.AddrPort) (e endpoints) {
	e.local, e.remote = packed(local), packed(remote)
	return e
}

func packed(a netip.AddrPort) (b [18]byte) {
	addr := a.Addr().As16()
	copy(b[:], addr[:])
	b[16], b[17] = byte(a.Port()>>8), byte(a.Port())
	return b
}

// udpDialogue is a dialogue over datagrams: what it takes to answer each of them exactly once, and again when it is repeated.
type udpDialogue struct {
	dialogue
	entry
	socket *udpSocket
	key    endpoints

	// Under the table's lock.
	first     header   // of the AUTHENTICATE
	last      header   // of the message in work or answered last; the timestamp is that of its newest copy
	working   bool     // a worker has it
	answer    []byte   // to last
	pending   [][]byte // what polls fetch
	restarted bool     // a VERSION came since last
	version   uint32   // its sequence
}

// evicted implements evictee.
func (d *udpDialogue) evicted() { delete(d.socket.server.udp.dialogues, d.key) }

// restart notes a VERSION on the 4-tuple of a dialogue. It may be the start of another dialogue or a late copy of this one's, so nothing ends
// yet: the AUTHENTICATE that follows a true one does that.
func (s *udpServer) restart(key endpoints, h header) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if d := s.dialogues[key]; d != nil {
		d.restarted, d.version = true, h.sequence
	} else if m, ok := s.answered.get(key); ok {
		m.restarted, m.version = true, h.sequence
		s.answered.change(key, m)
	}
}

// authenticate takes a valid AUTHENTICATE line: the first message for which something is kept. answer holds the header; without one
// nothing is answered now.
func (s *udpServer) authenticate(u *udpSocket, peer Peer, mechanism sasl.Mechanism, h header, line, answer []byte, now time.Time) []byte {
	s.metrics.requests.authenticate.Inc()
	capability := s.backend.Capability(peer)
	if mechanism == "" || !slices.Contains(capability.Mechanisms, mechanism) {
		return s.notOffered(answer, &peer, line)
	}
	key := endpointsOf(peer.Local, peer.Remote)
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if old := s.dialogues[key]; old != nil {
		switch old.judge(h, mechanism) {
		case repeated:
			return s.again(old, h, answer)
		case stale:
			s.metrics.drops.stale.Inc()
			return nil
		case restarting:
			if !s.discard(old) {
				s.metrics.drops.queue.Inc()
				return nil
			}
		}
	} else if m, ok := s.answered.get(key); ok && !m.begins(h) {
		s.metrics.drops.stale.Inc()
		return nil
	}
	if s.draining.Load() {
		return s.status(answer, StatusBusy)
	}
	return s.open(u, key, peer, mechanism, capability.Realm, h, answer, now)
}

// judgement is what an AUTHENTICATE on the 4-tuple of a dialogue is.
type judgement uint8

const (
	repeated judgement = iota
	stale
	restarting
)

// judge tells a repeated AUTHENTICATE from that of a new dialogue. Sequences alone do not tell: each new socket of a client starts at the
// same number.
func (d *udpDialogue) judge(h header, mechanism sasl.Mechanism) judgement {
	switch {
	case h.sequence == d.first.sequence && d.last.sequence == d.first.sequence && d.mechanism == mechanism:
		return repeated // the answer is still unused: it serves a new dialogue as well
	case d.memory().begins(h):
		return restarting
	}
	return stale
}

// open makes a dialogue and starts its mechanism. The table is locked.
func (s *udpServer) open(u *udpSocket, key endpoints, peer Peer, mechanism sasl.Mechanism, realm string, h header, answer []byte, now time.Time) []byte {
	d := &udpDialogue{dialogue: dialogue{server: s.Server, peer: peer, mechanism: mechanism}, socket: u, key: key, first: h, last: h}
	switch s.table.add(&d.entry, sourceOf(peer.Remote.Addr()), d, now) {
	case added:
	case sourceFull:
		s.metrics.drops.source.Inc()
		return nil
	case tableFull:
		s.metrics.drops.table.Inc()
		return s.status(answer, StatusBusy)
	case addedByEviction:
		s.metrics.evicted.Inc()
	}
	s.dialogues[key] = d
	s.answered.forget(key)
	challenge, err := d.begin(realm)
	if err != nil {
		s.log.Error().Err(err).Str("mechanism", string(mechanism)).Msg("mechanism is advertised and cannot be used")
		s.forget(d)
		return s.status(answer, StatusServerError)
	}
	if d.credential != nil && !s.work(d, nil, now) {
		s.forget(d)
		return s.status(answer, StatusBusy)
	}
	if d.working {
		return nil
	}
	d.answer = challenge
	return append(answer, challenge...)
}

// proceed takes every other message: it belongs to a dialogue or is dropped.
func (s *udpServer) proceed(key endpoints, h header, data, answer []byte, now time.Time) []byte {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	d := s.dialogues[key]
	switch {
	case d == nil:
		return s.recall(key, h, data, answer)
	case h.sequence == d.last.sequence && d.standing == stranger: // a copy may be shorter than what was answered first
		return s.fitDatagram(s.again(d, h, answer), headerLen+len(data))
	case h.sequence == d.last.sequence:
		return s.again(d, h, answer)
	case !older(d.last.sequence, h.sequence):
		s.metrics.drops.stale.Inc()
		return nil
	case d.working:
		s.metrics.drops.busy.Inc()
		return nil
	}
	if len(data) == 0 {
		return s.poll(d, h, answer)
	}
	if len(data) > maxMessage {
		data = data[:maxMessage] // too short for its Content-length then: 500
	}
	previous := d.last
	d.last = h
	if !s.work(d, slices.Clone(data), now) {
		d.last = previous // the client will repeat it
		s.metrics.drops.queue.Inc()
		return nil
	}
	d.restarted, d.answer, d.pending = false, nil, nil
	return nil
}

// again answers a repeated message from memory, with its own timestamp. One that a worker has is answered once, when that is done.
func (s *udpServer) again(d *udpDialogue, h header, answer []byte) []byte {
	d.last = h
	if d.working {
		s.metrics.drops.busy.Inc()
		return nil
	}
	s.metrics.repeated.Inc()
	return append(answer, d.answer...)
}

// poll answers a bare header with what the client has not heard yet, or with a bare header.
func (s *udpServer) poll(d *udpDialogue, h header, answer []byte) []byte {
	s.metrics.requests.poll.Inc()
	d.last, d.answer = h, nil
	if len(d.pending) > 0 {
		d.answer, d.pending = d.pending[0], d.pending[1:]
	}
	return append(answer, d.answer...)
}

// work gives a message to the pool; false if it is full. The table is locked.
func (s *udpServer) work(d *udpDialogue, message []byte, now time.Time) bool {
	if !s.queue(job{dialogue: d, message: message}) {
		return false
	}
	d.working = true
	if d.standing == stranger {
		s.table.move(&d.entry, known, now)
	}
	return true
}

// queue hands a job to the pool without waiting; false if it is full.
func (s *udpServer) queue(j job) bool {
	jobs := s.jobs
	if !j.end && j.dialogue.forgeable() && !s.proven.has(j.dialogue.source) {
		jobs = s.forgeable
	}
	s.inflight.Add(1)
	select {
	case jobs <- j:
		return true
	default:
		s.inflight.Add(-1)
		return false
	}
}

// forgeable tells whether the next message may come from somebody who forges his address and hears none of our answers: an anonymous
// one, or a name and a password. The response to a challenge cannot, nor what follows a login. No worker has d.
func (d *dialogue) forgeable() bool {
	return d.mechanism == sasl.Anonymous || d.mechanism == sasl.Plain && d.phase == phaseLogin
}

// worker does jobs until there are no more, those that cannot be forged first; with only no others.
func (s *udpServer) worker(only bool) {
	forgeable := s.forgeable
	if only {
		forgeable = nil
	}
	var calls span
	defer calls.end()
	for {
		var j job
		ok := true
		select {
		case j, ok = <-s.jobs:
		default:
			select {
			case j, ok = <-s.jobs:
			case j = <-forgeable:
			}
		}
		if !ok {
			return
		}
		if j.end {
			s.finish(j.dialogue)
		} else {
			s.answer(calls.within(s.calls, s.limits.Load().Timeout), j.dialogue, j.message)
		}
		s.inflight.Add(-1)
	}
}

// busy tells how many dialogues and jobs are to be waited for.
func (s *udpServer) busy() int { return s.table.busy() + int(s.inflight.Load()) }

// stop has all dialogues ended, and then the workers. No socket is read any more.
func (s *udpServer) stop() {
	var open []*udpDialogue
	s.table.mu.Lock()
	for _, d := range s.dialogues {
		if !d.working && d.offered { // else the worker will see that it is gone
			open = append(open, d)
		}
		s.forget(d)
	}
	s.table.mu.Unlock()
	for _, d := range open {
		s.inflight.Add(1)
		s.jobs <- job{dialogue: d, end: true}
	}
	close(s.jobs)
}

// answer lets the dialogue take a message and sends what it says.
func (s *udpServer) answer(ctx context.Context, d *udpDialogue, message []byte) {
	parts := split(d.step(ctx, message))
	if d.phase == phaseOver {
		d.end(ctx)
	}

	s.table.mu.Lock()
	d.working = false
	d.answer, d.pending = parts[0], parts[1:]
	gone := d.gone
	switch {
	case gone: // its time was up, or its client has begun another one
	case d.phase == phaseOver:
		s.close(d)
	case d.mechanism == sasl.Anonymous && !d.offered: // anybody, perhaps under a forged address
		s.table.move(&d.entry, stranger, s.now())
	}
	datagram := append(d.last.append(make([]byte, 0, headerLen+len(d.answer))), d.answer...)
	s.table.mu.Unlock()

	if gone {
		s.finish(d)
		return
	}
	d.socket.outbox.put(mmsg.Message{Data: datagram, Remote: d.peer.Remote, Local: d.peer.Local.Addr()})
}

// split cuts a reply into datagrams, at least one.
func split(r reply) [][]byte {
	var parts [][]byte
	for len(r.first) > maxDatagram {
		parts = append(parts, r.first[:maxDatagram])
		r.first = r.first[maxDatagram:]
	}
	parts = append(parts, r.first)
	if r.second != nil {
		parts = append(parts, r.second)
	}
	return parts
}

// finish ends a dialogue that is no longer in the table.
func (s *udpServer) finish(d *udpDialogue) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.calls), endTimeout)
	defer cancel()
	d.end(ctx)
}

// discard takes a dialogue out of the table and has it ended; false if the pool is full. The table is locked.
func (s *udpServer) discard(d *udpDialogue) bool {
	if !d.working && d.offered && !s.queue(job{dialogue: d, end: true}) {
		return false
	} // if a worker has it, that sees that it is gone
	s.forget(d)
	return true
}

// forget takes a dialogue out of the table.
func (s *udpServer) forget(d *udpDialogue) {
	s.table.remove(&d.entry)
	delete(s.dialogues, d.key)
}

// sweep discards the dialogues whose time is up.
func (s *udpServer) sweep(now time.Time) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.answered.age(now)
	for e := s.table.expired(now); e != nil; e = s.table.expired(now) {
		d, ok := e.owner.(*udpDialogue)
		if !ok {
			panic("tsp: something else is in the table of UDP dialogues")
		}
		if !s.discard(d) {
			return // the next sweep goes on
		}
	}
}
