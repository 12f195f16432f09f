// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ddtb/provision/redis"
)

// worldNode is one server: its daemon, which may die, and its tunnels, which do not.
type worldNode struct {
	w       *world
	name    string
	conn    *redis.Conn
	store   *Redis
	faults  *faults
	copy    string // file of what the daemon notes of what it serves
	tunnels map[seat]tunnel
	serial  int
	read    bool // the daemon has read the leases since it began

	looking, sweeping bool            // an op does
	busy              map[string]bool // pool and owner that an op is about
}

// seat is a Holder without data.
type seat struct {
	pool    string
	index   uint32
	session string
}

func (s seat) holder() Holder { return Holder{Pool: s.pool, Index: s.index, Session: s.session} }

type tunnel struct {
	owner   string
	foreign netip.Prefix
	end     time.Time
	events  int  // what had happened to Redis, and
	tries   int  // what the owner had tried, when the lease was confirmed
	twin    bool // of a session begun in the same millisecond, which stays if a failover loses this one
}

// start begins a new daemon: it knows nothing but what Redis tells it or, if Redis is away, what the last one has noted. Its
// tunnels are in the kernel.
func (n *worldNode) start() {
	w := n.w
	for _, o := range w.ops {
		if o.node == n {
			o.dead = true
		}
	}
	n.looking, n.sweeping, n.read, n.busy = false, false, false, make(map[string]bool)
	if n.conn == nil {
		var err error
		n.conn, err = redis.Open(w.options)
		w.must(err)
		w.Cleanup(func() { _ = n.conn.Close() })
		n.faults = &faults{w: w}
		n.conn.AddHook(n.faults)
		n.copy = filepath.Join(w.TempDir(), n.name)
	}
	if n.store != nil {
		w.must(n.store.served.copy.close())
	}
	o := RedisOptions{
		Options: Options{Clock: func() time.Time { return w.now }, Quarantine: worldQuarantine},
		Conn:    n.conn, Node: n.name, Grace: worldGrace, Jump: worldJump, TTL: worldTTL,
		Time: func() time.Time { return w.now.Add(w.skew) }, Copy: n.copy,
	}
	for {
		store, err := openRedis(w.Context(), worldPools(), o) // the world looks for it, by its own clock
		if err == nil {
			n.store, store.turns.idle = store, n.faults.idle
			if store.apart {
				w.did.apart++
			}
			return
		}
		if n.faults.away || w.full { // it has nothing to go on with, and waits
			n.faults.away = false
			w.fill(false)
		}
		if !w.faulty(err) {
			w.must(err)
		}
	}
}

// restart is the daemon's death, and a new one.
func (n *worldNode) restart() {
	n.w.did.deaths++
	n.w.note("%s dies", n.name)
	n.start()
}

// recover has the daemon read the leases. Tunnels without one go, as in Broker.Recover.
func (n *worldNode) recover(o *op) {
	held := make(map[seat]bool)
	own, err := n.own()
	if err != nil {
		return
	}
	for _, l := range own {
		if l.State == Active && l.Node == n.name {
			held[seat{l.Pool, l.Index, l.Session}] = true
		}
	}
	if o.dead {
		return
	}
	for k, t := range n.tunnels {
		if !held[k] {
			delete(n.tunnels, k)
			continue
		}
		t.end = n.until(k.pool, k.index)
		n.tunnels[k] = t
	}
	n.read = true
}

