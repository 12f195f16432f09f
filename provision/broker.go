// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// Deps is what a Broker works with. Store and Datapath are required.
type Deps struct {
	Store      lease.Store
	Datapath   datapath.Datapath // configured; not closed by the Broker
	Accountant aaa.Accountant    // nil: no accounting
	Backends   aaa.Reauthorizer  // nil: who is to be authorized again at his Session-Timeout is ended then
	Logger     zerolog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Clock      func() time.Time      // nil: time.Now
	Rand       io.Reader             // nil: crypto/rand.Reader
}

// Broker gives subscribers their tunnels. All methods may be called by many goroutines at once.
type Broker struct {
	settings atomic.Pointer[settings]
	store    *acquitting
	datapath datapath.Datapath
	account  aaa.Accountant
	backends aaa.Reauthorizer
	resumes  bool // datapath is a datapath.Resumer
	log      zerolog.Logger
	clock    func() time.Time
	rand     io.Reader
	metrics  *metrics
	started  time.Time

	ready    atomic.Bool // Recover has come through
	draining atomic.Bool // Shutdown has begun
	drained  atomic.Bool // Drain
	unmarked atomic.Bool // the last try to mark leases failed
	apart    atomic.Bool // Recover came through while the store was away, and rejoin has not yet
	peers    atomic.Pointer[Peers]
	burying  sync.Mutex // one Bury at a time

	*table
	locks    *locks
	events   hub
	marks    chan struct{} // one slot: table.fresh is not empty
	renewals chan []*entry // to be authorized again
	sweeps   sweepState
}

// settings is a Config in force.
type settings struct {
	Config
	pools map[string]lease.Pool
}

func newSettings(config Config) (*settings, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	s := &settings{Config: config.withDefaults(), pools: make(map[string]lease.Pool)}
	for _, pool := range s.Pools {
		s.pools[pool.Name] = pool
	}
	return s, nil
}

// pool is the pool of that name, the zero Pool if there is none.
func (s *settings) pool(name string) lease.Pool { return s.pools[name] }

// noAccounting takes every record and keeps none.
type noAccounting struct{}

func (noAccounting) Account(context.Context, aaa.Record) error { return nil }

// New makes a Broker. Recover has to come through before it offers anything, and Run has to run then.
func New(config Config, deps Deps) (*Broker, error) {
	s, err := newSettings(config)
	if err != nil {
		return nil, err
	}
	if deps.Store == nil || deps.Datapath == nil {
		return nil, errors.New("a lease store and a datapath are needed")
	}
	b := &Broker{
		store:    &acquitting{Store: deps.Store},
		datapath: deps.Datapath,
		account:  deps.Accountant,
		backends: deps.Backends,
		log:      deps.Logger,
		clock:    deps.Clock,
		rand:     deps.Rand,
		table:    newTable(),
		locks:    newLocks(),
		marks:    make(chan struct{}, 1),
		renewals: make(chan []*entry),
	}
	b.settings.Store(s)
	_, b.resumes = deps.Datapath.(datapath.Resumer)
	if b.account == nil {
		b.account = noAccounting{}
	}
	if b.clock == nil {
		b.clock = time.Now
	}
	if b.rand == nil {
		b.rand = rand.Reader
	}
	b.started = b.clock()
	if b.metrics, err = newMetrics(b, deps.Registerer); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return b, nil
}

// now is the time in Unix milliseconds, as sessions keep it.
func (b *Broker) now() int64 { return b.clock().UnixMilli() }

// ioTimeout bounds what is done for one session once it has been begun, whoever asked for it going away or not.
const ioTimeout = 20 * time.Second

// detach gives a context for work that has to be brought to its end.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), ioTimeout)
}

// Session returns one session.
func (b *Broker) Session(id string) (Session, bool) {
	e := b.lookup(id)
	if e == nil {
		return Session{}, false
	}
	return b.snapshot(e), true
}

// Tunnel returns the active session of a tunnel id.
func (b *Broker) Tunnel(id uint32) (Session, bool) {
	s := b.settings.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.tunnels[id]
	if e == nil {
		return Session{}, false
	}
	return e.session(s), true
}

