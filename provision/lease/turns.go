// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
)

// turns lets one at a time say what an owner has. What watch and Extend repeat of a lease is what they have just read of it: without
// turns it could reach Redis behind an Acquire of the same session that claimed another foreign prefix, and take that claim away.
type turns struct {
	seed  maphash.Seed
	lanes [512]chan struct{} // owners share them by chance; an element is a turn
	idle  func()             // what a test does while somebody else has the turn; nil: nothing
}

func newTurns() *turns {
	t := &turns{seed: maphash.MakeSeed()}
	for i := range t.lanes {
		t.lanes[i] = make(chan struct{}, 1)
	}
	return t
}

// take waits for the turns of owners; give ends them. The error, ErrUnavailable, is for a ctx that was over before.
func (t *turns) take(ctx context.Context, owners ...string) (give func(), err error) {
	var lanes []int
	for _, owner := range owners {
		lanes = append(lanes, int(maphash.String(t.seed, owner)%uint64(len(t.lanes))))
	}
	slices.Sort(lanes) // so that no two wait for each other
	lanes = slices.Compact(lanes)
	had := 0
	give = func() {
		for _, lane := range lanes[:had] {
			<-t.lanes[lane]
		}
	}
	for _, lane := range lanes {
		for t.idle != nil && len(t.lanes[lane]) > 0 {
			t.idle()
		}
		select {
		case t.lanes[lane] <- struct{}{}:
			had++
		case <-ctx.Done():
			give()
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
	return give, nil
}
