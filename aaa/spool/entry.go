// SPDX-License-Identifier: GPL-2.0-or-later

package spool

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"ddtb/aaa"
)

// entry is one record in the spool.
type entry struct {
	seq     uint64
	status  aaa.Status
	session string
	text    []byte // the aaa.Record, JSON
	safe    bool   // on disk
	taken   bool   // under delivery
	tries   int    // refusals while others got through
	why     string // it was parked, if that was since the start
}

func (e *entry) barrier() bool { return e.status == aaa.StatusOn || e.status == aaa.StatusOff }

// stored is a record as it is kept. A name that is not UTF-8, which JSON cannot hold, stands beside it in octets: the RADIUS server
// that gave it wants to see the same.
type stored struct {
	aaa.Record
	Name []byte `json:",omitzero"`
}

func marshal(r aaa.Record) ([]byte, error) {
	s := stored{Record: r}
	if !utf8.ValidString(r.Subscriber.Name) {
		s.Name = []byte(r.Subscriber.Name)
	}
	return json.Marshal(s)
}

func (e *entry) record() (aaa.Record, error) {
	var s stored
	err := json.Unmarshal(e.text, &s)
	if s.Name != nil {
		s.Subscriber.Name = string(s.Name)
	}
	return s.Record, err
}

// What a journal record tells, in its first octet; a sequence number follows.
const (
	kindRecord = 'R' // then the aaa.Record, JSON
	kindDone   = 'D' // delivered, superseded or thrown away; further sequence numbers may follow
	kindParked = 'P'
	kindRetry  = 'U' // no longer parked
)

func (e *entry) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{kindRecord}, e.seq)
	return append(b, e.text...)
}

func encodeSeqs(kind byte, seqs ...uint64) []byte {
	b := []byte{kind}
	for _, seq := range seqs {
		b = binary.BigEndian.AppendUint64(b, seq)
	}
	return b
}

var errRecord = errors.New("not a record of an accounting spool")

// replay puts one journal record in force.
func (s *Spool) replay(b []byte) error {
	if len(b) < 9 {
		return errRecord
	}
	kind, rest := b[0], b[1:]
	seq := binary.BigEndian.Uint64(rest)
	s.next = max(s.next, seq+1)
	switch kind {
	case kindRecord:
		e := &entry{seq: seq, text: append([]byte(nil), rest[8:]...), safe: true}
		r, err := e.record()
		if err != nil {
			return fmt.Errorf("%w: %w", errRecord, err)
		}
		e.status, e.session = r.Status, r.Session
		if !s.queue.has(seq) && s.parked[seq] == nil { // a snapshot and what was appended beside it may tell the same twice
			s.queue.add(e)
			s.queue.settle(e)
		}
	case kindDone:
		for ; len(rest) >= 8; rest = rest[8:] {
			seq := binary.BigEndian.Uint64(rest)
			delete(s.parked, seq)
			s.queue.removeSeq(seq)
		}
	case kindParked:
		if e := s.queue.removeSeq(seq); e != nil {
			s.parked[seq] = e
		}
	case kindRetry:
		if e := s.parked[seq]; e != nil {
			delete(s.parked, seq)
			s.queue.add(e)
		}
	default:
		return errRecord
	}
	return nil
}

// snapshot emits what waits and what is parked.
func (s *Spool) snapshot(emit func([]byte) error) error {
	s.quiesce()
	defer s.quiesce()
	s.mu.Lock()
	all := s.queue.all()
	parked := make([]*entry, 0, len(s.parked))
	for _, e := range s.parked {
		parked = append(parked, e)
	}
	s.mu.Unlock()
	for _, e := range append(all, parked...) {
		if err := emit(e.encode()); err != nil {
			return err
		}
	}
	for _, e := range parked {
		if err := emit(encodeSeqs(kindParked, e.seq)); err != nil {
			return err
		}
	}
	return nil
}

// quiesce returns when the changes that were under way are on disk or undone.
func (s *Spool) quiesce() {
	s.changing.Lock()
	s.changing.Unlock() //nolint:staticcheck // the wait is all that is wanted
}
