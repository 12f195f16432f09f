// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ddtb/provision/lease"
)

// acquitting is a lease store that is told which sessions have their Stop record although they lost their leases, and
// releases what they may have left there. A session's lease can tell that the Stop record of the one before is given from
// there (memo.prev), and stops telling so with the next write; what that one left must be gone by then, or the next process
// would give another Stop record. So the release goes before every write that comes after it.
type acquitting struct {
	lease.Store

	mu    sync.Mutex // held while the store is waited for: no write overtakes
	paid  []lease.Holder
	err   error     // of the last flush
	until time.Time // before this it is not tried again: a store that is away is not waited for by everybody in turn
}

// flushAgain is how long after a failure the next flush may begin.
const flushAgain = time.Second

// acquit notes such sessions. It may wait for what is being released.
func (a *acquitting) acquit(holders ...lease.Holder) {
	a.mu.Lock()
	a.paid = append(a.paid, holders...)
	a.mu.Unlock()
}

// flush releases what was noted.
func (a *acquitting) flush(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case len(a.paid) == 0:
		return nil
	case time.Now().Before(a.until):
		return a.err
	}
	ctx, cancel := detach(ctx)
	defer cancel()
	if err := a.Store.Release(ctx, a.paid...); err != nil {
		a.err, a.until = fmt.Errorf("release what %d sessions left: %w", len(a.paid), err), time.Now().Add(flushAgain)
		return a.err
	}
	a.paid = nil
	return nil
}

// Acquire implements lease.Store. While the store is away it may serve owners it knows all the same; no process finds that
// after a restart, so nothing is lost then.
func (a *acquitting) Acquire(ctx context.Context, request lease.Request) (lease.Lease, error) {
	if err := a.flush(ctx); err != nil && !errors.Is(err, lease.ErrUnavailable) {
		return lease.Lease{}, err
	}
	return a.Store.Acquire(ctx, request)
}

// Extend implements lease.Store.
func (a *acquitting) Extend(ctx context.Context, ttl time.Duration, holders ...lease.Holder) ([]lease.Lost, error) {
	err := a.flush(ctx)
	if err != nil {
		holders = slices.Clone(holders)
		for i := range holders {
			holders[i].Data = nil // that would be the write
		}
	}
	lost, failed := a.Store.Extend(ctx, ttl, holders...)
	return lost, errors.Join(err, failed)
}

// Release implements lease.Store.
func (a *acquitting) Release(ctx context.Context, holders ...lease.Holder) error {
	if err := a.flush(ctx); err != nil {
		return err
	}
	return a.Store.Release(ctx, holders...)
}
