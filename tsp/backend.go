// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"context"
	"net/netip"
	"time"

	"ddtb/tsp/sasl"
)

// Backend answers what the protocol asks. The Server owns order, framing, retransmission and limits; a Backend never
// sees a datagram. Every method may be called by many goroutines at once.
//
// An error that is or wraps a *StatusError becomes that status on the wire; any other becomes 310 and its text stays
// here. Brokers in it are sent after the command phase's errors; not after those of Authenticate, where clients do not follow
// (client fact 27).
type Backend interface {
	// Capability says what is offered to peer. It is asked for every VERSION, before anything is known of the sender,
	// and must not block.
	Capability(peer Peer) Capability
	// Authenticate verifies what a mechanism collected. proof is the rspauth of RFC 2831 section 2.1.3 after
	// sasl.Digest and "" otherwise.
	Authenticate(ctx context.Context, peer Peer, credential sasl.Credential) (session Session, proof string, err error)
}

// Session is one authenticated dialogue. Its methods are called one at a time. After Accept the tunnel lives on
// without the Session; a dialogue that ends between Create and Accept ends with Reject.
type Session interface {
	// Create offers a tunnel, or another one in place of the last offer (RFC 5572 section 4.7.1). After an error nothing is offered, and
	// what was is given back, now or when its time is up. When it says 506 to a client that left
	// the type to the server, it is asked again for V6UDPV4.
	Create(ctx context.Context, request Request) (Offer, error)
	// Accept puts the offered tunnel in force. When it returns nil the tunnel forwards.
	Accept(ctx context.Context) error
	// Reject gives the offer back.
	Reject(ctx context.Context) error
	// Delete ends the subscriber's tunnel.
	Delete(ctx context.Context) error
	// Info tells what was offered and is not decided yet, else what the subscriber's tunnel is.
	Info(ctx context.Context) (Offer, error)
}

// Peer is the two ends of a dialogue.
type Peer struct {
	Local   netip.AddrPort // the address and port the client spoke to
	Remote  netip.AddrPort // the client's, outside any NAT; 4in6 addresses are unmapped
	Network string         // "udp" or "tcp"
	Version string         // what the client said, "2.0.2"; "" over UDP, where nothing is kept of a VERSION
}

// Capability is what a server offers to one peer.
type Capability struct {
	Tunnels    []TunnelType     // concrete types
	Mechanisms []sasl.Mechanism // in the order they are advertised
	Realm      string           // of DIGEST-MD5
	Redirect   []Broker         // if any: the client is sent there with 1200 instead (RFC 5572 section 4.7.4)
}

// Broker is an alternative server. One of the two is set.
type Broker struct {
	Addr netip.Addr
	Name string
}

// TunnelType is an encapsulation by its IANA name (RFC 5572 section 7), lower case as in XML.
type TunnelType string

// The registered types.
const (
	V6V4    TunnelType = "v6v4"    // protocol 41, RFC 4213
	V6UDPV4 TunnelType = "v6udpv4" // RFC 5572 section 4.5.2
	V6AnyV4 TunnelType = "v6anyv4" // the server chooses by NAT discovery, section 2.1; never in a reply
	V4V6    TunnelType = "v4v6"    // RFC 2473
)

// Request is what a client asks of a tunnel.
type Request struct {
	Type      TunnelType    // concrete for a Backend: v6anyv4 has been decided, by NAT discovery first
	Stated    netip.Addr    // the client's own idea of its IPv4 address; perhaps invalid, stale or private
	NAT       bool          // Stated differs from the source address; only a Backend is told
	Keepalive time.Duration // wanted interval, up to a day; 0 if none was asked for, 30 s if it was left to the server
	Router    bool          // a router element was there: a prefix is wanted
	PrefixLen int           // wanted length of the prefix in bits, 0 if any will do
	DNS       []Broker      // servers for the prefix's reverse zone (section 5.2)
}

// Offer is a tunnel as the client is told of it. Type, ServerIPv6 and ClientIPv6 have to be there, and neither address may lie in
// Prefix: the Server turns such an offer into 310.
type Offer struct {
	Type        TunnelType
	Lifetime    time.Duration // told in minutes, rounded up; 0: 1440 minutes, the RFC's default
	ServerIPv4  netip.Addr    // invalid: the address the client spoke to
	ServerIPv6  netip.Addr
	ClientIPv4  netip.Addr // invalid: what the client stated, as in RFC 5572 figure 19, else where it comes from
	ClientIPv6  netip.Addr
	ClientName  string        // registered DNS name, "" if none
	Resolvers   []netip.Addr  // for the client's own use; none: ServerIPv6 is told, since a client crashes without (client fact 20)
	Keepalive   time.Duration // interval the client must keep; 0: no keepalive element
	KeepaliveTo netip.Addr    // where echo requests go; invalid: ServerIPv6
	Prefix      netip.Prefix  // delegated prefix, invalid if none
	DNS         []Broker      // echoed from the Request
	MTU         int           // octets of inner packet, 0 to say nothing
}
