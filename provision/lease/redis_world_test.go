// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
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
	worldJump       = 3 * time.Minute
	worldOwners     = 30
	officeSize      = 20 // so small that everything is somebody's last address
)

// world is a Redis and some servers, each of which believes that it serves some leases. There is no prefix, ever, that two
// subscribers have at once by what the servers believe.
type world struct {
	*testing.T
	*rand.Rand
	server   *redistest.Server
	options  redis.Options
	admin    *goredis.Client
	nodes    []*worldNode
	now      time.Time     // of the servers
	skew     time.Duration // of Redis's clock
	dump     []any         // what was saved: keys and values
	full     bool
	calm     bool // no fault comes any more
	restored bool // dump was in force once already: what was given then may be known to nobody but the nodes
	step     int
	log      []string
	did      worldCounts

	ops     []*op // under way
	running *op
	yielded chan struct{}
	late    []func() // commands given up that have not arrived yet
	wrong   string   // what an op found

	events  int                  // that may cost somebody his lease, so far
	lastOne time.Time            // and when the last was
	tries   map[string]int       // by pool and owner
	alone   map[string]time.Time // when a session was last begun without Redis, by pool and owner
	began   map[string]time.Time // the same of any session
	yields  map[string]int       // logins under way that yield to others, by pool and owner
	idle    time.Duration        // that nobody has looked
	behind  time.Time            // Redis's clock was there before it was set back
	kept    map[uint32]string    // who an index of the small pool is reserved for
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

func newWorld(t *testing.T, server *redistest.Server, options redis.Options, seed uint64) *world {
	t.Helper()
	w := &world{
		T: t, Rand: rand.New(rand.NewPCG(seed, 1)), server: server, options: options, admin: server.Client(),
		now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), yielded: make(chan struct{}),
		tries: make(map[string]int), alone: make(map[string]time.Time), began: make(map[string]time.Time), yields: make(map[string]int), kept: make(map[uint32]string),
	}
	t.Cleanup(func() { // ops that a failure has left
		for _, o := range w.ops {
			o.dead = true
		}
		w.drain()
	})
	w.fill(false)
	w.must(w.admin.FlushAll(t.Context()).Err())
	known, err := loadScripts()
	w.must(err)
	for _, s := range known { // a server that has them already is not to make another world of the same seed
		w.must(s.Load(t.Context(), w.admin).Err())
	}
	for i := range 3 {
		n := &worldNode{w: w, name: fmt.Sprint("node", i), tunnels: make(map[seat]tunnel)}
		n.start()
		w.nodes = append(w.nodes, n)
	}
	w.event()
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
		w.fail("%v", err)
	}
}

// faulty tells whether an error is one that a fault may bring about.
func (w *world) faulty(err error) bool {
	for _, e := range []error{ErrUnavailable, ErrGrace, ErrTaken, ErrFull, ErrHeld} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// event notes that Redis may have lost something, or its clock some time.
func (w *world) event() {
	w.events++
	w.lastOne = w.now
}

// tried notes that an owner's lease may have changed.
func (w *world) tried(key string) {
	if key != "" {
		w.tries[key]++
	}
}

// pass lets time pass: every node looks, and sweeps, twice in a grace when something has happened, else as often as it
// must so that no clock seems to jump. A short time passes while nodes are in the middle of something.
func (w *world) pass(d time.Duration) {
	if d <= 3*time.Second && w.idle+d < worldGrace/2 {
		w.now, w.idle = w.now.Add(d), w.idle+d
		return
	}
	w.drain()
	w.idle = 0
	for d > 0 {
		stride := worldGrace / 2
		if w.now.Sub(w.lastOne) > 4*worldGrace {
			stride = worldJump - 10*time.Second
		}
		stride = min(d, stride)
		d -= stride
		w.now = w.now.Add(stride)
		for _, n := range w.nodes {
			n.beginLook()
			n.beginSweep()
		}
		w.drain()
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
	w.wrong = ""
	w.Fatalf("step %d: %s\n%s", w.step, fmt.Sprintf(format, args...), strings.Join(w.log, "\n"))
}
