// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// ServerConfig is what a Server is made of. Backend and at least one socket are required; every other zero value is a
// good default.
type ServerConfig struct {
	Backend Backend

	// UDP and TCP are opened sockets, bound to one address or to the wildcard. The Server takes them over: it closes
	// them when Run returns.
	UDP []*net.UDPConn
	TCP []net.Listener

	// Inner takes a bare IPv6 packet that came up on a signalling socket (local), because the kernel had to reassemble
	// it or found IP options on it. It must not block nor keep packet. nil: such packets are counted and dropped.
	Inner func(local, remote netip.AddrPort, packet []byte)

	Limits  Limits
	Log     zerolog.Logger        // debug lines a dialogue; the zero value is silent
	Metrics prometheus.Registerer // nil: not registered
	Now     func() time.Time      // nil: time.Now
	Rand    io.Reader             // nil: crypto/rand.Reader
}

// Server answers TSP clients on a set of sockets.
type Server struct {
	backend   Backend
	innerHook func(local, remote netip.AddrPort, packet []byte)
	limits    atomic.Pointer[Limits] // with defaults
	log       zerolog.Logger
	metrics   *metrics
	now       func() time.Time
	rand      io.Reader
	limiter   *limiter
	refusals  *refusals
	proven    *proven
	sockets   []*udpSocket
	udp       *udpServer
	tcp       *tcpServer
	calls     context.Context // of the Backend's; outlives Run's for Limits.Drain
	started   atomic.Bool
	draining  atomic.Bool
	ready     chan struct{}
}

// NewServer checks config and makes a Server that has not started. When it fails the sockets are still the caller's.
func NewServer(config ServerConfig) (*Server, error) {
	if config.Backend == nil || len(config.UDP)+len(config.TCP) == 0 {
		return nil, errors.New("a TSP server needs a backend and a socket")
	}
	if err := config.Limits.Validate(); err != nil {
		return nil, err
	}
	s := &Server{backend: config.Backend, innerHook: config.Inner, log: config.Log,
		metrics: newMetrics(), now: config.Now, rand: config.Rand, ready: make(chan struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	limits := config.Limits.withDefaults()
	s.limits.Store(&limits)
	s.limiter = newLimiter(limits.Rate, limits.Burst, limits.Sources, s.now())
	s.refusals, s.proven = newRefusals(s.now()), newProven()
	s.udp, s.tcp = newUDPServer(s), newTCPServer(s, config.TCP)
	for _, conn := range config.UDP {
		socket, err := newUDPSocket(s, conn)
		if err != nil {
			return nil, err
		}
		s.sockets = append(s.sockets, socket)
	}
	s.gauges()
	if err := s.metrics.register(config.Metrics); err != nil {
		return nil, fmt.Errorf("tsp metrics: %w", err)
	}
	return s, nil
}

// gauges shows the tables.
func (s *Server) gauges() {
	tables := map[string]*table{"udp": s.udp.table, "tcp": s.tcp.table}
	answered := map[string]func() int{"udp": s.udp.remembered, "tcp": func() int { return s.tcp.table.count(over) }}
	for network, t := range tables {
		for state, count := range map[string]func() int{
			"login": func() int { return t.count(stranger) }, "open": func() int { return t.count(known) }, "answered": answered[network],
		} {
			s.metrics.gauge("dialogues", "Dialogues in memory by network and state: login (no credential yet), open, answered (remembered for retransmissions).",
				prometheus.Labels{"network": network, "state": state}, func() float64 { return float64(count()) })
		}
	}
	s.metrics.gauge("queued_requests", "UDP requests waiting for a worker.", nil, func() float64 { return float64(len(s.udp.jobs) + len(s.udp.forgeable)) })
}

// Run serves until ctx is done or a socket fails. When ctx is done, new dialogues are turned away with 530 (or to the
// Capability's Redirect) while those in progress may finish, at most for Limits.Drain; then the sockets are closed and open
// offers given back. It may be called once. The error is nil after ctx.
func (s *Server) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("tsp server was already started")
	}
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.calls = calls

	var workers sync.WaitGroup
	for i := range s.limits.Load().Workers {
		only := i%4 == 3 // a flood of forged logins leaves these
		workers.Go(func() { s.udp.worker(only) })
	}
	var senders sync.WaitGroup
	for _, socket := range s.sockets {
		senders.Go(socket.outbox.serve)
	}
	group, failed := errgroup.WithContext(ctx)
	serving, stop := context.WithCancel(calls)
	defer stop()
	for _, socket := range s.sockets {
		group.Go(socket.serve)
	}
	for _, listener := range s.tcp.listeners {
		group.Go(func() error { return s.tcp.serve(serving, listener) })
	}
	group.Go(func() error {
		s.tend(failed)
		stop()
		s.close()
		return nil
	})
	close(s.ready)
	s.log.Info().Int("udp", len(s.sockets)).Int("tcp", len(s.tcp.listeners)).Msg("tsp server ready")
	err := group.Wait()

	cancel() // calls still in the Backend
	s.tcp.connections.Wait()
	s.udp.stop()
	workers.Wait()
	for _, socket := range s.sockets {
		socket.outbox.stop()
	}
	senders.Wait()
	return err
}

// tend sweeps until ctx is done, then waits for the dialogues in progress to end.
func (s *Server) tend(ctx context.Context) {
	const rest, hurry = time.Second, 20 * time.Millisecond
	tick := time.NewTicker(rest)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.udp.sweep(s.now())
			continue
		case <-ctx.Done():
		}
		break
	}
	s.draining.Store(true)
	s.log.Info().Int("udp", s.udp.busy()).Int("tcp", s.tcp.table.busy()).Msg("tsp server lets dialogues finish")
	tick.Reset(hurry)
	end := time.NewTimer(s.limits.Load().Drain)
	defer end.Stop()
	for s.udp.busy()+s.tcp.table.busy() > 0 {
		select {
		case <-tick.C:
		case <-end.C:
			return
		}
	}
}

// close closes all sockets, which ends those who read them. What closing them says is of no use to anybody.
func (s *Server) close() {
	for _, socket := range s.sockets {
		_ = socket.conn.Close()
	}
	s.tcp.close()
}

// Ready is closed as soon as all sockets are served.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// String names the Server in logs.
func (s *Server) String() string { return "tsp server" }
