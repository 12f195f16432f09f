// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import "sync"

// provenSources is how many sources are remembered at least.
const provenSources = 1 << 16

// proven remembers the sources from which a login succeeded. Over UDP a name and a wrong password, or an anonymous login, can come from
// any number of forged addresses, and what is busy with those must not keep these waiting.
type proven struct {
	mu       sync.Mutex
	new, old map[source]struct{} // when new is full it becomes old
}

func newProven() *proven { return &proven{new: map[source]struct{}{}} }

func (p *proven) add(src source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.new) >= provenSources {
		p.new, p.old = map[source]struct{}{}, p.new
	}
	p.new[src] = struct{}{}
}

func (p *proven) has(src source) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, isNew := p.new[src]
	_, isOld := p.old[src]
	return isNew || isOld
}
