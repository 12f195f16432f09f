// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"layeh.com/radius"

	"ddtb/aaa"
)

// Options of a Client. Zero fields mean the default named.
type Options struct {
	Servers []Server

	Retransmit time.Duration // first wait for a reply over UDP (RFC 5080 IRT); 0: 2 s
	Longest    time.Duration // longest wait between two transmissions (MRT); 0: 16 s
	Most       int           // transmissions to one server when there is no other (MRC); 0: 5
	Each       int           // transmissions to one server before the next is asked; 0: 2
	Timeout    time.Duration // for one exchange, all servers together; 0: 30 s
	Dead       Dead

	Registerer prometheus.Registerer // nil: no metrics
}

// Dead says when a silent server is left alone.
type Dead struct {
	After int           // exchanges in a row without reply; 0: 2
	Time  time.Duration // how long, unless it answers a Status-Server before; 0: 1 min
	Probe time.Duration // between two Status-Server; 0: 5 s
}

// Builder adds attributes to a request. Secret and Authenticator are set; it is called once a server that is tried,
// since what is encrypted with them differs.
type Builder func(request *radius.Packet) error

// Reply is a verified answer.
type Reply struct {
	Packet  *radius.Packet
	Request *radius.Packet // as it was sent to the server that answered; its Authenticator decrypts attributes
	Server  string
}

// Client asks an ordered set of servers. All methods may be called by many goroutines at once.
type Client struct {
	servers []*server // by priority
	timeout time.Duration
	dead    Dead
}

// NewClient makes a Client; nothing is opened before the first request. The error says what is wrong with the Options.
func NewClient(o Options) (*Client, error) {
	if len(o.Servers) == 0 {
		return nil, errors.New("no RADIUS server given")
	}
	setDefault(&o.Retransmit, 2*time.Second)
	setDefault(&o.Longest, max(16*time.Second, o.Retransmit))
	setDefault(&o.Most, 5)
	setDefault(&o.Each, 2)
	setDefault(&o.Timeout, 30*time.Second)
	setDefault(&o.Dead.After, 2)
	setDefault(&o.Dead.Time, time.Minute)
	setDefault(&o.Dead.Probe, 5*time.Second)
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	c := &Client{timeout: o.Timeout, dead: o.Dead}
	t := timers{initial: o.Retransmit, longest: o.Longest, most: o.Most, each: o.Each}
	for _, cfg := range o.Servers {
		s, err := newServer(cfg, t, m)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, s)
		m.watch(s)
	}
	slices.SortStableFunc(c.servers, func(a, b *server) int { return a.Priority - b.Priority })
	return c, nil
}

// Exchange sends a request and returns its verified reply. Servers are asked in the order of their priority, dead ones
// last, and again until one answers or the time is over. The error then wraps aaa.ErrUnavailable.
func (c *Client) Exchange(ctx context.Context, code radius.Code, build Builder) (*Reply, error) {
	q := question{code: code, build: build, end: time.Now().Add(c.timeout)}
	var last, before error
	for {
		began := time.Now()
		order := c.order(began)
		q.patient = len(order) == 1
		for _, s := range order {
			reply, err := s.exchange(ctx, q)
			if err == nil {
				return reply, nil
			}
			var bad *buildError
			if errors.As(err, &bad) {
				return nil, bad.error
			}
			before, last = last, fmt.Errorf("server %s: %w", s.Name, err)
			if !errors.Is(err, errQueue) && !errors.Is(err, context.Canceled) {
				s.failed(time.Now(), c.dead)
			}
			if ctx.Err() == nil && time.Now().Before(q.end) {
				continue
			}
			if before != nil { // why, is told by the one before that was not cut short
				last = fmt.Errorf("%w; before that %w", last, before)
			}
			return nil, fmt.Errorf("%w: %w", aaa.ErrUnavailable, last)
		}
		// All may have refused at once: do not spin.
		if err := pause(ctx, min(redial-time.Since(began), time.Until(q.end))); err != nil || !time.Now().Before(q.end) {
			return nil, fmt.Errorf("%w: %w", aaa.ErrUnavailable, last)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// order returns whom to ask: servers alive by priority, among equals the one with the most room for its weight first.
// Are all dead, all are asked.
func (c *Client) order(now time.Time) []*server {
	order := make([]*server, 0, len(c.servers))
	for _, s := range c.servers {
		if !s.dead(now) {
			order = append(order, s)
		}
	}
	if len(order) == 0 {
		order = append(order, c.servers...)
	}
	if len(order) < 2 {
		return order
	}
	load := make(map[*server]float64, len(order))
	for _, s := range order {
		load[s] = (float64(len(s.slots)) + float64(s.waiting.Load()) + mrand.Float64()) / float64(s.Weight) // #nosec G404
	}
	slices.SortStableFunc(order, func(a, b *server) int {
		switch {
		case a.Priority != b.Priority:
			return a.Priority - b.Priority
		case load[a] < load[b]:
			return -1
		case load[a] > load[b]:
			return 1
		}
		return 0
	})
	return order
}

// Run asks dead servers whether they are back until ctx is done, then closes all links and returns nil.
func (c *Client) Run(ctx context.Context) error {
	ticker := time.NewTicker(c.dead.Probe)
	defer ticker.Stop()
	defer c.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			for _, s := range c.servers {
				if s.dead(now) && !s.NoStatus {
					go c.probe(ctx, s)
				}
			}
		}
	}
}

// probe sends one Status-Server (RFC 5997); a reply makes the server alive by itself.
func (c *Client) probe(ctx context.Context, s *server) {
	_, _ = s.exchange(ctx, question{
		code: radius.CodeStatusServer, build: func(*radius.Packet) error { return nil }, end: time.Now().Add(c.dead.Probe)})
}

func (c *Client) close() {
	for _, s := range c.servers {
		s.close()
	}
}

// buildError is an error of a Builder or of encoding: asking another server would not help.
type buildError struct{ error }

// encode makes a request and its wire form. An Access-Request and a Status-Server are signed; an Accounting-Request is not,
// its authenticator covers it already and RFC 3579 knows no such attribute there.
func (s *server) encode(code radius.Code, id byte, build Builder) (*radius.Packet, []byte, error) {
	request := &radius.Packet{Code: code, Identifier: id, Secret: s.Secret}
	signed := code == radius.CodeAccessRequest || code == radius.CodeStatusServer
	if signed {
		if _, err := rand.Read(request.Authenticator[:]); err != nil {
			return nil, nil, err
		}
		request.Add(attrMessageAuthenticator, make(radius.Attribute, messageAuthenticatorLen-2))
	}
	if err := build(request); err != nil {
		return nil, nil, &buildError{err}
	}
	wire, err := request.Encode()
	if err != nil {
		return nil, nil, &buildError{err}
	}
	if signed {
		s.signer.sign(wire, request.Authenticator[:])
	}
	copy(request.Authenticator[:], wire[4:headerLen])
	return request, wire, nil
}
