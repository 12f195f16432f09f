// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/rs/zerolog"

	"ddtb/tsp/sasl"
)

// Errors of a Client besides *StatusError, wrapped with what and which.
var (
	// ErrTimeout: no answer after all retransmissions, or none in time.
	ErrTimeout = errors.New("no answer from the server")
	// ErrMechanism: the server offers none of the mechanisms the Client would use.
	ErrMechanism = errors.New("no acceptable authentication mechanism")
	// ErrProtocol: the server sent what is not TSP, or not what belongs here.
	ErrProtocol = errors.New("unexpected message from the server")
)

// Client is how a subscriber talks to servers. The zero value with User and Password is ready; a Client is not changed
// by use and may run many dialogues at once.
type Client struct {
	User     string
	Password string
	// Mechanisms are those that may be used, best first. nil means any that protects or carries the password: DIGEST-MD5,
	// CRAM-MD5, PLAIN, the first the server offers; what it refuses is never tried again with a weaker one. ANONYMOUS is
	// used only if it is named here.
	Mechanisms []sasl.Mechanism

	MinRTO time.Duration // first and least retransmission timeout over UDP: 2 s
	MaxRTO time.Duration // largest: 30 s
	Tries  int           // times a UDP message is sent at most: 8 (66 s); while TCP can be tried instead, VERSION: 3

	Dialer net.Dialer       // how sockets are opened
	Log    zerolog.Logger   // the zero value is silent
	Now    func() time.Time // nil: time.Now
	Rand   io.Reader        // nil: crypto/rand.Reader
}

// Dial opens a dialogue with a server: "host", "host:port", an address with or without port (3653). network is "udp",
// "tcp", either with 4 or 6 behind it, or "" for UDP and, if that is dead, TCP. It tells the version, falling back on 302, and learns the
// server's Capability; a server that redirects at once gives a *StatusError with Brokers.
func (c *Client) Dial(ctx context.Context, network, server string) (*Conn, error) {
	return nil, errors.ErrUnsupported
}

// Start is Dial over a connected socket of the caller's: datagrams if its remote address is a UDP one, else a stream.
// The Conn closes it unless Detach is called. A socket may be used for one dialogue after the other.
func (c *Client) Start(ctx context.Context, socket net.Conn) (*Conn, error) {
	return nil, errors.ErrUnsupported
}

// Probe sends every broker an ECHO REQUEST over UDP and returns those that answered before ctx was done, the fastest first.
// Brokers by name are resolved.
func (c *Client) Probe(ctx context.Context, brokers []Broker) []Broker { return nil }

// Conn is the client's end of one dialogue. It is used by one goroutine at a time. Every method returns a *StatusError
// when the server refused.
type Conn struct{}

// Peer tells the ends of the dialogue as the client sees them (Local is the client's own), the network and the version.
func (c *Conn) Peer() Peer { return Peer{} }

// Capability is what the server advertised. Realm and Redirect are not set.
func (c *Conn) Capability() Capability { return Capability{} }

// Login authenticates. A mechanism by which the server proves itself (DIGEST-MD5) fails unless the proof is right.
func (c *Conn) Login(ctx context.Context) error { return errors.ErrUnsupported }

// Create asks for a tunnel. Type may be V6AnyV4; a Stated that is not valid becomes the socket's own address; NAT is not
// used. The Offer has everything the server told.
func (c *Conn) Create(ctx context.Context, request Request) (Offer, error) {
	return Offer{}, errors.ErrUnsupported
}

// Accept takes the offer. When it returns nil the tunnel forwards.
func (c *Conn) Accept(ctx context.Context) error { return errors.ErrUnsupported }

// Reject gives the offer back.
func (c *Conn) Reject(ctx context.Context) error { return errors.ErrUnsupported }

// Delete ends the subscriber's tunnel.
func (c *Conn) Delete(ctx context.Context) error { return errors.ErrUnsupported }

// Info asks what the subscriber's tunnel is.
func (c *Conn) Info(ctx context.Context) (Offer, error) { return Offer{}, errors.ErrUnsupported }

// Detach hands over the socket: after the Accept of a v6udpv4 tunnel it carries the tunnel's packets, bare IPv6 in each
// datagram, to and from the server. Close then leaves it open.
func (c *Conn) Detach() net.Conn { return nil }

// Close ends the dialogue and closes the socket unless it was detached.
func (c *Conn) Close() error { return errors.ErrUnsupported }
