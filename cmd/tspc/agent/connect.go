// SPDX-License-Identifier: GPL-2.0-or-later

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"ddtb/cmd/tspc/host"
	"ddtb/tsp"
)

// Server is a tunnel broker by name or address.
type Server struct {
	Host string
	Port uint16
}

// DefaultPort is TSP's (RFC 5572 section 7).
const DefaultPort = 3653

// String gives host:port, without the port if it is TSP's.
func (s Server) String() string {
	if s.Port == DefaultPort {
		return s.Host
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}

// What one round may do, whatever servers answer.
const (
	maxHops      = 5  // redirections in a row
	maxAttempts  = 24 // dialogues
	maxAddresses = 4  // of one server
)

// Errors of an attempt.
var (
	errRefused  = errors.New("refused")
	errVisited  = errors.New("asked already in this round")
	errHops     = fmt.Errorf("redirected more than %d times", maxHops)
	errAttempts = fmt.Errorf("more than %d servers asked", maxAttempts)
)

// round is one visit to every server.
type round struct {
	*Agent
	visited  map[netip.AddrPort]bool
	attempts int
}

// connect asks every configured server once, and those they send us to, until one gives a tunnel. Each failure is
// reported; the error joins them.
func (a *Agent) connect(ctx context.Context) (Session, error) {
	a.begun = time.Now()
	a.tried = make(map[netip.Addr]host.Path)
	r := &round{Agent: a, visited: make(map[netip.AddrPort]bool)}
	var failed []error
	for _, server := range a.Servers {
		session, err := r.ask(ctx, server, 0)
		if err == nil {
			return session, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failed...)
}

// ask asks one server at each of its addresses until one answers; hops redirections led there.
func (r *round) ask(ctx context.Context, server Server, hops int) (Session, error) {
	addresses, err := r.Dialer.Resolve(ctx, server)
	if err != nil {
		return nil, r.fail(ctx, server, netip.AddrPort{}, err)
	}
	for _, address := range addresses[:min(len(addresses), maxAddresses)] {
		session, e := r.dial(ctx, server, address)
		if e == nil {
			return session, nil
		}
		err = e
		var status *tsp.StatusError
		if errors.As(err, &status) {
			if len(status.Brokers) > 0 {
				return r.follow(ctx, server, address, status, hops)
			}
			break // all addresses of a server know the same
		}
	}
	return nil, err
}

// dial holds one dialogue.
func (r *round) dial(ctx context.Context, server Server, address netip.AddrPort) (Session, error) {
	switch {
	case r.visited[address]:
		return nil, r.fail(ctx, server, address, errVisited)
	case r.attempts == maxAttempts:
		return nil, r.fail(ctx, server, address, errAttempts)
	}
	r.visited[address] = true
	r.attempts++
	path, err := r.Machine.Path(address.Addr())
	r.tried[address.Addr()] = path
	if err != nil {
		return nil, r.fail(ctx, server, address, err)
	}
	r.Report(Event{Kind: Connecting, Server: server, Address: address})
	session, err := r.Dialer.Dial(ctx, address)
	var status *tsp.StatusError
	if err != nil && !(errors.As(err, &status) && status.Redirect()) {
		return nil, r.fail(ctx, server, address, err)
	}
	return session, err
}

// follow asks the brokers another one named (RFC 5572 section 4.7.4), the nearest first.
func (r *round) follow(ctx context.Context, from Server, address netip.AddrPort, status *tsp.StatusError, hops int) (Session, error) {
	if hops == maxHops {
		return nil, r.fail(ctx, from, address, errHops)
	}
	brokers := status.Brokers
	r.Report(Event{Kind: Redirected, Server: from, Address: address, Brokers: brokers})
	if len(brokers) > 1 {
		if ranked := r.Dialer.Rank(ctx, brokers); len(ranked) > 0 {
			brokers = ranked
		}
	}
	var failed []error
	for _, broker := range brokers {
		session, err := r.ask(ctx, serverOf(broker), hops+1)
		if err == nil {
			return session, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil || r.attempts == maxAttempts {
			break
		}
	}
	return nil, errors.Join(failed...)
}

// fail reports why a server gave no tunnel. The error wraps errRefused if it would not give one to the same request
// later either: user, password or what is asked for must change first.
func (r *round) fail(ctx context.Context, server Server, address netip.AddrPort, err error) error {
	if ctx.Err() == nil {
		r.Report(Event{Kind: Failed, Server: server, Address: address, Err: err})
	}
	var status *tsp.StatusError
	if errors.Is(err, tsp.ErrMechanism) || errors.As(err, &status) && !status.Code.Temporary() {
		return fmt.Errorf("%v: %w: %w", server, errRefused, err)
	}
	return fmt.Errorf("%v: %w", server, err)
}

// serverOf is where a broker of a redirection listens: the list has no port.
func serverOf(broker tsp.Broker) Server {
	if broker.Addr.IsValid() {
		return Server{Host: broker.Addr.String(), Port: DefaultPort}
	}
	return Server{Host: broker.Name, Port: DefaultPort}
}
