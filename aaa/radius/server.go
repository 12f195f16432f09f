// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"layeh.com/radius"
)

// Server is one RADIUS server and how it is spoken to. Address and Secret are required.
type Server struct {
	Name     string      // in logs and metrics; "" is Address
	Address  string      // "host:port"; a name is looked up at each new link
	Secret   []byte      // shared secret; over TLS "" is "radsec" (RFC 6614 section 2.3)
	TLS      *tls.Config // not nil: RadSec instead of UDP
	Priority int         // servers of a lower number are asked first
	Weight   int         // share among servers of the same priority; 0: 1
	InFlight int         // requests outstanding at a time, the rest waits; 0: DefaultInFlight, at most 4096
	Queue    int         // requests that may wait; 0: 4096
	// MessageAuthenticator says whether replies to an Access-Request must be signed.
	MessageAuthenticator Policy
	// NoStatus: the server does not answer Status-Server; a dead one is tried again when its dead time is over.
	NoStatus bool
}

// DefaultInFlight is how many requests, of whatever size, fit into the socket of a server on a Linux as it comes: it takes 2304
// octets for one, of net.core.rmem_default, 208 KB, and may be behind by a quarter of that in counting them. Twice as many get
// lost whenever the server is busy for a moment, and each then waits for its retransmission.
const DefaultInFlight = 64

// Errors of one exchange with one server, each a reason to try the next.
var (
	errSilent  = errors.New("no reply")
	errRefused = errors.New("connection refused")
	errQueue   = errors.New("too many requests waiting")
)

// ErrReply tells that a server did answer, but not so that it could be believed.
var ErrReply = errors.New("a reply was not believed")

// server is a Server with its state.
type server struct {
	Server
	counters
	signer  *signer
	timers  timers
	metrics *metrics

	slots   chan struct{} // one element a request in flight
	waiting atomic.Int32

	mu       sync.Mutex
	links    []*link
	dialErr  error     // of the last attempt to open a link
	dialNext time.Time // no attempt before this

	signs     atomic.Bool  // a valid Message-Authenticator was seen: policy Auto requires it from now on
	silences  atomic.Int32 // exchanges without reply since the last reply
	deadUntil atomic.Int64 // Unix nanoseconds
}

func newServer(cfg Server, t timers, m *metrics) (*server, error) {
	if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
		return nil, fmt.Errorf("server address %q: expected host:port: %w", cfg.Address, err)
	}
	if cfg.Name == "" {
		cfg.Name = cfg.Address
	}
	if len(cfg.Secret) == 0 && cfg.TLS != nil {
		cfg.Secret = []byte("radsec")
	}
	if len(cfg.Secret) == 0 {
		return nil, fmt.Errorf("server %s: a shared secret is required", cfg.Name)
	}
	setDefault(&cfg.Weight, 1)
	setDefault(&cfg.InFlight, DefaultInFlight)
	setDefault(&cfg.Queue, 4096)
	if cfg.Weight < 0 || cfg.InFlight < 0 || cfg.InFlight > 4096 || cfg.Queue < 0 {
		return nil, fmt.Errorf("server %s: weight, in_flight (at most 4096) and queue may not be negative", cfg.Name)
	}
	return &server{Server: cfg, counters: m.of(cfg.Name), signer: newSigner(cfg.Secret), timers: t, metrics: m, slots: make(chan struct{}, cfg.InFlight)}, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// requiresMA applies the policy on replies without Message-Authenticator.
func (s *server) requiresMA() bool {
	switch s.MessageAuthenticator {
	case Require:
		return true
	case Accept:
		return false
	default:
		return s.signs.Load()
	}
}

// heard notes a verified reply.
func (s *server) heard(signed bool) {
	s.silences.Store(0)
	s.deadUntil.Store(0)
	if signed {
		s.signs.Store(true)
	}
}

// failed notes an exchange without reply; after dead.After of them in a row the server is dead for a while.
func (s *server) failed(now time.Time, dead Dead) {
	if s.silences.Add(1) >= int32(dead.After) {
		s.deadUntil.Store(now.Add(dead.Time).UnixNano())
	}
}

func (s *server) dead(now time.Time) bool { return s.deadUntil.Load() > now.UnixNano() }

