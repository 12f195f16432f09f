// SPDX-License-Identifier: GPL-2.0-or-later

package fleet_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/fleet"
	"ddtb/provision/lease"
	"ddtb/provision/redis/redistest"
)

// patience is how long a state is awaited, on a busy machine.
const patience = 30 * time.Second

// boards are what the tests of the Agent run over.
var boards = map[string]func(t *testing.T) func() fleet.Board{
	"memory": func(*testing.T) func() fleet.Board {
		board := fleet.NewMemory(nil)
		return func() fleet.Board { return board }
	},
	"redis": func(t *testing.T) func() fleet.Board {
		server := redistest.Start(t)
		return func() fleet.Board { return fleet.NewRedis(redistest.Open(t, server.Options()), nil) }
	},
}

// each runs a test over every kind of board.
func each(t *testing.T, test func(t *testing.T, open func() fleet.Board)) {
	for name, start := range boards {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

// shared is what servers have in common: a board, and a view of one lease store for each.
type shared struct {
	board func() fleet.Board
	store func(t *testing.T, node string) lease.Store
}

// eachShared runs a test over what is shared in memory and in Redis.
func eachShared(t *testing.T, test func(t *testing.T, f shared)) {
	t.Run("memory", func(t *testing.T) {
		store := leases(t)
		test(t, shared{boards["memory"](t), func(*testing.T, string) lease.Store { return store }})
	})
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t)
		board := func() fleet.Board { return fleet.NewRedis(redistest.Open(t, server.Options()), nil) }
		test(t, shared{board, func(t *testing.T, node string) lease.Store { return redisLeases(t, server, node) }})
	})
}

// redisLeases opens the lease store in a Redis for one server, past the grace of the new pools.
func redisLeases(t *testing.T, server *redistest.Server, node string) lease.Store {
	t.Helper()
	store, err := lease.OpenRedis(t.Context(), allPools(), lease.RedisOptions{
		Conn: redistest.Open(t, server.Options()), Node: node, Grace: 100 * time.Millisecond,
	})
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	probe := lease.Request{Pool: "homes", Owner: "probe", Session: "probe " + node, Node: node, TTL: time.Second}
	until(t, "the grace is over", func() bool {
		_, err := store.Acquire(t.Context(), probe)
		if err != nil && !errors.Is(err, lease.ErrGrace) {
			t.Fatal(err)
		}
		return err == nil
	})
	must(t, store.Release(t.Context(), lease.Holder{Pool: "homes", Index: 1, Session: probe.Session}))
	return store
}

// pools of every server here: the first is shared.
func pools(own string) []lease.Pool {
	return []lease.Pool{
		{
			Name: "homes", First: 1000, Size: 1 << 12, PrefixLen: 56,
			EndpointBase: netip.MustParseAddr("2001:db8:f000:1::"), PrefixBase: netip.MustParseAddr("2001:db8:1000::"),
		},
		{Name: own, First: 100000, Size: 256, EndpointBase: netip.MustParseAddr("2001:db8:f000:2::")},
	}
}

// allPools are the pools of the servers "ts1", "ts2" and "ts3".
func allPools() []lease.Pool {
	all := pools("only-ts1")
	for i, own := range []string{"only-ts2", "only-ts3"} {
		p := pools(own)[1]
		p.First += uint32(1000 * (i + 1))
		p.EndpointBase = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0xf0, 0, 0, byte(3 + i)})
		all = append(all, p)
	}
	return all
}