// own are the leases that Redis knows or, if it is away, those the daemon goes on with.
func (n *worldNode) own() (all []Lease, err error) {
	for l, err := range n.store.All(n.w.Context()) {
		if kept, ok := n.store.Kept(); ok && err != nil && len(all) == 0 {
			return kept, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func (n *worldNode) request(pool, owner string) Request {
	n.serial++
	return Request{
		Pool: pool, Owner: owner, Session: fmt.Sprintf("%s-%d", n.name, n.serial), Node: n.name,
		TTL: worldTTL, Forget: strings.HasPrefix(owner, "guest"),
	}
}

// login replaces what the owner had at this node; another node learns it when it extends.
func (n *worldNode) login(req Request) {
	w, key := n.w, req.Pool+" "+req.Owner
	if !n.read || n.busy[key] {
		return // the daemon is not ready, or does something else for him
	}
	n.busy[key] = true
	w.did.logins++
	w.tried(key)
	yields, tries := w.yields[key] > 0, w.tries[key]
	if req.Yield {
		w.yields[key]++
	}
	n.begin(key, func(o *op) {
		events := w.events
		l, err := n.store.Acquire(w.Context(), req)
		if req.Yield {
			w.yields[key]--
		}
		if req.Yield || req.Foreign.IsValid() { // these take several commands: another login may have come between
			yields = yields || w.tries[key] != tries
		}
		if o.dead {
			return
		}
		yields = yields || w.yields[key] > 0
		delete(n.busy, key)
		w.tried(key)
		w.note("%s: %s asks in %s for %d %v: %d %v", n.name, req.Owner, req.Pool, req.Index, textOf(req.Foreign), l.Index, err)
		if err == nil {
			n.accept(req, l, events)
			if t := n.tunnels[seat{l.Pool, l.Index, l.Session}]; yields { // which of them was last is not told by the order of answers
				t.tries = -1
				n.tunnels[seat{l.Pool, l.Index, l.Session}] = t
			}
		} else if !w.faulty(err) {
			w.wrong = fmt.Sprintf("%s: %+v: %v", n.name, req, err)
		}
	})
}

// accept is what the broker does with a lease that was asked for after so many events.
func (n *worldNode) accept(req Request, l Lease, events int) {
	w := n.w
	for _, o := range w.nodes {
		for k, t := range o.tunnels {
			if o == n && k.pool == l.Pool && t.owner == req.Owner {
				delete(o.tunnels, k)
			}
		}
	}
	t := tunnel{
		owner: req.Owner, foreign: req.Foreign, end: n.until(l.Pool, l.Index), events: events, tries: w.tries[req.Pool+" "+req.Owner],
	}
	here, _ := n.store.served.get(n.store.byName[l.Pool], l.Index)
	key := req.Pool + " " + req.Owner
	if here.epoch == "" {
		w.alone[key] = w.now
	}
	if w.now.Add(w.skew).Before(w.behind) || here.epoch == "" && w.skew >= 0 { // the node's clock, not ahead of Redis's, says when it began
		t.tries = -1 // his older sessions seem to be the later ones
	}
	t.twin = w.now.Sub(w.began[key]) < time.Millisecond
	w.began[key] = w.now
	// A session begun without Redis has the time of its node, and seems to be later by as little as that.
	if w.now.Add(min(0, w.skew)).Sub(w.alone[key]) < 10*time.Millisecond {
		t.tries = -1
	}
	n.tunnels[seat{l.Pool, l.Index, l.Session}] = t
}

// until is when a lease ends, if it is not extended.
func (n *worldNode) until(pool string, index uint32) time.Time {
	t, _ := n.store.served.get(n.store.byName[pool], index)
	if t.foreign.IsValid() {
		return n.store.deadline(t)
	}
	return t.end
}

// logout ends one of the node's tunnels: first the tunnel, then the lease.
func (n *worldNode) logout() {
	all := n.seats()
	if len(all) == 0 {
		return
	}
	k := all[n.w.IntN(len(all))]
	key := k.pool + " " + n.tunnels[k].owner
	if n.busy[key] {
		return
	}
	delete(n.tunnels, k)
	n.busy[key] = true
	n.begin(key, func(o *op) {
		err := n.store.Release(n.w.Context(), k.holder())
		if !o.dead {
			delete(n.busy, key)
			n.w.note("%s: release %s %d: %v", n.name, k.pool, k.index, err)
		}
	})
}

// seats are those of the node's tunnels, in an order that a seed gives again.
func (n *worldNode) seats() []seat {
	return slices.SortedFunc(maps.Keys(n.tunnels), func(a, b seat) int {
		return cmp.Or(cmp.Compare(a.pool, b.pool), cmp.Compare(a.index, b.index), cmp.Compare(a.session, b.session))
	})
}

// beginSweep is one pass of the broker's sweep, or the start of the daemon.
func (n *worldNode) beginSweep() {
	if n.sweeping {
		return
	}
	n.sweeping = true
	n.begin("", func(o *op) {
		if n.read {
			n.sweep(o, false)
		} else {
			n.recover(o)
		}
		if !o.dead {
			n.sweeping = false
		}
	})
}

// sweep extends what is half over, or all.
func (n *worldNode) sweep(o *op, all bool) {
	w := n.w
	var holders []Holder
	for _, k := range n.seats() {
		if t := n.tunnels[k]; all || t.end.Before(w.now.Add(worldTTL/2)) {
			h := k.holder()
			h.Owner = t.owner
			if w.IntN(4) == 0 {
				h.Data = []byte(w.now.String())
			}
			holders = append(holders, h)
		}
	}
	events := w.events
	lost, err := n.store.Extend(w.Context(), worldTTL, holders...)
	if o.dead {
		return
	}
	for _, l := range lost {
		n.lost(l)
	}
	if err != nil {
		w.note("%s: extend %d: %v", n.name, len(holders), err)
		return
	}
	for _, h := range holders {
		k := seat{h.Pool, h.Index, h.Session}
		if t, ok := n.tunnels[k]; ok {
			t.end, t.events = n.until(h.Pool, h.Index), events
			n.tunnels[k] = t
		}
	}
}

// lost ends a tunnel whose lease is lost: to another session of its owner, or because time has run out, or since Redis has
// lost something.
func (n *worldNode) lost(l Lost) {
	w, k := n.w, seat{l.Pool, l.Index, l.Session}
	t, ok := n.tunnels[k]
	if !ok {
		return
	}
	delete(n.tunnels, k)
	w.note("%s: lost %s %d of %s, preempted: %v", n.name, l.Pool, l.Index, t.owner, l.Preempted)
	alone := t.tries == w.tries[l.Pool+" "+t.owner]
	switch untroubled := t.events == w.events && t.end.After(w.now); {
	case alone && untroubled:
		w.wrong = fmt.Sprintf("%s lost %s index %d of %s for no reason", n.name, l.Pool, l.Index, t.owner)
	case alone && l.Preempted && !t.twin:
		w.wrong = fmt.Sprintf("%s lost %s index %d of %s to a login, and there was none", n.name, l.Pool, l.Index, t.owner)
	case untroubled && t.tries >= 0 && !l.Preempted:
		w.wrong = fmt.Sprintf("%s lost %s index %d of %s, and is not told that there was another login", n.name, l.Pool, l.Index, t.owner)
	}
}

// beginLook is what the store does beside.
func (n *worldNode) beginLook() {
	if n.looking {
		return
	}
	n.looking = true
	n.begin("", func(o *op) {
		_ = n.store.look(n.w.Context())
		if o.dead {
			return
		}
		n.looking = false
		select {
		case <-n.store.Refuted():
			if n.read {
				n.sweep(o, true)
			}
		default:
		}
	})
}
