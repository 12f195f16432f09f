// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ddtb/provision/redis"
)

// DefaultGrace is how long after a failover nobody new gets a lease, if RedisOptions says nothing.
const DefaultGrace = 10 * time.Second

// DefaultJump is how far Redis's clock may move without anybody looking, if RedisOptions says nothing.
const DefaultJump = time.Minute

// RedisOptions are those of a Redis store. Conn and Node are required.
type RedisOptions struct {
	Options    // Drop forgets a pool that has changed
	Conn       *redis.Conn
	Node       string                // this tunnel server
	Grace      time.Duration         // 0: DefaultGrace. All nodes have to find Redis again in this time.
	Jump       time.Duration         // 0: DefaultJump. Beyond, the clock was set or nobody was there; either way an epoch begins.
	TTL        time.Duration         // the longest that will be asked for, for a pool that is new; 0: an hour
	Copy       string                // file with what this node serves, for a start while Redis is away; "": none
	Boot       string                // names this boot of the host: a copy of another tells of tunnels that are gone
	Registerer prometheus.Registerer // nil: no metrics
	Time       func() time.Time      // nil: that of Redis. Tests set it; Clock is this node's.
}

// Redis is a Store that several nodes share. Each operation is one script, atomic in Redis, that can be run twice.
//
// Redis replicates asynchronously: a failover may lose what it has acknowledged, and so may a restart. The replication id
// (INFO, master_replid) changes with each; every script looks at it first. When it has changed, a new epoch begins: for
// the time of Grace only owners are served whose index cannot have been given away by a lost write, and every node asserts
// what it serves, which it keeps in memory for this. Until all nodes have done so, or until their leases must have ended,
// an index somebody had goes to nobody else, nor does one wanted by number or a foreign prefix; who is new gets one beyond
// all that were ever used, as far as Redis or any node remembers. Nodes remember each other as well, so that a
// Redis that lost everything, or the same dump restored again and again, knows whom to wait for. A clock of Redis that jumps
// begins an epoch, too, but puts nothing in doubt and has no grace of its own; what is left of one that has begun is left to
// the nodes all the same.
//
// Not covered: what nobody who can reach Redis remembers. That is a node that cannot, throughout the grace and after it, while
// Redis has lost everything, or has the same dump as once before, and every other node was started anew or cut off
// since; and an index given by number, or more than a thousand new ones, far beyond all others in the moment before, by such
// a node. Nor are tunnels that go on in the kernel without a daemon: nobody there knows when their leases end. One that is
// started knows, also while Redis is away, by a copy of what the last one served (RedisOptions.Copy).
//
// Each session claims its foreign prefix for itself, before it has a lease, in a place where the claims of all pools lie together. No two
// of different owners overlap, and one lasts until its own node releases it, or its time is over: what other sessions of the owner
// claim, or give up, at other nodes or too late, does not matter to it.
//
// While Redis does not answer, leases this node serves live on until half a quarantine past their end, those with a foreign prefix not
// as long: nobody can have their index or prefix before, also if their owners have moved to another node and left it again, which this
// one may not have heard.
// Their owners may take them over with a new session (Acquire); nobody else gets anything.
type Redis struct {
	conn    *redis.Conn
	options RedisOptions
	clock   func() time.Time
	pools   []*sharedPool
	byName  map[string]*sharedPool
	foreign *sharedPool // no pool: the claims to prefixes from outside all of them
	scripts scripts
	served  served
	turns   *turns
	metrics *redisMetrics

	replicas atomic.Int64 // that follow the master
	loaded   atomic.Bool  // all leases of this node are in served
	apart    bool         // opened while Redis was away: until loaded, served is what the copy told
	away     atomic.Bool  // the last look at Redis failed

	wake    chan struct{}
	refuted chan struct{}
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// sharedPool is one pool and the state it is in.
type sharedPool struct {
	Pool
	key string // of its hash

	made atomic.Bool // Redis was asked whether it has the pool, or made it

	mu       sync.Mutex
	epoch    string // in which Redis is, as it says it
	asserted string // in which all that is served here was asserted
	usage    Usage  // of the last look

	// What Redis has said last, for one that has lost it.
	last  uint32   // index that was used
	nodes []string // that may serve something
}

// OpenRedis makes the store of pools, and the pools themselves where Redis does not know them. Pools that Redis has with
// other addresses or more indices are an error, unless Drop is set: then all their leases are forgotten. While Redis is away
// it is opened only if a copy tells of leases that are served here (Kept).
func OpenRedis(ctx context.Context, pools []Pool, o RedisOptions) (*Redis, error) {
	r, err := openRedis(ctx, pools, o)
	if err != nil {
		return nil, err
	}
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.done.Go(func() { r.watch(ctx) })
	return r, nil
}

// openRedis is OpenRedis without anything that runs beside.
func openRedis(ctx context.Context, pools []Pool, o RedisOptions) (*Redis, error) {
	if err := Validate(pools); err != nil {
		return nil, err
	}
	if o.Node == "" || len(o.Node) > MaxNode {
		return nil, fmt.Errorf("node of %d octets, 1 to %d expected: %w", len(o.Node), MaxNode, ErrInvalid)
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Jump == 0 {
		o.Jump = DefaultJump
	}
	if o.TTL == 0 {
		o.TTL = time.Hour
	}
	r := &Redis{conn: o.Conn, options: o, clock: o.withDefaults().Clock, byName: make(map[string]*sharedPool), wake: make(chan struct{}, 1), refuted: make(chan struct{}, 1)}
	r.options.Quarantine = o.withDefaults().Quarantine
	r.served, r.turns = newServed(), newTurns()
	for _, pool := range pools {
		p := &sharedPool{Pool: pool, key: "ddtb:{" + pool.Name + "}:pool", usage: Usage{Pool: pool.Name, Size: pool.Size}}
		r.pools, r.byName[pool.Name] = append(r.pools, p), p
	}
	claims := Pool{Name: "+foreign", Size: 1, EndpointBase: netip.IPv6Unspecified()} // a name that no pool can have
	r.foreign = &sharedPool{Pool: claims, key: "ddtb:{" + claims.Name + "}:pool"}
	var err error
	if r.scripts, err = loadScripts(); err != nil {
		return nil, err
	}
	if r.metrics, err = newRedisMetrics(o.Registerer, r); err != nil {
		return nil, err
	}
	if o.Copy != "" {
		if r.served.copy, err = openCopy(o.Copy, o.Boot, r.pools, r.served, r.options.Options); err != nil {
			return nil, err
		}
	}
	if err := r.begin(ctx); err != nil && !(errors.Is(err, ErrUnavailable) && r.goOn()) {
		return nil, errors.Join(err, r.served.copy.close())
	}
	return r, nil
}

// begin makes the pools, and says what Redis does not know of this node's leases and the copy does: who has taken one over, and
// what goes with it.
func (r *Redis) begin(ctx context.Context) error {
	for _, p := range append(slices.Clone(r.pools), r.foreign) {
		if err := r.make(ctx, p, r.options.Drop); err != nil {
			return err
		}
	}
	var renewed []Holder
	for at, t := range r.served.copied() {
		if t.epoch == "" {
			r.served.put(at.pool, at.index, t)
			renewed = append(renewed, Holder{Pool: at.pool.Name, Index: at.index, Session: t.session, Data: t.data})
		}
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	for _, h := range renewed {
		p := r.byName[h.Pool]
		t, ok := r.served.get(p, h.Index)
		if ok && t.end.After(r.clock()) {
			if _, err := r.run(ctx, scriptExtend, p, until(t.end), h.Index, h.Session, flag(true), h.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

// goOn has the node serve what the copy tells, and tells whether there is anything. What is past its time is in it, too: its
// sessions have to end.
func (r *Redis) goOn() bool {
	if c := r.served.copy; c == nil || !c.whole {
		return false
	}
	for at, t := range r.served.copied() {
		r.served.put(at.pool, at.index, t)
	}
	n := len(r.served.leases)
	if r.apart = n > 0; r.apart {
		r.away.Store(true)
		r.options.Logger.Error().Int("leases", n).Msg("lease store away: what this server served goes on, by what it has noted on disk; nobody new gets a lease")
	}
	return r.apart
}

// Kept is what this node serves, if the store was opened while Redis was away and has not been read since.
func (r *Redis) Kept() (all []Lease, ok bool) {
	if !r.apart || r.loaded.Load() {
		return nil, false
	}
	r.served.mu.Lock()
	defer r.served.mu.Unlock()
	for at, t := range r.served.leases {
		all = append(all, t.lease(at.pool.Pool, at.index))
	}
	return all, true
}

// Close ends what runs beside. The connection stays open, and the leases stay with their holders.
func (r *Redis) Close() error {
	r.cancel()
	r.done.Wait()
	return r.served.copy.close()
}

// make has Redis know a pool.
func (r *Redis) make(ctx context.Context, p *sharedPool, drop bool) error {
	prefix := ""
	if p.delegates() {
		prefix = netip.PrefixFrom(p.PrefixBase, p.PrefixLen).String()
	}
	a, err := r.once(ctx, scriptOpen, p.key, p.Size, p.First, p.EndpointBase.String(), prefix,
		r.options.Quarantine.Milliseconds(), r.options.TTL.Milliseconds(), flag(drop))
	if err != nil {
		return r.unavailable(err)
	}
	if a.status == "OTHER" {
		return fmt.Errorf("pool %q: Redis has it with %s indices, endpoints from %s and prefixes from %q, but here it has %d, %s and %q: "+
			"give all nodes the same pools, or allow leases to be dropped: %w", p.Name, a.text(0), a.text(1), a.text(2), p.Size, p.EndpointBase, prefix, ErrInvalid)
	}
	p.made.Store(true)
	return nil
}

func (r *Redis) pool(name string) (*sharedPool, error) {
	p := r.byName[name]
	if p == nil {
		return nil, fmt.Errorf("pool %q: %w", name, ErrNoPool)
	}
	return p, nil
}

// flag is how scripts are told yes and no.
func flag(is bool) string {
	if is {
		return "1"
	}
	return ""
}

// unavailable puts an error of Redis into the words of a Store.
func (r *Redis) unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, r.conn.Explain(err))
}

// refusal gives the error that a script's status stands for.
func refusal(status string) error {
	switch status {
	case "OK":
		return nil
	case "FULL":
		return ErrFull
	case "TAKEN":
		return ErrTaken
	case "HELD":
		return ErrHeld
	case "GRACE":
		return ErrGrace
	}
	return fmt.Errorf("status %q of a script: %w", strings.ToValidUTF8(status, "?"), ErrUnavailable)
}

// Usage implements UsageReporter, as of the last look at Redis, at most a tenth of Grace ago.
func (r *Redis) Usage() []Usage {
	var out []Usage
	for _, p := range r.pools {
		p.mu.Lock()
		out = append(out, p.usage)
		p.mu.Unlock()
	}
	return out
}
