// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"ddtb/provision/redis"
	"ddtb/provision/redis/redistest"
)

const (
	worldTTL        = 10 * time.Minute
	worldQuarantine = 30 * time.Minute
	worldGrace      = 10 * time.Second
	worldOwners     = 30
	officeSize      = 20 // so small that everything is somebody's last address
)

// world is a Redis and some servers, each of which believes that it serves some leases. There is no prefix, ever, that two
// subscribers have at once by what the servers believe.
type world struct {
	*testing.T
	*rand.Rand
	server *redistest.Server
	admin  *goredis.Client
	nodes  []*worldNode
	now    time.Time     // of the servers
	skew   time.Duration // of Redis's clock
	dump   map[string]string
	step   int
	log    []string
}

// worldNode is one server: its daemon, which may die, and its tunnels, which do not.
type worldNode struct {
	w       *world
	name    string
	store   *Redis
	faults  *faults
	tunnels map[seat]tunnel
	serial  int
	read    bool // the daemon has read the leases since it began
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
}

// faults make a connection fail: before a command is sent, or after it was executed.
type faults struct {
	away bool
	lose func() bool
}

var errFault = &net.OpError{Op: "read", Err: errors.New("fault")}

func (f *faults) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (f *faults) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if f.away {
			cmd.SetErr(errFault)
			return errFault
		}
		err := next(ctx, cmd)
		if err == nil && f.lose() {
			cmd.SetErr(errFault)
			return errFault
		}
		return err
	}
}

func (f *faults) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func worldPools() []Pool {
	return []Pool{
		{
			Name: "home", Size: 4000, EndpointBase: netip.MustParseAddr("2001:db8:8000::"),
			PrefixBase: netip.MustParseAddr("2001:db8:4000::"), PrefixLen: 56,
		},
		{Name: "office", First: 1 << 24, Size: officeSize, EndpointBase: netip.MustParseAddr("2001:db8:8001::")},
	}
}

func newWorld(t *testing.T, server *redistest.Server, seed uint64) *world {
	t.Helper()
	w := &world{
		T: t, Rand: rand.New(rand.NewPCG(seed, 1)), server: server, admin: server.Client(),
		now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	w.must(w.admin.FlushAll(t.Context()).Err())
	for i := range 3 {
		n := &worldNode{w: w, name: fmt.Sprint("node", i), tunnels: make(map[seat]tunnel)}
		n.faults = &faults{lose: func() bool { return w.IntN(100) == 0 }}
		n.start()
		w.nodes = append(w.nodes, n)
	}
	w.pass(2 * worldGrace)
	for i := 1; i < officeSize; i++ { // every index of the small pool was used once
		n := w.nodes[0]
		if l, err := n.store.Acquire(t.Context(), n.request("office", fmt.Sprint("early", i))); err == nil {
			_ = n.store.Release(t.Context(), Holder{Pool: l.Pool, Index: l.Index, Session: l.Session})
		}
	}
	w.pass(worldQuarantine + worldTTL)
	w.save()
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("step %d: %v", w.step, err)
	}
}

// start begins a new daemon: it knows nothing but what Redis tells it. Its tunnels are in the kernel.
func (n *worldNode) start() {
	w := n.w
	conn, err := redis.Open(n.w.server.Options())
	w.must(err)
	w.Cleanup(func() { _ = conn.Close() })
	o := RedisOptions{
		Options: Options{Clock: func() time.Time { return w.now }, Quarantine: worldQuarantine},
		Conn:    conn, Node: n.name, Grace: worldGrace, TTL: worldTTL, Time: func() time.Time { return w.now.Add(w.skew) },
	}
	n.store, err = OpenRedis(w.Context(), worldPools(), o)
	w.must(err)
	w.must(n.store.Close()) // the world looks for it, by its own clock
	conn.AddHook(n.faults)
	n.read = false
}

// recover has the daemon read the leases. Tunnels without one go, as in Broker.Recover.
func (n *worldNode) recover() {
	held := make(map[seat]bool)
	for l, err := range n.store.All(n.w.Context()) {
		if err != nil {
			return
		}
		if l.State == Active && l.Node == n.name {
			held[seat{l.Pool, l.Index, l.Session}] = true
		}
	}
	for k := range n.tunnels {
		if !held[k] {
			delete(n.tunnels, k)
		}
	}
	n.read = true
}

func (n *worldNode) request(pool, owner string) Request {
	n.serial++
	return Request{
		Pool: pool, Owner: owner, Session: fmt.Sprintf("%s-%d", n.name, n.serial), Node: n.name,
		TTL: worldTTL, Forget: strings.HasPrefix(owner, "guest"),
	}
}

