// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
)

// A step of Extend or Release takes so many holders, and so many octets of what it changes, and no more.
const (
	stepHolders = 4096
	stepOctets  = 128 << 10
)

// operations are the methods Memory and Embedded have in common: what they do to a table.
type operations struct {
	// do runs op alone on the table and returns its error once the effect is as safe as the Store
	// makes it, or at once if it is tentative. It may return another error before op has run, or while it runs.
	do func(ctx context.Context, tentative bool, op func(t *table, now time.Time) error) error

	clock func() time.Time
	mu    sync.Mutex // guards table
	table *table
}

// Acquire implements Store.
func (o *operations) Acquire(ctx context.Context, req Request) (Lease, error) {
	req.Data = bytes.Clone(req.Data) // op may outlive this call
	var lease Lease
	err := o.do(ctx, req.Tentative, func(t *table, now time.Time) (err error) {
		lease, err = t.acquire(now, req)
		return err
	})
	if err != nil && !errors.Is(err, ErrHeld) {
		return Lease{}, err
	}
	return lease, err
}

// Extend implements Store.
func (o *operations) Extend(ctx context.Context, ttl time.Duration, holders ...Holder) ([]Lost, error) {
	if err := checkExtend(ttl, holders); err != nil {
		return nil, err
	}
	var lost []Lost
	for some := range steps(holders) {
		var missed []Lost
		err := o.do(ctx, false, func(t *table, now time.Time) error {
			missed = t.extend(now, ttl, some)
			return nil
		})
		if err != nil {
			return nil, err
		}
		lost = append(lost, missed...)
	}
	return lost, nil
}

// checkExtend refuses what can never be fulfilled.
func checkExtend(ttl time.Duration, holders []Holder) error {
	if ttl <= 0 {
		return fmt.Errorf("time to live %v: %w", ttl, ErrInvalid)
	}
	for _, h := range holders {
		if len(h.Data) > MaxData {
			return fmt.Errorf("pool %q index %d: %d octets of data, at most %d expected: %w", h.Pool, h.Index, len(h.Data), MaxData, ErrInvalid)
		}
	}
	return nil
}

// Release implements Store.
func (o *operations) Release(ctx context.Context, holders ...Holder) error {
	for some := range steps(holders) {
		err := o.do(ctx, false, func(t *table, now time.Time) error {
			t.release(now, some)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// steps yields holders in runs that one record of the journal has room for, copied, since an operation may outlive the
// call it came from.
func steps(holders []Holder) iter.Seq[[]Holder] {
	return func(yield func([]Holder) bool) {
		var run []Holder
		size := 0
		for _, h := range holders {
			if h.Data != nil {
				h.Data = bytes.Clone(h.Data)
				size += len(h.Data) + MaxOwner + MaxSession + MaxNode
			}
			run = append(run, h)
			if len(run) < stepHolders && size < stepOctets {
				continue
			}
			if !yield(run) {
				return
			}
			run, size = nil, 0
		}
		if len(run) > 0 {
			yield(run)
		}
	}
}

// Reserve implements Store.
func (o *operations) Reserve(ctx context.Context, pool string, index uint32, owner string, on bool) error {
	return o.do(ctx, false, func(t *table, now time.Time) error { return t.reserve(now, pool, index, owner, on) })
}

// All implements Store. It reads page by page, and holds nobody up for longer than one takes.
func (o *operations) All(ctx context.Context) iter.Seq2[Lease, error] {
	return func(yield func(Lease, error) bool) {
		var leases []Lease
		for _, p := range o.table.pools {
			for page := 0; ; page++ {
				if err := ctx.Err(); err != nil {
					yield(Lease{}, fmt.Errorf("%w: %w", ErrUnavailable, err))
					return
				}
				o.mu.Lock()
				end := page >= len(p.pages)
				leases = o.table.leases(p, page, o.clock(), leases[:0])
				o.mu.Unlock()
				if end {
					leases = o.displaced(p)
				}
				for _, l := range leases {
					if !yield(l, nil) {
						return
					}
				}
				if end {
					break
				}
			}
		}
	}
}

// displaced is what sessions of a pool have left that lost their leases.
func (o *operations) displaced(p *poolTable) []Lease {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Values(p.owed))
}

// Usage implements UsageReporter.
func (o *operations) Usage() []Usage {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.table.usage()
}
