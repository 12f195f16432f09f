// SPDX-License-Identifier: GPL-2.0-or-later

// Package tsptest helps to test what speaks TSP: a Backend in memory, the suite every tsp.Backend passes, and a real server on
// loopback for clients to talk to.
package tsptest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// What a NewBackend knows and gives.
const (
	User     = "alice"
	Password = "s3cret pw"
	Realm    = "test.example"
)

// Backend is a tsp.Backend in memory. Its fields may be changed until it is first used. A subscriber has one tunnel; each anonymous login is a
// subscriber of its own.
type Backend struct {
	Users   map[string]string // passwords by name, UTF-8
	Offered tsp.Capability    // given to everybody
	Offer   tsp.Offer         // what all tunnels have in common
	// Endpoint and Prefix are of the first subscriber; each next one has the next ones. Without a Prefix none is delegated.
	Endpoint netip.Addr
	Prefix   netip.Prefix
	// Fail is asked before each call ("authenticate", "create", "accept", "reject", "delete", "info"); the call fails with what it
	// returns. It may block, until ctx is done.
	Fail func(ctx context.Context, call, user string) error

	mu          sync.Mutex
	subscribers map[string]int // index by name
	tunnels     map[string]Tunnel
	logins      int
	created     int
	open        int
}

// Tunnel is one that was accepted.
type Tunnel struct {
	User    string // anonymous subscribers are called "anonymous-1" and so on
	Peer    tsp.Peer
	Request tsp.Request
	Offer   tsp.Offer
}

// NewBackend makes a Backend that knows User with Password, and offers all mechanisms and tunnel types.
func NewBackend() *Backend {
	server := netip.MustParseAddr("2001:db8:f00::1")
	return &Backend{
		Users: map[string]string{User: Password},
		Offered: tsp.Capability{Realm: Realm, Tunnels: []tsp.TunnelType{tsp.V6V4, tsp.V6UDPV4},
			Mechanisms: []sasl.Mechanism{sasl.Anonymous, sasl.Plain, sasl.DigestMD5, sasl.CramMD5}},
		Offer: tsp.Offer{Lifetime: 24 * time.Hour, ServerIPv6: server, KeepaliveTo: server, ClientName: User + ".tunnels.example",
			Resolvers: []netip.Addr{netip.MustParseAddr("2001:db8:cafe::1")}},
		Endpoint:    netip.MustParseAddr("2001:db8:f00::2"),
		Prefix:      netip.MustParsePrefix("2001:db8:1234::/48"),
		subscribers: map[string]int{},
		tunnels:     map[string]Tunnel{},
	}
}

// Tunnels gives those in force, by user.
func (b *Backend) Tunnels() map[string]Tunnel {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]Tunnel, len(b.tunnels))
	for user, tunnel := range b.tunnels {
		all[user] = tunnel
	}
	return all
}

// Offers tells how many offers are neither accepted nor rejected.
func (b *Backend) Offers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// Created tells how many offers were made.
func (b *Backend) Created() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.created
}

// Logins tells how many logins succeeded.
func (b *Backend) Logins() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logins
}

// Capability implements tsp.Backend.
func (b *Backend) Capability(tsp.Peer) tsp.Capability { return b.Offered }

