// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// What is counted by epoch agrees at each step with what a look through all leases finds.
func TestServedUnconfirmed(t *testing.T) {
	s := newServed()
	pools := []*sharedPool{{}, {}}
	epochs := []string{"", "one", "two"}
	random := rand.New(rand.NewPCG(1, 2))
	for step := range 20_000 {
		p, index, epoch := pools[random.IntN(2)], uint32(1+random.IntN(8)), epochs[random.IntN(3)]
		session := fmt.Sprint("s", random.IntN(3))
		switch random.IntN(3) {
		case 0:
			s.put(p, index, tenure{owner: fmt.Sprint("owner", random.IntN(8)), session: session, epoch: epoch})
		case 1:
			s.change(p, index, session, func(t *tenure) { t.epoch = epoch })
		case 2:
			s.drop(p, index, session)
		}
		for _, p := range pools {
			var want []uint32
			for at, t := range s.leases {
				if at.pool == p && t.epoch != epoch {
					want = append(want, at.index)
				}
			}
			got := s.unconfirmed(p, epoch)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: %v are unconfirmed, want %v", step, got, want)
			}
		}
	}
	for at, n := range s.counts {
		if n <= 0 {
			t.Errorf("%d leases of epoch %q", n, at.epoch)
		}
	}
}
