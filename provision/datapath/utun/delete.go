// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"ddtb/provision/datapath"
)

// deletions are the calls of Delete that wait. Each command takes the kernel a grace period, however many tunnels it ends: so
// while one is under way the others gather for the next.
type deletions struct {
	mu      sync.Mutex
	waiting []deletion
	running bool
}

type deletion struct {
	id   uint32
	done chan<- deleted
}

type deleted struct {
	counters datapath.Counters
	err      error
}

// Delete implements datapath.Datapath.
func (d *Driver) Delete(_ context.Context, id uint32) (datapath.Counters, error) {
	done := make(chan deleted, 1)
	q := &d.deletions
	q.mu.Lock()
	q.waiting = append(q.waiting, deletion{id, done})
	leads := !q.running
	q.running = true
	q.mu.Unlock()
	if leads && d.deleteSome() {
		go func() {
			for d.deleteSome() {
				continue
			}
		}()
	}
	answer := <-done
	return answer.counters, answer.err
}

// deleteSome does what waits now, and tells whether there is more.
func (d *Driver) deleteSome() (more bool) {
	q := &d.deletions
	q.mu.Lock()
	n := min(len(q.waiting), batchSize)
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	q.mu.Unlock()

	d.deleteBatch(batch)

	q.mu.Lock()
	defer q.mu.Unlock()
	q.running = len(q.waiting) > 0
	return q.running
}

func (d *Driver) deleteBatch(batch []deletion) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := make([]uint32, 0, len(batch))
	for _, one := range batch {
		ids = append(ids, one.id)
	}
	last := map[uint32]datapath.Counters{}
	err := d.usable()
	if err == nil {
		err = d.family.request(encodeDelete(d.device.index, ids), func(attributes []byte) error {
			return decodeTunnels(attributes, func(s state) error {
				last[s.ID] = s.Counters
				return nil
			})
		})
	}
	for _, one := range batch {
		counters, was := last[one.id]
		delete(last, one.id) // who asked twice gets them once
		switch {
		case err != nil:
			one.done <- deleted{err: fmt.Errorf("tunnel %d: %w", one.id, err)}
		case !was:
			one.done <- deleted{err: fmt.Errorf("tunnel %d: %w", one.id, datapath.ErrNotFound)}
		default:
			one.done <- deleted{counters, d.bury(one.id)}
		}
	}
}

// bury removes routes and device of a tunnel that is out of force.
func (d *Driver) bury(id uint32) error {
	var errs []error
	for _, prefix := range d.ends[id] {
		d.foreign.Remove(prefix)
		errs = append(errs, d.router().delete(prefix, d.device.index))
	}
	delete(d.ends, id)
	delete(d.odd, id)
	if client := d.clients.byID[id]; client != nil {
		d.clients.forget(id)
		errs = append(errs, client.remove(d.host))
	}
	d.log.Debug().Uint32("tunnel", id).Msg("tunnel deleted")
	return errors.Join(errs...)
}

// Resumes implements datapath.Resumer: the module remembers what ended.
func (d *Driver) Resumes() {}