// Authenticate implements tsp.Backend.
func (b *Backend) Authenticate(ctx context.Context, peer tsp.Peer, credential sasl.Credential) (tsp.Session, string, error) {
	user := credential.User()
	if err := b.fail(ctx, "authenticate", user); err != nil {
		return nil, "", err
	}
	proof, ok := b.verify(credential)
	if !ok {
		return nil, "", &tsp.StatusError{Code: tsp.StatusAuthFailed, Err: fmt.Errorf("wrong credential %v", credential)}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logins++
	if credential.Mechanism() == sasl.Anonymous {
		user = fmt.Sprintf("anonymous-%d", b.logins)
	}
	return &session{backend: b, peer: peer, user: user}, proof, nil
}

// verify checks a credential.
func (b *Backend) verify(credential sasl.Credential) (proof string, ok bool) {
	password, known := b.Users[credential.User()]
	switch c := credential.(type) {
	case sasl.AnonymousCredential:
		return "", true
	case sasl.PlainCredential:
		return "", known && c.Password == password
	case sasl.CramCredential:
		return "", known && c.Response == sasl.CramResponse(password, c.Challenge)
	case sasl.DigestCredential:
		response, rspauth := sasl.NewHA1(c.User(), c.Realm, password).Proofs(c)
		return rspauth, known && c.Response == response
	}
	return "", false
}

func (b *Backend) fail(ctx context.Context, call, user string) error {
	if b.Fail == nil {
		return nil
	}
	return b.Fail(ctx, call, user)
}

// session implements tsp.Session.
type session struct {
	backend *Backend
	peer    tsp.Peer
	user    string
	offer   *Tunnel
}

// Create implements tsp.Session.
func (s *session) Create(ctx context.Context, request tsp.Request) (tsp.Offer, error) {
	b := s.backend
	if s.offer != nil {
		if err := s.Reject(ctx); err != nil {
			return tsp.Offer{}, err
		}
	}
	if err := b.fail(ctx, "create", s.user); err != nil {
		return tsp.Offer{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	index, ok := b.subscribers[s.user]
	if !ok {
		index = len(b.subscribers)
		b.subscribers[s.user] = index
	}
	offer := b.Offer
	offer.Type, offer.Keepalive, offer.DNS = request.Type, request.Keepalive, request.DNS
	offer.ClientIPv6 = nth(netip.PrefixFrom(b.Endpoint, 128), index).Addr()
	if request.Router && b.Prefix.IsValid() {
		if request.PrefixLen != 0 && request.PrefixLen != b.Prefix.Bits() {
			return tsp.Offer{}, &tsp.StatusError{Code: tsp.StatusPrefixLength}
		}
		offer.Prefix = nth(b.Prefix, index)
	}
	b.created++
	b.open++
	s.offer = &Tunnel{User: s.user, Peer: s.peer, Request: request, Offer: offer}
	return offer, nil
}

// nth gives the prefix that follows index places behind p.
func nth(p netip.Prefix, index int) netip.Prefix {
	addr := p.Addr().As16()
	for bit := p.Bits() - 1; index > 0 && bit >= 0; bit-- {
		sum := index&1 + int(addr[bit/8]>>(7-bit%8)&1)
		addr[bit/8] = addr[bit/8]&^(1<<(7-bit%8)) | byte(sum&1)<<(7-bit%8)
		index = index>>1 + sum>>1
	}
	return netip.PrefixFrom(netip.AddrFrom16(addr), p.Bits())
}

// Accept implements tsp.Session.
func (s *session) Accept(ctx context.Context) error {
	return s.decide(ctx, "accept", func(b *Backend) { b.tunnels[s.user] = *s.offer })
}

// Reject implements tsp.Session.
func (s *session) Reject(ctx context.Context) error {
	return s.decide(ctx, "reject", func(*Backend) {})
}

func (s *session) decide(ctx context.Context, call string, decision func(*Backend)) error {
	b := s.backend
	if err := b.fail(ctx, call, s.user); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.offer == nil {
		return &tsp.StatusError{Code: tsp.StatusBadRequest, Err: fmt.Errorf("%s: nothing was offered", call)}
	}
	decision(b)
	s.offer = nil
	b.open--
	return nil
}

// Delete implements tsp.Session.
func (s *session) Delete(ctx context.Context) error {
	b := s.backend
	if err := b.fail(ctx, "delete", s.user); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.tunnels[s.user]; !ok {
		return noTunnel(s.user)
	}
	delete(b.tunnels, s.user)
	return nil
}

// Info implements tsp.Session.
func (s *session) Info(ctx context.Context) (tsp.Offer, error) {
	b := s.backend
	if err := b.fail(ctx, "info", s.user); err != nil {
		return tsp.Offer{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.offer != nil {
		return s.offer.Offer, nil
	}
	tunnel, ok := b.tunnels[s.user]
	if !ok {
		return tsp.Offer{}, noTunnel(s.user)
	}
	return tunnel.Offer, nil
}

func noTunnel(user string) error {
	return &tsp.StatusError{Code: tsp.StatusBadRequest, Err: fmt.Errorf("%s has no tunnel", user)}
}
