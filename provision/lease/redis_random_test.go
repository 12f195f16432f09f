// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ddtb/provision/redis/redistest"
)

// worldRound is how many steps a world has; then a new one begins, with the next seed.
const worldRound = 1000

// TestRedisRandom does things at random to three servers and their Redis: logins, logouts, daemons that die, answers that
// are lost, commands that arrive late, servers cut off, a Redis that is full, failovers that lose writes, dumps restored,
// everything lost, clocks that jump. Nobody ever has what somebody else has, and nobody loses anything for no reason.
// DDTB_STEPS sets how many steps are taken (millions are a matter of an hour), DDTB_SEED where chance begins.
func TestRedisRandom(t *testing.T) {
	steps, seed := 10_000, uint64(1)
	if s, err := strconv.Atoi(os.Getenv("DDTB_STEPS")); err == nil {
		steps = s
	}
	if s, err := strconv.ParseUint(os.Getenv("DDTB_SEED"), 10, 64); err == nil {
		seed = s
	}
	var next atomic.Uint64
	rounds := uint64((steps + worldRound - 1) / worldRound)
	var mu sync.Mutex
	var did worldCounts
	t.Run("lanes", func(t *testing.T) {
		for lane := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				socket := filepath.Join(t.TempDir(), "s")
				server := redistest.Start(t, "--enable-debug-command", "yes", "--unixsocket", socket)
				options := server.Options()
				options.Addresses = []string{socket}
				options.Timeout = time.Minute // a busy host is no fault: what comes late by itself is not told to the world
				for round := next.Add(1) - 1; round < rounds && !t.Failed(); round = next.Add(1) - 1 {
					t.Run(fmt.Sprint(seed+round), func(t *testing.T) {
						w := newWorld(t, server, options, seed+round)
						w.walk(min(worldRound, steps-int(round)*worldRound))
						mu.Lock()
						defer mu.Unlock()
						did.add(w.did)
					})
				}
			})
		}
	})
	t.Logf("%+v", did)
}

// walk takes so many steps.
func (w *world) walk(steps int) {
	for w.step = range steps {
		if len(w.ops) > 0 && w.IntN(2) == 0 {
			w.proceed(w.IntN(len(w.ops)))
		} else {
			w.act()
		}
		w.check()
	}
	w.drain()
	w.check()
	w.heal()
	w.did.steps = steps
}

// heal ends all faults. From some time on nobody loses anything, and who asks gets a lease as long as there is an index.
func (w *world) heal() {
	w.note("all faults end")
	w.calm, w.late = true, nil
	w.fill(false)
	for _, n := range w.nodes {
		n.faults.away = false
	}
	w.pass(worldTTL + worldQuarantine + 4*worldGrace)
	before := make(map[*worldNode][]seat)
	for _, n := range w.nodes {
		before[n] = n.seats()
	}
	w.pass(2 * worldTTL)
	for _, n := range w.nodes {
		if after := n.seats(); !slices.Equal(before[n], after) {
			w.fail("%s serves %v, and long after the last fault only %v", n.name, before[n], after)
		}
		if err := n.store.look(w.Context()); err != nil {
			w.fail("%s looks, long after the last fault: %v", n.name, err)
		}
		_, err := n.store.Acquire(w.Context(), n.request("home", "late "+n.name))
		w.must(err)
	}
	w.crowd()
}

// crowd has somebody ask for each index of the small pool that is not taken: it has one for each of them, and for nobody else.
func (w *world) crowd() {
	if w.now.Add(w.skew).Before(w.behind) {
		return // what was released before the clock was set back rests on
	}
	n, left, ended := w.nodes[0], officeSize-1, 0
	for l, err := range n.store.All(w.Context()) {
		w.must(err)
		if l.Pool == "office" && (l.State == Active || l.State == Reserved) {
			left--
		}
		if l.Pool == "office" && l.State == Active && l.Expires.Add(worldQuarantine).Before(w.now.Add(w.skew)) {
			ended++ // of nobody any more, unless it is reserved
		}
	}
	for i := range left + ended + 1 {
		l, err := n.store.Acquire(w.Context(), n.request("office", fmt.Sprint("late ", i)))
		if err != nil && (i < left || !errors.Is(err, ErrFull)) || err == nil && i == left+ended {
			w.fail("%d indices are left and %d have ended, and the next one to ask gets %d, %v", left, ended, l.Index, err)
		}
	}
}

