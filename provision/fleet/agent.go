// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ddtb/provision"
)

// Balance says which clients a server sends to others.
type Balance string

// The ways to balance. A server that is drained sends all, whatever is set.
const (
	Never  Balance = "never"  // none
	Load   Balance = "load"   // new ones, while another server is less loaded
	Always Balance = "always" // all: this server gives no tunnels itself
)

// Options of an Agent. Name is required; zero fields have good defaults.
type Options struct {
	Name      string     // of this server
	Address   netip.Addr // where clients reach it
	Version   string
	Balance   Balance       // "": Never
	Pace      int           // sessions ended a second while being drained; 0: 50
	Heartbeat time.Duration // between two signs of life; after three without, a server is gone. 0: 2 s
	Refresh   time.Duration // between two writings of all sessions; what is not written three times is gone. 0: 1 minute
	Elsewhere func() bool   // clients are sent elsewhere already, by configuration; nil: they are not
	Logger    zerolog.Logger
	Metrics   prometheus.Registerer // nil: none
	Clock     func() time.Time      // nil: time.Now
}

// Bounds of an Agent's work.
const (
	ioTimeout  = 3 * time.Second // of one round of reading or writing
	writeMost  = 512             // sessions in one batch
	retryFirst = 100 * time.Millisecond
	retryLast  = 5 * time.Second
	askWait    = 5 * time.Second // for what another server is asked to do
)

// Agent makes a Broker known to the other servers and acts on what they say. All methods may be called by several
// goroutines at once.
type Agent struct {
	Options
	broker  *provision.Broker
	board   Board              // nil: there are no others
	watcher *provision.Watcher // what happens here is told to them; nil: there are none
	started time.Time
	metrics *metrics

	draining atomic.Bool
	posted   atomic.Bool                  // a heartbeat was on the board
	peers    atomic.Pointer[[]Node]       // the others, as last read
	targets  atomic.Pointer[[]netip.Addr] // where clients are sent; nil or empty: nowhere
	beats    chan struct{}                // one slot: a heartbeat is due now
	behind   chan struct{}                // one slot: all sessions are to be written now
	doubt    chan struct{}                // one slot: sessions may have lost their leases unheard of
	writing  sync.Mutex                   // held from the look at sessions to their being on the board
}

// New makes an Agent of a Broker; board is nil if the server is alone. What happens from now on is told to the other servers, once
// Run runs.
func New(broker *provision.Broker, board Board, options Options) (*Agent, error) {
	if options.Name == "" {
		return nil, errors.New("a server of a fleet needs a name")
	}
	fill(&options.Balance, Never)
	fill(&options.Pace, 50)
	fill(&options.Heartbeat, 2*time.Second)
	fill(&options.Refresh, time.Minute)
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Elsewhere == nil {
		options.Elsewhere = func() bool { return false }
	}
	a := &Agent{
		Options: options, broker: broker, board: board, started: options.Clock(),
		beats: make(chan struct{}, 1), behind: make(chan struct{}, 1), doubt: make(chan struct{}, 1),
	}
	var err error
	if a.metrics, err = newMetrics(a, options.Metrics); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	a.broker.Drain(a.refuses())
	if board != nil {
		a.broker.Join(a)
		if a.watcher, err = broker.Watch(); err != nil {
			return nil, fmt.Errorf("watch sessions: %w", err)
		}
	}
	return a, nil
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// String names the Agent among the daemon's tasks.
func (a *Agent) String() string { return "fleet" }

// Run works until ctx is done, then returns nil. Nothing that fails with the board ends it.
func (a *Agent) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	wait.Go(func() { a.empty(ctx) })
	if a.board != nil {
		defer a.watcher.Close()
		for _, part := range []func(context.Context){a.refresh, a.follow, a.reassert, a.tell} {
			wait.Go(func() { part(ctx) })
		}
	}
	a.beat(ctx)
	wait.Wait()
	return a.leave(ctx)
}

// leave tells the others that nobody serves here any more.
func (a *Agent) leave(ctx context.Context) error {
	if a.board == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ioTimeout)
	defer cancel()
	node := a.self()
	node.State = Stopped
	if _, err := a.board.Announce(ctx, node, 3*a.Heartbeat); err != nil {
		a.Logger.Debug().Err(err).Msg("the other servers were not told of the end; they notice by silence")
	}
	return nil
}

// beat gives signs of life and looks for those of the others.
func (a *Agent) beat(ctx context.Context) {
	up := true
	for {
		err := a.meet(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && up:
			a.Logger.Warn().Err(err).Msg("the other servers cannot be reached; tunnels and logins go on")
		case err == nil && !up:
			a.Logger.Info().Msg("the other servers can be reached again")
		}
		up = err == nil
		a.metrics.reach(up)
		timer := time.NewTimer(a.Heartbeat)
		select {
		case <-timer.C:
		case <-a.beats:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// meet is one heartbeat. What was read last of the others holds while nothing can be read.
func (a *Agent) meet(ctx context.Context) error {
	self := a.self()
	defer func() { a.aim(self) }()
	if a.board == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	known, err := a.board.Announce(ctx, self, 3*a.Heartbeat)
	if err != nil {
		return err
	}
	if a.posted.Swap(true) && !known { // whatever else was on the board is gone, too
		a.Logger.Info().Msg("the other servers had forgotten this one; they are told of all its sessions again")
		poke(a.behind)
		poke(a.doubt)
	}
	nodes, err := a.board.Nodes(ctx)
	if err != nil {
		return err
	}
	var peers []Node
	for _, n := range nodes {
		if n.Name != a.Name {
			peers = append(peers, n)
		}
	}
	a.peers.Store(&peers)
	return nil
}

// self is this server as it is now.
func (a *Agent) self() Node {
	status := a.broker.Status()
	node := Node{
		Name: a.Name, Address: a.Address, Epoch: a.started.Truncate(time.Millisecond).UTC(), Capacity: capacity(status.Config),
		Version: a.Version, State: Serving, Seen: a.Clock().UTC(),
	}
	for _, n := range status.Active {
		node.Sessions += n
	}
	switch {
	case a.draining.Load() && node.Sessions+status.Offered+status.Ending == 0:
		node.State = Drained
	case a.draining.Load():
		node.State = Draining
	case a.Balance == Always:
		node.State = Broking
	case !status.Ready:
		node.State = Stopped
	}
	return node
}

// capacity is how many sessions a server has room for: what it may have, and what its pools hold.
func capacity(c provision.Config) int {
	indices := 0
	for _, pool := range c.Pools {
		indices += int(pool.Size) - 1
	}
	return min(indices, c.MaxSessions)
}

// refuses tells whether no session may begin here.
func (a *Agent) refuses() bool { return a.draining.Load() || a.Balance == Always }

// known are the other servers as last read.
func (a *Agent) known() []Node {
	if peers := a.peers.Load(); peers != nil {
		return *peers
	}
	return nil
}

// poke fills a channel of one slot.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
