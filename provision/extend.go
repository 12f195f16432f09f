// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
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
		if err = errors.Join(err, b.endLost(ctx, lost, err)); err != nil {
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
		errs = append(errs, err, b.endLost(ctx, lost, err))
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

// extend extends leases and gives the sessions whose lease is somebody else's by now.
func (b *Broker) extend(ctx context.Context, s *settings, entries []*entry, holders []lease.Holder) ([]*entry, error) {
	if len(holders) == 0 {
		return nil, nil
	}
	ctx, cancel := detach(ctx)
	defer cancel()
	end := uint32(b.clock().Add(s.LeaseTTL).Unix())
	lost, err := b.store.Extend(ctx, s.LeaseTTL, holders...)
	if err != nil {
		err = fmt.Errorf("extend %d leases: %w", len(holders), err)
	}
	gone := make(map[string]bool, len(lost))
	for _, h := range lost {
		gone[h.Session] = true
	}
	var over []*entry
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range entries {
		if gone[holders[i].Session] {
			over = append(over, e)
		} else if err == nil {
			e.leaseEnd = end
		}
	}
	return over, err
}

// endLost ends sessions that lost their lease to a login at another server or, if the store is away, to time.
func (b *Broker) endLost(ctx context.Context, entries []*entry, away error) error {
	cause := aaa.CausePortPreempted
	if errors.Is(away, lease.ErrUnavailable) {
		cause = aaa.CauseNASError
	}
	return b.each(ctx, entries, b.endBy(cause))
}
