// SPDX-License-Identifier: GPL-2.0-or-later

package spool

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"ddtb/aaa"
)

// Parked is a record that was set aside.
type Parked struct {
	ID     uint64
	Record aaa.Record
	Why    string // "" if that was before the start
}

// Parked returns the records set aside, oldest first.
func (s *Spool) Parked() []Parked {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Parked, 0, len(s.parked))
	for _, e := range s.parked {
		if r, err := e.record(); err == nil {
			out = append(out, Parked{ID: e.seq, Record: r, Why: e.why})
		}
	}
	slices.SortFunc(out, func(a, b Parked) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Status is a Spool at one moment.
type Status struct {
	Pending int   // records that wait to be delivered
	Parked  int   // records set aside
	Bytes   int64 // on disk
	Silent  bool  // no server answers
}

// Status tells how the Spool does.
func (s *Spool) Status() Status {
	bytes := s.journal.Size() // not with mu held, which the journal wants for a snapshot
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Pending: s.queue.length, Parked: len(s.parked), Bytes: bytes, Silent: s.state.down}
}

// ErrNotParked: no record of this id is set aside.
var ErrNotParked = errors.New("no such parked record")

// Retry has a parked record delivered again.
func (s *Spool) Retry(id uint64) error { return s.unpark(id, kindRetry) }

// Discard throws a parked record away.
func (s *Spool) Discard(id uint64) error { return s.unpark(id, kindDone) }

func (s *Spool) unpark(id uint64, kind byte) error {
	s.changing.RLock()
	defer s.changing.RUnlock()
	s.mu.Lock()
	e := s.parked[id]
	delete(s.parked, id)
	if e != nil && kind == kindRetry {
		s.queue.add(e)
	}
	s.mu.Unlock()
	if e == nil {
		return fmt.Errorf("record %d: %w", id, ErrNotParked)
	}
	s.ready.Signal()
	if err := s.journal.Append(encodeSeqs(kind, id)); err != nil {
		return fmt.Errorf("accounting spool: record %d: %w", id, err)
	}
	return nil
}
