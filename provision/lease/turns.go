// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// turns lets one at a time say what an owner has. What watch and Extend repeat of a lease is what they have just read of it: without
// turns it could reach Redis behind an Acquire of the same session that claimed another foreign prefix, and take that claim away; or
// behind a Release, and keep others from the prefix for a moment.
type turns struct {
	mu   sync.Mutex
	of   map[string]*turn // of owners who have one, or wait for it
	idle func()           // what the model of the tests does while another operation has the turn; nil otherwise
}

type turn struct {
	taken chan struct{} // holds an element while somebody has it
	users int           // who has it, and those who wait
}

func newTurns() *turns { return &turns{of: make(map[string]*turn)} }

// take waits for the turns of owners; give ends them. The error, ErrUnavailable, is for a ctx that was over before.
func (t *turns) take(ctx context.Context, owners ...string) (give func(), err error) {
	owners = slices.Compact(slices.Sorted(slices.Values(owners))) // so that no two wait for each other
	had := 0
	give = func() {
		for _, owner := range owners[:had] {
			<-t.leave(owner)
		}
	}
	for _, owner := range owners {
		taken := t.join(owner)
		for t.idle != nil && len(taken) > 0 {
			t.idle()
		}
		select {
		case taken <- struct{}{}:
			had++
		case <-ctx.Done():
			t.leave(owner)
			give()
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
	return give, nil
}

func (t *turns) join(owner string) (taken chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[owner] == nil {
		t.of[owner] = &turn{taken: make(chan struct{}, 1)}
	}
	t.of[owner].users++
	return t.of[owner].taken
}

func (t *turns) leave(owner string) (taken chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn := t.of[owner]
	if turn.users--; turn.users == 0 {
		delete(t.of, owner)
	}
	return turn.taken
}
