// SPDX-License-Identifier: GPL-2.0-or-later

package route

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// Memory is a Table that nothing is forwarded by: for tests.
type Memory struct {
	mu     sync.Mutex
	routes map[netip.Prefix]bool
}

var _ Table = (*Memory)(nil)

// List implements Table.
func (m *Memory) List() ([]netip.Prefix, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.routes)), nil
}

// Add implements Table.
func (m *Memory) Add(prefix netip.Prefix) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.routes == nil {
		m.routes = make(map[netip.Prefix]bool)
	}
	m.routes[prefix] = true
	return nil
}

// Delete implements Table.
func (m *Memory) Delete(prefix netip.Prefix) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.routes, prefix)
	return nil
}