// question is one request as it is put to one server after the other.
type question struct {
	code    radius.Code
	build   Builder
	patient bool      // there is nobody else to ask: wait as long as end and the timers allow
	end     time.Time // of all waiting; a context of its own would cost each request as much as its timer
}

// exchange asks this server once.
func (s *server) exchange(ctx context.Context, q question) (*Reply, error) {
	alive := !s.dead(time.Now())
	if err := s.enter(ctx, q.end); err != nil {
		return nil, err
	}
	defer func() { <-s.slots }()
	if alive && !q.patient && s.dead(time.Now()) {
		return nil, errSilent // as others found while this one waited for its place
	}
	p := &pending{done: make(chan result, 1)}
	l, id, err := s.slot(ctx, p)
	if err != nil {
		return nil, err
	}
	defer l.give(id)
	request, wire, err := s.encode(q.code, id, q.build)
	if err != nil {
		return nil, err
	}
	l.arm(p, wire)
	began := time.Now()
	reply, err := s.await(ctx, l, p, q)
	if err != nil {
		if doubt := p.doubt.Load(); doubt != nil {
			err = fmt.Errorf("%w; %w: %w", err, ErrReply, *doubt)
		}
		return nil, err
	}
	s.latency.Observe(time.Since(began).Seconds())
	packet, err := radius.Parse(reply, s.Secret)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", s.Name, err)
	}
	return &Reply{Packet: packet, Request: request, Server: s.Name}, nil
}

// enter waits for a place among the requests in flight.
func (s *server) enter(ctx context.Context, end time.Time) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	if int(s.waiting.Add(1)) > s.Queue {
		s.waiting.Add(-1)
		return errQueue
	}
	defer s.waiting.Add(-1)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errQueue, ctx.Err())
	}
}

// slot finds a link with a free identifier, or opens one. In flight are at most 16 x 256, so there are at most 17 links.
func (s *server) slot(ctx context.Context, p *pending) (*link, byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.links[:0]
	for _, l := range s.links {
		if !l.isDown() {
			up = append(up, l)
		}
	}
	clear(s.links[len(up):])
	s.links = up
	for _, l := range s.links {
		if id, ok := l.take(p); ok {
			return l, id, nil
		}
	}
	if now := time.Now(); now.Before(s.dialNext) {
		return nil, 0, s.dialErr
	}
	l, err := s.open(ctx)
	if err != nil {
		s.dialErr, s.dialNext = fmt.Errorf("server %s: %w", s.Name, err), time.Now().Add(redial)
		return nil, 0, s.dialErr
	}
	s.links = append(s.links, l)
	id, _ := l.take(p)
	return l, id, nil
}

// redial is the least time between two attempts to open a link that failed.
const redial = 500 * time.Millisecond

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		l.fail(nil)
	}
	s.links = nil
}

// await sends and sends again until the reply is there, the timers have run out, the time is over or ctx is done.
func (s *server) await(ctx context.Context, l *link, p *pending, q question) ([]byte, error) {
	tries := s.timers.tries(q.patient)
	wait := s.timers.first()
	timer := time.NewTimer(min(wait, time.Until(q.end)))
	defer timer.Stop()
	if err := s.transmit(l, p); err != nil && !q.patient {
		return nil, err
	}
	for n := 1; ; {
		select {
		case r := <-p.done:
			if r.err == nil {
				return r.wire, nil
			}
			if errors.Is(r.err, errRefused) && q.patient {
				continue // it may be restarting: the timer sends again
			}
			return nil, r.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			if !time.Now().Before(q.end) {
				return nil, fmt.Errorf("%w: %w", errSilent, context.DeadlineExceeded)
			}
			if n >= tries {
				return nil, errSilent
			}
			n++
			if err := s.retransmit(l, p); err != nil && !q.patient {
				return nil, err
			}
			wait = s.timers.next(wait)
			timer.Reset(min(wait, time.Until(q.end)))
		}
	}
}

func (s *server) transmit(l *link, p *pending) error {
	s.requests.Inc()
	if err := l.send(p.wire); err != nil {
		return fmt.Errorf("server %s: %w", s.Name, err)
	}
	return nil
}

// retransmit sends the same octets again, except on a stream, which loses nothing (RFC 6613 section 2.6.1).
func (s *server) retransmit(l *link, p *pending) error {
	if s.TLS != nil {
		return nil
	}
	s.retransmissions.Inc()
	return s.transmit(l, p)
}
