// SPDX-License-Identifier: GPL-2.0-or-later

// Package spool keeps accounting records on disk until the billing system has them.
//
// Account returns when the record is safe in a journal (aaa/journal: checksummed, one fdatasync for all who wait). Delivery
// goes on behind it, as long as it takes:
//
//   - the records of one session go out in order, one at a time; different sessions side by side;
//   - an Interim-Update that waits is superseded by the next Interim-Update or the Stop; Start, Stop, On and Off never are;
//   - On and Off wait for all before them, and all after them wait for them: they are about every session;
//   - while no server answers, one record at a time is tried, at growing intervals;
//   - a record that is refused again and again while others get through is set aside (parked), counted and reported, so that
//     it holds up nobody but itself. It stays on disk until the operator has it tried again or thrown away.
//
// What was delivered is noted in the journal without waiting for the disk: a crash in that moment has the record sent twice,
// with the same session and the same Event-Timestamp, which billing systems take for what it is. Nothing is ever sent never.
package spool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/journal"
)

// Deliverer hands a record to the billing system. nil: it has it. An error that wraps aaa.ErrUnavailable: no answer, try
// again; any other error is about this record.
type Deliverer interface {
	Deliver(ctx context.Context, record aaa.Record) error
}

// Options of a Spool. Zero fields mean the default named.
type Options struct {
	MaxPending int           // records that wait, beyond which no session may start; 0: 1,000,000
	Parallel   int           // records under delivery at a time; 0: 64
	Retry      time.Duration // first wait after no server answered; 0: 1 s
	RetryMax   time.Duration // longest; 0: 1 min
	Tries      int           // of one record while others get through, before it is parked; 0: 5

	Logger     zerolog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *int
		value int
	}{{&o.MaxPending, 1_000_000}, {&o.Parallel, 64}, {&o.Tries, 5}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	if o.RetryMax == 0 {
		o.RetryMax = max(time.Minute, o.Retry)
	}
	return o
}

// ErrFull: as many records wait as may. It wraps aaa.ErrUnavailable.
var ErrFull = fmt.Errorf("%w: accounting spool full", aaa.ErrUnavailable)

// Spool implements aaa.Accountant.
type Spool struct {
	o       Options
	journal *journal.Journal
	to      Deliverer
	metrics *metrics

	changing sync.RWMutex // held for reading while a record is in the queue and not yet on disk (see journal.Options.Snapshot)
	acks     chan uint64  // delivered, to be noted on disk

	mu     sync.Mutex
	ready  sync.Cond // somebody may take an entry, or the Spool ends
	queue  queue
	parked map[uint64]*entry
	next   uint64 // sequence number of the next record
	state  line
	ended  bool
}

// Open opens the spool in the file at path, making it if it is not there; report says what the operator should know of it.
// Nothing is delivered before Run.
func Open(path string, to Deliverer, o Options) (s *Spool, report journal.Report, err error) {
	o = o.withDefaults()
	s = &Spool{o: o, to: to, parked: make(map[uint64]*entry), acks: make(chan uint64, 4096),
		state: line{first: o.Retry, longest: o.RetryMax}}
	s.ready.L = &s.mu
	s.queue.sessions = make(map[string]*session)
	s.journal, report, err = journal.Open(path, journal.Options{
		Kind: "ddtb-accounting-1", Snapshot: s.snapshot, Logger: o.Logger}, s.replay)
	if err != nil {
		return nil, report, fmt.Errorf("accounting spool: %w", err)
	}
	s.queue.settleAll()
	if s.metrics, err = newMetrics(o.Registerer, s); err != nil {
		return nil, report, errors.Join(err, s.journal.Close())
	}
	return s, report, nil
}

// Account implements aaa.Accountant: it returns nil when the record is on disk. When it cannot be written, or too many wait and
// a session wants to start, the error wraps aaa.ErrUnavailable. A Stop is taken however many wait.
func (s *Spool) Account(_ context.Context, record aaa.Record) error {
	text, err := marshal(record)
	if err != nil {
		return fmt.Errorf("accounting spool: %w", err)
	}
	s.changing.RLock()
	defer s.changing.RUnlock()
	s.mu.Lock()
	if record.Status == aaa.StatusStart && s.queue.length+len(s.parked) >= s.o.MaxPending {
		s.mu.Unlock()
		return ErrFull
	}
	e := &entry{seq: s.next, status: record.Status, session: record.Session, text: text}
	s.next++
	s.queue.add(e)
	s.mu.Unlock()

	err = s.journal.Append(e.encode())
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.queue.remove(e)
		s.metrics.failures.Inc()
		s.ready.Signal()
		return fmt.Errorf("%w: accounting spool: %w", aaa.ErrUnavailable, err)
	}
	for _, old := range s.queue.settle(e) {
		s.ack(old.seq)
	}
	s.ready.Signal()
	s.metrics.taken.Inc()
	return nil
}

// Pending is how many records wait to be delivered.
func (s *Spool) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.length
}

// Close lets go of the file; what waits is delivered by the next process. Run has to have returned.
func (s *Spool) Close() error { return s.journal.Close() }
