// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"ddtb/aaa"
)

// Few subscribers at few outer addresses, so that everything gets in each other's way: logins that replace and displace,
// ends by the operator and by silence, lists, sweeps. In the end every session is billed once and nothing is left over.
func TestStorm(t *testing.T) {
	config := testConfig()
	config.Sessions, config.Interim = Sessions{Limit: 2}, time.Minute
	w := newWorld(t, config)
	books := &ledger{sessions: make(map[string]map[aaa.Status]aaa.Record)}
	w.accountant = books
	w.restart()
	var workers, others sync.WaitGroup
	for n := range 8 {
		workers.Go(func() { w.storm(rand.New(rand.NewPCG(uint64(n), 7)), 150) })
	}
	done := make(chan struct{})
	until := func(do func()) {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					do()
				}
			}
		})
	}
	until(func() { w.sweepAfter(time.Second) })
	until(func() { _ = w.markStarted(w.Context()) })
	until(func() { w.count(Filter{User: "user1"}) })
	workers.Wait()
	close(done)
	others.Wait()
	(&life{world: w, ledger: books, sent: make(map[string]uint64)}).settle()
	if len(books.sessions) < 100 {
		t.Errorf("only %d sessions came through", len(books.sessions))
	}
}

// storm does so many random things.
func (w *world) storm(random *rand.Rand, times int) {
	ctx := w.Context()
	for range times {
		r := request(fmt.Sprint("user", random.IntN(6)), client(1+random.IntN(6), uint16(1+random.IntN(2))))
		switch random.IntN(6) {
		case 0:
			r = anonymous(r.Client)
		case 1:
			r = v6v4(r)
		case 2:
			r.Subscriber.Pool = "gold"
		}
		s, err := w.Offer(ctx, r)
		if err != nil {
			continue
		}
		if random.IntN(4) == 0 {
			_ = w.Reject(ctx, s.ID)
			continue
		}
		if w.Activate(ctx, s.ID) == nil && random.IntN(2) == 0 {
			_ = w.Release(ctx, s.ID, aaa.CauseUserRequest)
		}
	}
}
