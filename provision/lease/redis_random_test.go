// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"ddtb/provision/redis/redistest"
)

// TestRedisRandom does things at random to three servers and their Redis: logins, logouts, daemons that die, answers that
// are lost, servers cut off, failovers that lose writes, dumps restored, everything lost, clocks that jump. Nobody ever
// has what somebody else has. DDTB_STEPS sets how many steps are taken, DDTB_SEED where chance begins.
func TestRedisRandom(t *testing.T) {
	steps, seed := 2000, uint64(1)
	if s, err := strconv.Atoi(os.Getenv("DDTB_STEPS")); err == nil {
		steps = s
	}
	if s, err := strconv.ParseUint(os.Getenv("DDTB_SEED"), 10, 64); err == nil {
		seed = s
	}
	server := redistest.Start(t, "--enable-debug-command", "yes")
	for round := uint64(0); steps > 0; round, steps = round+1, steps-1000 {
		t.Run(fmt.Sprint(seed+round), func(t *testing.T) {
			w := newWorld(t, server, seed+round)
			for w.step = range min(steps, 1000) {
				w.act()
				w.check()
			}
		})
	}
}

// act takes one step.
func (w *world) act() {
	n := w.nodes[w.IntN(len(w.nodes))]
	switch chance := w.IntN(1000); {
	case chance < 450:
		w.login(n)
	case chance < 650:
		n.logout()
	case chance < 850:
		w.pass(time.Duration(w.IntN(15)) * time.Second)
	case chance < 900:
		w.pass(time.Duration(w.IntN(600)) * time.Second)
	case chance < 910:
		w.pass(time.Duration(w.IntN(5000)) * time.Second)
	case chance < 930:
		n.faults.away = !n.faults.away
		w.note("%s away: %v", n.name, n.faults.away)
	case chance < 950:
		if !n.faults.away {
			w.note("%s dies", n.name)
			n.start()
		}
	case chance < 970:
		w.save()
	case chance < 985:
		w.note("failover")
		w.failover()
	case chance < 990:
		if w.whole() {
			w.note("all is lost")
			w.must(w.admin.FlushAll(w.Context()).Err())
			w.pass(2 * worldGrace) // who is cut off now, and serves something, is not covered
			w.save()
		}
	case chance < 995:
		jump := time.Duration(w.Int64N(int64(50*time.Hour))) - 2*time.Hour
		w.skew += jump
		w.note("Redis's clock jumps by %v", jump)
	default:
		w.reserve(n)
	}
}

// login is of a subscriber, or of a guest who does not come back; some have a static prefix, some want an index.
func (w *world) login(n *worldNode) {
	pool := []string{"home", "office"}[w.IntN(2)]
	owner := fmt.Sprint("owner", w.IntN(worldOwners))
	if w.IntN(4) == 0 {
		owner = fmt.Sprint("guest", w.Int64())
	}
	req := n.request(pool, owner)
	if w.IntN(8) == 0 {
		req.Foreign = netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:f000:%x::", w.IntN(8)<<8)), 56-w.IntN(3)).Masked()
	}
	if !w.whole() || w.IntN(10) != 0 {
		_ = n.login(req)
		return
	}
	req.Index = uint32(1 + w.IntN(officeSize-1))
	_ = n.login(req)
	w.save() // a failover that loses this is not covered; an answer that is lost may tell of success
}

// reserve keeps an index for somebody, or no longer: what an operator does again after a failover that lost it.
func (w *world) reserve(n *worldNode) {
	if w.whole() {
		_ = n.store.Reserve(w.Context(), "office", uint32(1+w.IntN(officeSize-1)), fmt.Sprint("owner", w.IntN(worldOwners)), w.IntN(2) == 0)
		w.save()
	}
}

// whole tells whether all servers are there.
func (w *world) whole() bool {
	for _, n := range w.nodes {
		if n.faults.away || !n.read {
			return false
		}
	}
	return true
}

// logout ends one of the node's tunnels: first the tunnel, then the lease.
func (n *worldNode) logout() {
	all := n.seats()
	if len(all) == 0 {
		return
	}
	k := all[n.w.IntN(len(all))]
	delete(n.tunnels, k)
	err := n.store.Release(n.w.Context(), k.holder())
	n.w.note("%s: release %s %d: %v", n.name, k.pool, k.index, err)
}
