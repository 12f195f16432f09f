// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"fmt"
	"time"
)

// Memory is a Store that lives and dies with the process: the twin of Embedded and of Redis for tests. It holds to the whole
// contract of Store except that nothing is durable.
type Memory struct {
	operations
}

// NewMemory returns a Store of valid pools without leases.
func NewMemory(pools []Pool, opts Options) (*Memory, error) {
	if err := Validate(pools); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	t := newTable(pools, opts)
	t.shared = true
	m := &Memory{operations{clock: opts.Clock, table: t}}
	m.do = func(ctx context.Context, _ bool, op func(*table, time.Time) error) error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		return op(m.table, m.clock())
	}
	return m, nil
}
