// SPDX-License-Identifier: GPL-2.0-or-later

package aaatest

import (
	"context"
	"slices"
	"sync"

	"ddtb/aaa"
)

// Recorder is an Accountant that keeps what it was told, in memory. The zero value is ready for use.
type Recorder struct {
	mu      sync.Mutex
	records []aaa.Record
	err     error
	changed chan struct{} // closed and replaced at every record
}

// Account implements aaa.Accountant.
func (r *Recorder) Account(_ context.Context, record aaa.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.records = append(r.records, record)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
	return nil
}

// Fail makes every Account give err from now on; nil ends that.
func (r *Recorder) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// Records returns what was recorded so far, in order.
func (r *Recorder) Records() []aaa.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records)
}

// Session returns the records of one session so far, in order.
func (r *Recorder) Session(id string) []aaa.Record {
	return slices.DeleteFunc(r.Records(), func(record aaa.Record) bool { return record.Session != id })
}

// Wait returns once a record fulfils cond, with that record, or with ctx's error.
func (r *Recorder) Wait(ctx context.Context, cond func(aaa.Record) bool) (aaa.Record, error) {
	for {
		r.mu.Lock()
		i := slices.IndexFunc(r.records, cond)
		if i >= 0 {
			defer r.mu.Unlock()
			return r.records[i], nil
		}
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return aaa.Record{}, ctx.Err()
		}
	}
}
