// SPDX-License-Identifier: GPL-2.0-or-later

package leasetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"ddtb/provision/lease"
)

// Many sessions of one owner at once: one index, and one of them holds it.
func testConcurrentOwner(t *testing.T, open Open) {
	s := start(t, open, 100)
	const sessions = 64
	var got [sessions]lease.Lease
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Go(func() {
			l, err := s.Store.Acquire(t.Context(), ask("alice", session(fmt.Sprint("session", i))))
			if err != nil {
				t.Error(err)
			}
			got[i] = l
		})
	}
	wg.Wait()
	all := s.all()
	if len(all) != 1 || all[0].State != lease.Active {
		t.Fatalf("%d leases: %+v", len(all), all)
	}
	holding := 0
	for i, l := range got {
		if l.Index != all[0].Index || l.Session != fmt.Sprint("session", i) {
			t.Errorf("session %d got %+v", i, l)
		}
		if s.extend(TTL, l) == nil {
			holding++
		}
	}
	if holding != 1 {
		t.Errorf("%d sessions hold the lease", holding)
	}
}

// More owners than indices, all at once and again and again: never two on one index, and never fewer than fit.
func testConcurrentOwners(t *testing.T, open Open) {
	const size, owners, rounds = 101, 150, 20
	s := start(t, open, size)
	var mu sync.Mutex
	holders := make(map[uint32]string)
	full := 0
	var wg sync.WaitGroup
	for o := range owners {
		wg.Go(func() {
			owner := fmt.Sprint("owner", o)
			for range rounds {
				l, err := s.Store.Acquire(t.Context(), ask(owner))
				if errors.Is(err, lease.ErrFull) {
					mu.Lock()
					full++
					mu.Unlock()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if had, ok := holders[l.Index]; ok && had != owner {
					t.Errorf("index %d is %s's and %s's", l.Index, had, owner)
				}
				holders[l.Index] = owner
				mu.Unlock()
				// Released, it stays his throughout: the clock stands, so no quarantine ends.
				if err := s.Store.Release(t.Context(), holder(l)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(holders) != size-1 || full != (owners-size+1)*rounds {
		t.Errorf("%d indices were leased and %d requests refused, want %d and %d", len(holders), full, size-1, (owners-size+1)*rounds)
	}
	if all := s.all(); len(all) != size-1 {
		t.Errorf("%d leases, want %d", len(all), size-1)
	}
}

// Many owners want overlapping prefixes: whoever has one has it alone, and what nobody has can be had.
func testConcurrentForeign(t *testing.T, open Open) {
	s := start(t, open, 200)
	prefixes := []string{"2001:db8:f000::/48", "2001:db8:f000:8000::/49", "2001:db8:f000:ff00::/56", "2001:db8:f000:1::/64"}
	var wg sync.WaitGroup
	for o := range 64 {
		wg.Go(func() {
			for round := range 10 {
				l, err := s.Store.Acquire(t.Context(), ask(fmt.Sprint("owner", o), foreign(prefixes[(o+round)%len(prefixes)])))
				if errors.Is(err, lease.ErrTaken) {
					continue
				}
				if err == nil && o%3 != 0 {
					err = s.Store.Release(t.Context(), holder(l))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var held []lease.Lease
	for _, l := range s.all() {
		if !l.Foreign {
			continue
		}
		for _, o := range held {
			if o.Prefix.Overlaps(l.Prefix) {
				t.Errorf("%s holds %v and %s holds %v", o.Owner, o.Prefix, l.Owner, l.Prefix)
			}
		}
		held = append(held, l)
	}
	_, err := s.Store.Acquire(t.Context(), ask("late", foreign(prefixes[0])))
	switch {
	case len(held) == 0 && err != nil:
		t.Errorf("nobody has a prefix, and %s cannot be had: %v", prefixes[0], err)
	case len(held) > 0 && !errors.Is(err, lease.ErrTaken):
		t.Errorf("%s, of which %v is %s's, can be had: %v", prefixes[0], held[0].Prefix, held[0].Owner, err)
	}
}