// leases make one store of all pools.
func leases(t *testing.T) lease.Store {
	t.Helper()
	store, err := lease.NewMemory(allPools(), lease.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// server is a tunnel server with all but the kernel.
type server struct {
	*testing.T
	*fleet.Agent
	name    string
	broker  *provision.Broker
	follows chan struct{} // closed once it hears what the others write
	posted  chan struct{} // closed once the others can know of it
	path    *datapath.Null
	records *aaatest.Recorder
	stop    func()
}

// config is what the servers have in common.
func config(name string) provision.Config {
	all := pools("only-" + name)
	switch name {
	case "ts2":
		all[1].First, all[1].EndpointBase = 101000, netip.MustParseAddr("2001:db8:f000:3::")
	case "ts3":
		all[1].First, all[1].EndpointBase = 102000, netip.MustParseAddr("2001:db8:f000:4::")
	}
	return provision.Config{Node: name, Server: netip.MustParseAddr("2001:db8:f000::1"), Pools: all, SweepInterval: time.Hour, LeaseTTL: 24 * time.Hour, MaxSessions: 1000}
}

// start runs a server; n is its number, in its name and address.
func start(t *testing.T, n byte, store lease.Store, board fleet.Board, change func(*fleet.Options, *provision.Config)) *server {
	t.Helper()
	s := prepare(t, n, store, board, change)
	s.run()
	return s
}

// prepare makes a server that serves, and says nothing to the others until it runs.
func prepare(t *testing.T, n byte, store lease.Store, board fleet.Board, change func(*fleet.Options, *provision.Config)) *server {
	t.Helper()
	s := &server{T: t, name: "ts" + string('0'+n), path: datapath.NewNull(time.Now), records: &aaatest.Recorder{}}
	c := config(s.name)
	options := fleet.Options{
		Name: s.name, Address: netip.AddrFrom4([4]byte{192, 0, 2, n}), Version: "test", Pace: 1000,
		Heartbeat: 200 * time.Millisecond, Refresh: time.Hour, Logger: zerolog.Nop(), Metrics: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&options, &c)
	}
	path := datapath.Config{Device: "test0", Local: []netip.AddrPort{s.local(n)}, Server: c.Server, MTU: 1480}
	for _, pool := range c.Pools {
		path.Pools = append(path.Pools, datapath.Pool(pool))
	}
	must(t, s.path.Configure(t.Context(), path))
	var err error
	s.broker, err = provision.New(c, provision.Deps{Store: store, Datapath: s.path, Accountant: s.records, Logger: zerolog.Nop()})
	must(t, err)
	must(t, s.broker.Recover(t.Context()))
	s.follows, s.posted = make(chan struct{}), make(chan struct{})
	if board != nil {
		board = &heard{board, sync.OnceFunc(func() { close(s.follows) }), sync.OnceFunc(func() { close(s.posted) })}
	}
	s.Agent, err = fleet.New(s.broker, board, options)
	must(t, err)
	return s
}

func (s *server) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- s.broker.Run(ctx) }()
	go func() { ended <- s.Agent.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			s.Error(err)
		}
		s.stop = func() {}
	}
	s.Cleanup(func() { s.stop() })
}

func (s *server) local(n byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), 3653)
}

// request is a login of a client.
func (s *server) request(user string, client byte) provision.Request {
	return provision.Request{
		Subscriber: aaa.Subscriber{Name: user, Backend: "local"}, Encap: datapath.V6UDPV4, Router: true, Keepalive: 30 * time.Second,
		Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, client}), 4000), Local: s.local(s.name[2] - '0'),
	}
}

// login is a login that has to come through.
func (s *server) login(user string, client byte) provision.Session {
	s.Helper()
	session, err := s.take(s.request(user, client))
	must(s.T, err)
	return session
}

func (s *server) take(r provision.Request) (provision.Session, error) {
	session, err := s.broker.Offer(context.Background(), r)
	if err == nil {
		err = s.broker.Activate(context.Background(), session.ID)
	}
	return session, err
}

// tunnels counts what forwards.
func (s *server) tunnels() (n int) {
	for _, err := range s.path.All(context.Background()) {
		must(s.T, err)
		n++
	}
	return n
}

// stopped awaits that a session is gone, with one Stop record of this cause.
func (s *server) stopped(session provision.Session, cause aaa.Cause) {
	s.Helper()
	until(s.T, "session "+session.ID+" has ended at "+s.name, func() bool {
		_, there := s.broker.Session(session.ID)
		return !there
	})
	records := s.records.Session(session.ID)
	if len(records) != 2 || records[0].Status != aaa.StatusStart || records[1].Status != aaa.StatusStop || records[1].Cause != cause {
		s.Errorf("records of %s: %+v; expected Start and Stop for cause %v", session.ID, records, cause)
	}
}

// heard is a board that tells when it is followed, and when its server stands on it.
type heard struct {
	fleet.Board
	ready, posted func()
}

// Announce implements fleet.Board.
func (h *heard) Announce(ctx context.Context, node fleet.Node, alive time.Duration) (known bool, err error) {
	if known, err = h.Board.Announce(ctx, node, alive); err == nil {
		h.posted()
	}
	return known, err
}

// Follow implements fleet.Reader.
func (h *heard) Follow(ctx context.Context, node string, f fleet.Follower) error {
	ready := f.Ready
	f.Ready = func() { ready(); h.ready() }
	return h.Board.Follow(ctx, node, f)
}

// sees awaits that a server hears the others, can be known to them and knows them in these states.
func (s *server) sees(want map[string]fleet.NodeState) {
	s.Helper()
	for what, done := range map[string]chan struct{}{"hears the others": s.follows, "is known to them": s.posted} {
		select {
		case <-done:
		case <-time.After(patience):
			s.Fatalf("not reached: %s %s", s.name, what)
		}
	}
	until(s.T, s.name+" sees the others", func() bool {
		nodes, err := s.Nodes(context.Background())
		must(s.T, err)
		found := 0
		for _, n := range nodes {
			if want[n.Name] == n.State {
				found++
			}
		}
		return found == len(want)
	})
}

// board lists what stands on the board for a server, by user.
func (s *server) listed(board fleet.Board, node string) map[string]fleet.Session {
	s.Helper()
	out := map[string]fleet.Session{}
	for session, err := range board.Sessions(context.Background(), node) {
		must(s.T, err)
		out[session.Subscriber.Name] = session
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until awaits a state.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !reached(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not reached: %s", what)
		}
	}
}
