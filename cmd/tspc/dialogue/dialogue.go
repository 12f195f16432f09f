// SPDX-License-Identifier: GPL-2.0-or-later

// Package dialogue gets tunnels from TSP servers for an agent.Agent: names become addresses, a dialogue is held up to
// accept, and an offer that makes no sense is rejected before it can touch the machine.
package dialogue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"ddtb/cmd/tspc/agent"
	"ddtb/tsp"
)

const (
	resolveTimeout = 5 * time.Second
	rankTimeout    = 3 * time.Second
	dialTimeout    = 90 * time.Second // a whole dialogue
)

// Dialer implements agent.Dialer. Its fields are not changed once it is in use.
type Dialer struct {
	Client  tsp.Client
	Network string      // as of tsp.Client.Dial: "udp4", "tcp4" or "" for what works
	Request tsp.Request // what is asked of each server
	Lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	Log     zerolog.Logger

	mutex sync.Mutex
	known map[agent.Server][]netip.AddrPort // what names stood for when they were resolved last
}

// Resolve implements agent.Dialer. A name that cannot be resolved now is what it was last: the resolver may be behind
// the tunnel that is to be opened.
func (d *Dialer) Resolve(ctx context.Context, server agent.Server) ([]netip.AddrPort, error) {
	if address, err := netip.ParseAddr(server.Host); err == nil {
		if !address.Unmap().Is4() {
			return nil, fmt.Errorf("%v is no IPv4 address", address)
		}
		return []netip.AddrPort{netip.AddrPortFrom(address.Unmap(), server.Port)}, nil
	}
	lookup, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addresses, err := d.Lookup(lookup, "ip4", server.Host)
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if err != nil || len(addresses) == 0 {
		if last := d.known[server]; len(last) > 0 {
			d.Log.Warn().Err(err).Str("server", server.String()).Msg("name not found, using the addresses it had")
			return slices.Clone(last), nil
		}
		return nil, errors.Join(fmt.Errorf("%s has no IPv4 address", server.Host), err)
	}
	found := make([]netip.AddrPort, len(addresses))
	for i, address := range addresses {
		found[i] = netip.AddrPortFrom(address.Unmap(), server.Port)
	}
	if d.known == nil {
		d.known = make(map[agent.Server][]netip.AddrPort)
	}
	if len(d.known) >= maxKnown {
		clear(d.known) // names come from redirections too
	}
	d.known[server] = found
	return slices.Clone(found), nil
}

// maxKnown bounds the names remembered.
const maxKnown = 64

// Rank implements agent.Dialer.
func (d *Dialer) Rank(ctx context.Context, brokers []tsp.Broker) []tsp.Broker {
	ctx, cancel := context.WithTimeout(ctx, rankTimeout)
	defer cancel()
	return d.Client.Probe(ctx, brokers)
}

// Dial implements agent.Dialer.
func (d *Dialer) Dial(ctx context.Context, server netip.AddrPort) (agent.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := d.Client.Dial(ctx, d.Network, server.String())
	if err != nil {
		return nil, err
	}
	session, err := d.negotiate(ctx, conn, server)
	return session, errors.Join(err, conn.Close())
}

// negotiate holds the dialogue on conn, which stays open.
func (d *Dialer) negotiate(ctx context.Context, conn *tsp.Conn, server netip.AddrPort) (agent.Session, error) {
	if err := conn.Login(ctx); err != nil {
		return nil, err
	}
	offer, err := conn.Create(ctx, d.Request)
	if err != nil {
		return nil, err
	}
	peer := conn.Peer()
	if offer, err = check(offer, d.Request, peer.Network); err != nil {
		_ = conn.Reject(ctx)
		return nil, err
	}
	if err := conn.Accept(ctx); err != nil {
		return nil, err
	}
	session := &Session{dialer: d, info: agent.Info{
		Server: server, Local: peer.Local.Addr().Unmap(), Transport: peer.Network, Offer: offer,
	}}
	if offer.Type == tsp.V6UDPV4 {
		socket, ok := conn.Detach().(*net.UDPConn)
		if !ok {
			panic("dialogue: the tsp client's UDP socket is not a *net.UDPConn")
		}
		session.socket = socket
	}
	return session, nil
}

// Session implements agent.Session.
type Session struct {
	dialer *Dialer
	info   agent.Info
	socket *net.UDPConn
}

// Info implements agent.Session.
func (s *Session) Info() agent.Info { return s.info }

// Socket implements agent.Session.
func (s *Session) Socket() *net.UDPConn { return s.socket }

// Close implements agent.Session.
func (s *Session) Close() error {
	if s.socket == nil {
		return nil
	}
	return s.socket.Close()
}

// Delete implements agent.Session. Over UDP the dialogue is held on the tunnel's own socket, by which a server also
// knows the tunnel of an anonymous user (RFC 5572 section 4.5.2).
func (s *Session) Delete(ctx context.Context) error {
	conn, err := s.reopen(ctx)
	if err != nil {
		return err
	}
	if err := conn.Login(ctx); err != nil {
		return errors.Join(err, conn.Close())
	}
	return errors.Join(conn.Delete(ctx), conn.Close())
}

func (s *Session) reopen(ctx context.Context) (*tsp.Conn, error) {
	if s.socket == nil {
		return s.dialer.Client.Dial(ctx, s.info.Transport+"4", s.info.Server.String())
	}
	socket := s.socket
	if err := socket.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	s.socket = nil // the tsp.Conn closes it
	return s.dialer.Client.Start(ctx, socket)
}