// login replaces what the owner had at this node; another node learns it when it extends.
func (n *worldNode) login(req Request) error {
	if !n.read {
		return ErrUnavailable // the daemon is not ready
	}
	l, err := n.store.Acquire(n.w.Context(), req)
	n.w.note("%s: %s asks in %s: %d %v", n.name, req.Owner, req.Pool, l.Index, err)
	if err != nil {
		return err
	}
	for _, o := range n.w.nodes {
		for k, t := range o.tunnels {
			switch {
			case k.pool != l.Pool || t.owner != req.Owner:
			case o == n:
				delete(o.tunnels, k)
			default: // his new session gave up the static prefix, or has it too
				t.foreign = netip.Prefix{}
				o.tunnels[k] = t
			}
		}
	}
	n.tunnels[seat{l.Pool, l.Index, l.Session}] = tunnel{owner: req.Owner, foreign: req.Foreign, end: n.w.now.Add(req.TTL)}
	return nil
}

// seats are those of the node's tunnels, in an order that a seed gives again.
func (n *worldNode) seats() []seat {
	return slices.SortedFunc(maps.Keys(n.tunnels), func(a, b seat) int {
		return cmp.Or(cmp.Compare(a.pool, b.pool), cmp.Compare(a.index, b.index), cmp.Compare(a.session, b.session))
	})
}

// sweep extends what is half over, or all.
func (n *worldNode) sweep(all bool) {
	if !n.read {
		n.recover()
		return
	}
	var holders []Holder
	for _, k := range n.seats() {
		if t := n.tunnels[k]; all || t.end.Before(n.w.now.Add(worldTTL/2)) {
			holders = append(holders, k.holder())
		}
	}
	lost, err := n.store.Extend(n.w.Context(), worldTTL, holders...)
	for _, h := range lost {
		n.w.note("%s: lost %s %d", n.name, h.Pool, h.Index)
		delete(n.tunnels, seat{h.Pool, h.Index, h.Session})
	}
	if err != nil {
		return
	}
	for _, h := range holders {
		k := seat{h.Pool, h.Index, h.Session}
		if t, ok := n.tunnels[k]; ok {
			t.end = n.w.now.Add(worldTTL)
			n.tunnels[k] = t
		}
	}
}

// look is what the store does beside.
func (n *worldNode) look() {
	_ = n.store.look(n.w.Context())
	select {
	case <-n.store.Refuted():
		n.sweep(true)
	default:
	}
}

// pass lets time pass: every node looks twice in a grace, and sweeps.
func (w *world) pass(d time.Duration) {
	for ; d > 0; d -= worldGrace / 2 {
		w.now = w.now.Add(min(d, worldGrace/2))
		for _, n := range w.nodes {
			n.look()
			n.sweep(false)
		}
		w.check()
	}
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%d %s ", w.step, w.now.Format(time.TimeOnly))+fmt.Sprintf(format, args...))
	if len(w.log) > 400 {
		w.log = w.log[200:]
	}
}

// check is the one thing that has to hold.
func (w *world) check() {
	type who struct{ node, owner string }
	owners := make(map[seat]who)
	var prefixes []tunnel
	var of []who
	for _, n := range w.nodes {
		for k, t := range n.tunnels {
			at, me := seat{pool: k.pool, index: k.index}, who{n.name, t.owner}
			if other, ok := owners[at]; ok && other.owner != t.owner {
				w.fail("pool %s index %d: served to %s and to %s", k.pool, k.index, me, other)
			}
			owners[at] = me
			if !t.foreign.IsValid() {
				continue
			}
			for i, o := range prefixes {
				if o.foreign.Overlaps(t.foreign) && o.owner != t.owner {
					w.fail("%v is served to %s, %v to %s", t.foreign, me, o.foreign, of[i])
				}
			}
			prefixes, of = append(prefixes, t), append(of, me)
		}
	}
}

func (w *world) fail(format string, args ...any) {
	w.Helper()
	w.Fatalf("step %d: %s\n%s", w.step, fmt.Sprintf(format, args...), strings.Join(w.log, "\n"))
}

// save keeps what Redis has, as a replica would that lags, or a dump.
func (w *world) save() {
	ctx := w.Context()
	w.dump = make(map[string]string)
	keys, err := w.admin.Keys(ctx, "*").Result()
	w.must(err)
	for _, key := range keys {
		value, err := w.admin.Dump(ctx, key).Result()
		w.must(err)
		w.dump[key] = value
	}
}

// failover puts in force what was saved: all writes since are lost.
func (w *world) failover() {
	ctx := w.Context()
	_, err := w.admin.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.FlushAll(ctx)
		for key, value := range w.dump {
			p.Restore(ctx, key, 0, value)
		}
		p.Do(ctx, "DEBUG", "CHANGE-REPL-ID")
		return nil
	})
	w.must(err)
	// Whoever comes first begins the epoch, and the next replica has it.
	for _, n := range w.nodes {
		n.look()
	}
	w.save()
}