// act begins something.
func (w *world) act() {
	n := w.nodes[w.IntN(len(w.nodes))]
	switch chance := w.IntN(1000); {
	case chance < 450:
		w.login(n)
	case chance < 650:
		n.logout()
	case chance < 800:
		w.pass(time.Duration(w.IntN(3000)) * time.Millisecond)
	case chance < 850:
		w.pass(time.Duration(3+w.IntN(12)) * time.Second)
	case chance < 900:
		w.pass(time.Duration(w.IntN(600)) * time.Second)
	case chance < 910:
		w.pass(time.Duration(w.IntN(5000)) * time.Second)
	default:
		w.harm(n, chance)
	}
}

// harm is what goes wrong.
func (w *world) harm(n *worldNode, chance int) {
	switch {
	case chance < 925:
		if n.read { // a daemon that has not read its leases knows of none that it would have to give up
			w.did.cuts++
			n.faults.away = !n.faults.away
			w.note("%s away: %v", n.name, n.faults.away)
		}
	case chance < 935:
		w.arrive()
	case chance < 940:
		if w.full || !slices.ContainsFunc(w.nodes, func(n *worldNode) bool { return !n.read }) {
			w.fill(!w.full)
			w.note("full: %v", w.full)
		}
	case chance < 955:
		if n.read || !n.faults.away && !w.full { // one that has read no leases has noted none
			n.restart()
		}
	case chance < 970:
		w.save()
	case chance < 982:
		if !w.full && (!w.restored || w.remembered()) {
			w.note("failover")
			w.failover()
			w.settle()
			if w.IntN(2) == 0 { // else the same once more, later
				w.save()
			}
		}
	case chance < 985:
		if !w.full && w.remembered() {
			w.note("all is lost")
			w.loseAll()
			w.settle()
			if w.IntN(2) == 0 {
				w.save()
			}
		}
	case chance < 990:
		w.jump()
	default:
		w.reserve(n)
	}
}

// jump sets Redis's clock, by so much that it is noticed, or by so little that it does not matter.
func (w *world) jump() {
	jump := time.Duration(w.Int64N(int64(50*time.Hour))) - 2*time.Hour
	if jump.Abs() < worldJump {
		jump /= 20
	}
	w.did.jumps++
	w.event()
	if at := w.now.Add(w.skew); jump < 0 && at.After(w.behind) {
		w.behind = at
	}
	w.skew += jump
	w.note("Redis's clock jumps by %v", jump)
}

// settle has every node look.
func (w *world) settle() {
	w.drain()
	for _, n := range w.nodes {
		n.beginLook()
	}
	w.drain()
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
		req.Owner = fmt.Sprint("static", w.IntN(worldOwners/4))
		req.Foreign = netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:f000:%x::", w.IntN(8)<<8)), 56-w.IntN(3)).Masked()
	}
	if w.IntN(20) == 0 {
		req.Index = uint32(1 + w.IntN(officeSize-1))
	}
	if w.IntN(10) == 0 {
		req.Yield = true
		if all := n.seats(); len(all) > 0 && w.IntN(2) == 0 { // one that is his, now and then
			req.Over = all[w.IntN(len(all))].session
		}
	}
	n.login(req)
}

// reserve keeps an index for somebody, often who has it just now, or no longer for who it was kept for.
func (w *world) reserve(n *worldNode) {
	index, owner, on := uint32(1+w.IntN(officeSize-1)), fmt.Sprint("owner", w.IntN(worldOwners)), w.IntN(3) != 0
	if all := n.seats(); on && len(all) > 0 && w.IntN(2) == 0 {
		if k := all[w.IntN(len(all))]; k.pool == "office" {
			index, owner = k.index, n.tunnels[k].owner
		}
	}
	if kept := slices.Sorted(maps.Keys(w.kept)); !on && len(kept) > 0 {
		index = kept[w.IntN(len(kept))]
		owner = w.kept[index]
	}
	n.begin("", func(*op) {
		err := n.store.Reserve(w.Context(), "office", index, owner, on)
		w.note("%s: reserve %d for %s, %v: %v", n.name, index, owner, on, err)
		switch {
		case err != nil:
		case on:
			w.kept[index] = owner
		default:
			delete(w.kept, index)
		}
	})
}

// remembered tells whether somebody who can reach Redis remembers all servers that may be serving something, and what they
// may serve. If nobody does, and Redis has forgotten them, there is nobody who could know.
func (w *world) remembered() bool {
	known := make(map[string]bool)
	for _, n := range w.nodes {
		if n.faults.away {
			continue
		}
		for _, p := range append(slices.Clone(n.store.pools), n.store.foreign) {
			last, _ := w.admin.HGet(w.Context(), p.key, "top").Int()
			if len(p.nodes) == len(w.nodes) && int(p.last) >= last {
				known[p.Name] = true
			}
		}
	}
	return known["home"] && known["office"] && known["+foreign"]
}
