// SPDX-License-Identifier: GPL-2.0-or-later

package spool

import (
	"context"
	"errors"
	"sync"
	"time"

	"ddtb/aaa"
)

// line is what is known of the way to the billing system.
type line struct {
	first, longest time.Duration

	successes uint64 // deliveries so far
	down      bool   // the last thing heard is silence
	trying    bool   // one delivery is under way while down
	wait      time.Duration
	until     time.Time // nothing is tried before this while down
}

// open tells whether a delivery may begin; if not, until when not, zero if that depends on others.
func (l *line) open(now time.Time) (ok bool, until time.Time) {
	switch {
	case !l.down:
		return true, time.Time{}
	case l.trying:
		return false, time.Time{}
	case now.Before(l.until):
		return false, l.until
	}
	return true, time.Time{}
}

func (l *line) success() {
	l.successes++
	l.down, l.trying, l.wait = false, false, 0
}

func (l *line) silence(now time.Time) {
	if l.down && now.Before(l.until) {
		return // one of those that were under way when the first found out
	}
	l.down, l.trying = true, false
	l.wait = min(max(2*l.wait, l.first), l.longest)
	l.until = now.Add(l.wait)
}

// Run delivers until ctx is done, then returns nil.
func (s *Spool) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended = true
		s.ready.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	s.ended = ctx.Err() != nil
	s.mu.Unlock()
	var workers, acker sync.WaitGroup
	delivered := make(chan struct{})
	acker.Go(func() { s.writeAcks(delivered) })
	for range s.o.Parallel {
		workers.Go(func() { s.work(ctx) })
	}
	workers.Wait()
	close(delivered)
	acker.Wait()
	return nil
}

func (s *Spool) work(ctx context.Context) {
	for {
		e, before := s.take()
		if e == nil {
			return
		}
		record, err := e.record()
		if err == nil {
			err = s.to.Deliver(ctx, record)
		}
		s.finish(ctx, e, before, err)
	}
}

// take waits for an entry that may be delivered; nil when the Spool ends. before is how many deliveries had succeeded then.
func (s *Spool) take() (e *entry, before uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended {
		ok, until := s.state.open(time.Now())
		if ok {
			if e := s.queue.take(); e != nil {
				s.state.trying = s.state.down
				if len(s.queue.order) > 0 {
					s.ready.Signal()
				}
				return e, s.state.successes
			}
		} else if !until.IsZero() {
			timer := time.AfterFunc(time.Until(until), s.ready.Broadcast)
			s.ready.Wait()
			timer.Stop()
			continue
		}
		s.ready.Wait()
	}
	return nil, 0
}

// finish draws the consequence of a delivery.
func (s *Spool) finish(ctx context.Context, e *entry, before uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.ready.Broadcast()
	switch {
	case err == nil:
		s.state.success()
		s.queue.remove(e)
		s.ack(e.seq)
		s.metrics.delivered.Inc()
	case ctx.Err() != nil: // the end, not an answer
		s.state.trying = false
		s.queue.putBack(e, false)
	case !errors.Is(err, aaa.ErrUnavailable):
		s.state.trying = false
		s.park(e, err)
	case s.state.successes > before: // others got through meanwhile: it is this record
		s.state.trying = false
		if e.tries++; e.tries >= s.o.Tries {
			s.park(e, err)
			return
		}
		s.queue.putBack(e, true)
		time.AfterFunc(s.o.Retry<<min(e.tries-1, 6), func() { s.lift(e) })
	default:
		if !s.state.down {
			s.o.Logger.Warn().Err(err).Int("waiting", s.queue.length).Msg("accounting: no server answers; records are kept and sent later")
		}
		s.state.silence(time.Now())
		s.queue.putBack(e, false)
	}
}

func (s *Spool) lift(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.lift(e.session)
	s.ready.Signal()
}

// park sets an entry aside. That it is parked may be forgotten by a crash: then it is tried again.
func (s *Spool) park(e *entry, err error) {
	s.queue.remove(e)
	e.taken, e.tries, e.why = false, 0, err.Error()
	s.parked[e.seq] = e
	s.metrics.parkings.Inc()
	s.o.Logger.Error().Err(err).Uint64("record", e.seq).Str("session", e.session).Stringer("status", e.status).
		Msg("accounting record set aside: the server refuses it")
	go func() { _ = s.journal.Append(encodeSeqs(kindParked, e.seq)) }()
}

// ack has a delivery noted on disk, without waiting for it.
func (s *Spool) ack(seq uint64) {
	select {
	case s.acks <- seq:
	default: // the disk is slow: the record is sent once more after a restart
	}
}

// ackPause is how long the note of a delivery waits for others, since nobody waits for it and the disk costs the processor more than
// the delivery did.
const ackPause = 5 * time.Millisecond

// writeAcks notes deliveries until end is closed and all are noted, as many at a time as have come while it paused.
func (s *Spool) writeAcks(end <-chan struct{}) {
	batch := make([]uint64, 0, cap(s.acks))
	pause := time.NewTicker(ackPause)
	defer pause.Stop()
	for {
		select {
		case seq := <-s.acks:
			batch = append(batch, seq)
		case <-end:
			if len(s.acks) == 0 {
				return
			}
		}
		for len(batch) < cap(batch) && len(s.acks) > 0 {
			batch = append(batch, <-s.acks)
		}
		if err := s.journal.Append(encodeSeqs(kindDone, batch...)); err != nil {
			s.metrics.failures.Inc()
			s.o.Logger.Error().Err(err).Msg("accounting: cannot note what was delivered; it is sent again after a restart")
		}
		batch = batch[:0]
		select {
		case <-pause.C:
		case <-end:
		}
	}
}
