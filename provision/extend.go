// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

// extendLeases moves the end of leases that are half over.
func (b *Broker) extendLeases(ctx context.Context, s *settings, entries []*entry) error {
	for batch := range slices.Chunk(entries, extendBatch) {
		holders := make([]lease.Holder, len(batch))
		for i, e := range batch {
			holders[i] = e.holder()
		}
		lost, err := b.extend(ctx, s, batch, holders)
		if err = errors.Join(err, b.endLost(ctx, lost)); err != nil {
			return err
		}
	}
	return nil
}

// mark lets leases tell what their sessions have counted. What is told in an Interim record has been told here before: should
// the host die, the Stop record says no less.
func (b *Broker) mark(ctx context.Context, entries ...[]*entry) error {
	b.mu.Lock()
	b.fresh = append(b.fresh, slices.Concat(entries...)...)
	b.mu.Unlock()
	return b.markStarted(ctx)
}

// markStarted lets the leases of sessions that started lately, or have counted, tell so. Their subscribers are locked
// meanwhile, so that no later mark is written over. After an error the rest waits for the next time.
func (b *Broker) markStarted(ctx context.Context) error {
	s := b.settings.Load()
	fresh := b.takeFresh()
	size := extendBatch
	if b.unmarked.Load() {
		size = 1 // the store may still be away, and who is locked waits for it
	}
	var left []*entry
	var errs []error
	for len(fresh) > 0 && errors.Join(errs...) == nil {
		batch := fresh[:min(size, len(fresh))]
		fresh, size = fresh[len(batch):], extendBatch
		locked, busy := b.lockAll(batch)
		left = append(left, busy...)
		entries, holders := b.startedHolders(locked)
		lost, err := b.extend(ctx, s, entries, holders)
		for _, e := range locked {
			b.locks.unlock(e.lockKey())
		}
		if b.unmarked.Store(err != nil); err != nil {
			left = append(left, locked...)
		}
		errs = append(errs, err, b.endLost(ctx, lost))
	}
	b.mu.Lock()
	b.fresh = append(append(b.fresh, left...), fresh...)
	b.mu.Unlock()
	return errors.Join(errs...)
}

// takeFresh takes the sessions to be marked out of the table, each once.
func (b *Broker) takeFresh() []*entry {
	b.mu.Lock()
	fresh := b.fresh
	b.fresh = nil
	b.mu.Unlock()
	seen := make(map[*entry]bool, len(fresh))
	return slices.DeleteFunc(fresh, func(e *entry) bool {
		again := seen[e]
		seen[e] = true
		return again
	})
}

// lockAll locks the subscribers of entries that nobody works on just now.
func (b *Broker) lockAll(entries []*entry) (locked, busy []*entry) {
	for _, e := range entries {
		if b.locks.tryLock(e.lockKey()) {
			locked = append(locked, e)
		} else {
			busy = append(busy, e)
		}
	}
	return locked, busy
}

func (b *Broker) startedHolders(locked []*entry) (entries []*entry, holders []lease.Holder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range locked {
		if e.state == Active {
			entries = append(entries, e)
			holders = append(holders, holderOf(e, memo{phase: phaseActive, entry: e}))
		}
	}
	return entries, holders
}

// extend extends leases and gives the sessions that have lost theirs, and what ends them: a later session of the owner, or a failure.
func (b *Broker) extend(ctx context.Context, s *settings, entries []*entry, holders []lease.Holder) (map[*entry]aaa.Cause, error) {
	if len(holders) == 0 {
		return nil, nil
	}
	ctx, cancel := detach(ctx)
	defer cancel()
	end := uint32(b.clock().Add(s.LeaseTTL).Unix())
	missed, err := b.store.Extend(ctx, s.LeaseTTL, holders...)
	if err != nil {
		err = fmt.Errorf("extend %d leases: %w", len(holders), err)
	}
	gone, lost := make(map[string]lease.Lost, len(missed)), make(map[*entry]aaa.Cause, len(missed))
	for _, l := range missed {
		gone[l.Session] = l
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range entries {
		switch l, ok := gone[holders[i].Session]; {
		case ok && l.Preempted:
			lost[e] = aaa.CausePortPreempted
		case ok:
			lost[e] = aaa.CauseNASError
		case err == nil:
			e.leaseEnd = end
		}
	}
	return lost, err
}

// endLost ends sessions that have lost their leases, each by what it lost it to.
func (b *Broker) endLost(ctx context.Context, lost map[*entry]aaa.Cause) error {
	return b.each(ctx, slices.Collect(maps.Keys(lost)), b.endOf(lost))
}

func (b *Broker) endOf(causes map[*entry]aaa.Cause) func(context.Context, *entry) error {
	return func(ctx context.Context, e *entry) error { return b.endLocked(ctx, e, causes[e]) }
}
