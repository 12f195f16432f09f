// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
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

// Limits bounds what strangers can make a Server do. A field that is 0 takes the default named with it.
type Limits struct {
	Dialogues   int           // UDP dialogues in memory at a time: 65536
	Connections int           // TCP connections at a time: 4096
	PerSource   int           // of either, from one source (an IPv4 address, an IPv6 /64): 256
	Rate        float64       // messages a second from one source: 200; Unlimited turns it off
	Burst       int           // messages at once from one source: 1000
	Sources     int           // sources the rate limit remembers: 65536
	Workers     int           // UDP requests in the Backend at a time: 128
	Queue       int           // UDP requests waiting for a worker; beyond it the client hears 530: 4096
	AuthTimeout time.Duration // from the first message to a verified login: 30 s
	Timeout     time.Duration // from the first message to accept: 90 s
	Drain       time.Duration // how long Run lets dialogues in progress finish when it is told to stop: 2 s
}

// Unlimited is Limits.Rate without a limit.
const Unlimited = -1

// Validate says which limit makes no sense.
func (l Limits) Validate() error { return errors.ErrUnsupported }

// Server answers TSP clients on a set of sockets.
type Server struct{}

// NewServer checks config and makes a Server that has not started.
func NewServer(config ServerConfig) (*Server, error) { return nil, errors.ErrUnsupported }

// Run serves until ctx is done or a socket fails. When ctx is done, new dialogues are turned away with 530 (or to the
// Capability's Redirect) while those in progress may finish, at most for Limits.Drain; then the sockets are closed.
// It may be called once. The error is nil after ctx.
func (s *Server) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Ready is closed as soon as all sockets are served.
func (s *Server) Ready() <-chan struct{} { return nil }

// String names the Server in logs.
func (s *Server) String() string { return "tsp server" }
