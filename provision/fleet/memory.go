// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
)

// Memory is a Board for servers within one process: for tests.
type Memory struct {
	clock func() time.Time

	mu        sync.Mutex
	nodes     map[string]announced
	sessions  map[string]posted
	claims    map[string]claimed
	followers map[*follower]struct{}
}

// announced is a server, and until when it counts as alive.
type announced struct {
	Node
	until time.Time
}

// posted is a session, and until when it stands on the board.
type posted struct {
	Session
	until time.Time
}

// claimed is who ends what a server has left, and for how long.
type claimed struct {
	by    string
	until time.Time
}

// follower is one call of Follow. What comes waits in queue.
type follower struct {
	node  string
	more  chan struct{} // one slot
	queue []func(Follower)
}

// NewMemory makes an empty board. clock is time.Now unless given.
func NewMemory(clock func() time.Time) *Memory {
	if clock == nil {
		clock = time.Now
	}
	return &Memory{clock: clock, nodes: make(map[string]announced), sessions: make(map[string]posted),
		claims: make(map[string]claimed), followers: make(map[*follower]struct{})}
}

var _ Board = (*Memory)(nil)

// Announce implements Board.
func (m *Memory) Announce(_ context.Context, node Node, alive time.Duration) (known bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node.Seen = m.clock()
	before, known := m.nodes[node.Name]
	m.nodes[node.Name] = announced{node, node.Seen.Add(alive)}
	return known && before.until.After(node.Seen), nil
}

// Write implements Board.
func (m *Memory) Write(_ context.Context, node string, batch Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, event := range batch.Events {
		event.Node = node
		m.tell("", func(f Follower) { f.Event(event) })
	}
	for _, s := range batch.Put {
		s.Node = node
		m.sessions[s.ID] = posted{s, m.clock().Add(batch.Keep)}
	}
	for _, id := range batch.Drop {
		delete(m.sessions, id)
	}
	return nil
}

// tell queues something for the followers of a server, or for all. mu is held.
func (m *Memory) tell(node string, what func(Follower)) {
	for f := range m.followers {
		if node != "" && node != f.node {
			continue
		}
		f.queue = append(f.queue, what)
		select {
		case f.more <- struct{}{}:
		default:
		}
	}
}

// Claim implements Board.
func (m *Memory) Claim(_ context.Context, node, by string, keep time.Duration) (holder string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	if c := m.claims[node]; c.by != by && c.until.After(now) {
		return c.by, nil
	}
	m.claims[node] = claimed{by, now.Add(keep)}
	return by, nil
}

// Prune implements Board.
func (m *Memory) Prune(_ context.Context, node string, keep func(string) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.sessions, func(id string, s posted) bool { return s.Node == node && !keep(id) })
	return nil
}

// Nodes implements Reader.
func (m *Memory) Nodes(context.Context) ([]Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Node
	for _, n := range m.nodes {
		if m.clock().After(n.until) {
			n.State = Gone
		}
		if m.clock().Sub(n.Seen) < remembered {
			out = append(out, n.Node)
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// Sessions implements Reader.
func (m *Memory) Sessions(_ context.Context, node string) iter.Seq2[Session, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Session
	for _, s := range m.sessions {
		if s.Node == node && !m.clock().After(s.until) {
			out = append(out, s.Session)
		}
	}
	return func(yield func(Session, error) bool) {
		for _, s := range out {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// Session implements Reader.
func (m *Memory) Session(_ context.Context, id string) (Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[id]
	if !ok || m.clock().After(s.until) {
		return Session{}, fmt.Errorf("session %q: %w", id, ErrNotFound)
	}
	return s.Session, nil
}

// Ask implements Reader.
func (m *Memory) Ask(_ context.Context, node string, command Command) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell(node, func(f Follower) { f.Command(command) })
	return nil
}

// Follow implements Reader.
func (m *Memory) Follow(ctx context.Context, node string, told Follower) error {
	f := &follower{node: node, more: make(chan struct{}, 1)}
	m.mu.Lock()
	m.followers[f] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.followers, f)
		m.mu.Unlock()
	}()
	told.Ready()
	for {
		select {
		case <-f.more:
		case <-ctx.Done():
			return nil
		}
		m.mu.Lock()
		queue := f.queue
		f.queue = nil
		m.mu.Unlock()
		for _, what := range queue {
			what(told)
		}
	}
}