func (b *Broker) lookup(id string) *entry {
	key, ok := parseID(id)
	if !ok {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.find(key)
}

func (b *Broker) snapshot(e *entry) Session {
	s := b.settings.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.session(s)
}

// Owned returns the active sessions of a subscriber, lowest slot first.
func (b *Broker) Owned(name string) []Session {
	s := b.settings.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Session
	for slot := 1; slot <= MaxSlots; slot++ {
		if e := b.owners[Owner(name, slot)]; e != nil && e.state == Active {
			out = append(out, e.session(s))
		}
	}
	return out
}

// Filter chooses sessions; zero fields match all.
type Filter struct {
	User    string
	Address netip.Addr     // the endpoint is this, or the delegated prefix or a route contains it
	Prefix  netip.Prefix   // endpoint, delegated prefix or a route overlap it
	Client  netip.Addr     // outer address
	Encap   datapath.Encap // 0: any
	State   State          // 0: any
}

func (f Filter) match(s *settings, e *entry) bool {
	t := e.terms.Value()
	if f.User != "" && f.User != e.name || f.Encap != 0 && f.Encap != t.encap || f.State != 0 && f.State != e.state {
		return false
	}
	if f.Client.IsValid() && f.Client.Unmap() != e.clientAddr().Addr() {
		return false
	}
	if !f.Address.IsValid() && !f.Prefix.IsValid() {
		return true
	}
	pool := s.pool(t.leasePool)
	endpoint, prefix := pool.Endpoint(e.index), e.prefix(pool)
	if f.Address.IsValid() && f.Address != endpoint && !prefix.Contains(f.Address) && !t.routes.Contains(f.Address) {
		return false
	}
	return !f.Prefix.IsValid() || f.Prefix.Contains(endpoint) || prefix.IsValid() && f.Prefix.Overlaps(prefix) || t.routes.Overlaps(f.Prefix)
}

// Sessions yields the sessions that match, in no order. Those that begin or end meanwhile may be seen or not.
func (b *Broker) Sessions(filter Filter) iter.Seq[Session] {
	const found, looked = 128, 1024 // at most, before the lock is let go for a moment
	return func(yield func(Session) bool) {
		s := b.settings.Load()
		batch, n := make([]Session, 0, found), 0
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.byID {
			if n++; filter.match(s, e) {
				batch = append(batch, e.session(s))
			}
			if len(batch) == found || n%looked == 0 {
				if !b.hand(batch, yield) {
					return
				}
				batch = batch[:0]
			}
		}
		b.hand(batch, yield)
	}
}

// hand yields sessions without the lock. A map may change between two steps of a range over it.
func (b *Broker) hand(found []Session, yield func(Session) bool) bool {
	b.mu.Unlock()
	defer b.mu.Lock()
	for _, s := range found {
		if !yield(s) {
			return false
		}
	}
	return true
}

// Watch begins to collect events. It is closed by the caller. ErrBusy if too many watch.
func (b *Broker) Watch() (*Watcher, error) { return b.events.watch() }

// tell hands an event to the watchers, if there are any.
func (b *Broker) tell(kind EventKind, cause aaa.Cause, e *entry) {
	if b.events.watched() {
		b.events.send(Event{Time: b.clock(), Kind: kind, Cause: cause, Session: b.snapshot(e)})
	}
}

// Reload takes over what can change while sessions run: everything but Node and Server; pools may be added (where the
// store and the datapath know them already), not changed nor removed. Running sessions keep what they were told.
func (b *Broker) Reload(config Config) error {
	next, err := newSettings(config)
	if err != nil {
		return err
	}
	old := b.settings.Load()
	if next.Node != old.Node || next.Server != old.Server {
		return fmt.Errorf("node or server: %s, %v: cannot change while the server runs, it is %s, %v", next.Node, next.Server, old.Node, old.Server)
	}
	for _, pool := range old.Pools {
		if next.pool(pool.Name) != pool {
			return fmt.Errorf("pools: %q cannot be changed nor removed while the server runs", pool.Name)
		}
	}
	b.settings.Store(next)
	return nil
}
