// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ddtb/tsp/sasl"
)

// transport carries one dialogue's messages for a client. ctx is only asked whether it is done: guard then ends what waits.
type transport interface {
	// ask sends one message.
	ask(ctx context.Context, message []byte) error
	// text waits for a message of the login: a line, or a status with the list of brokers that belongs to it.
	text(ctx context.Context) ([]byte, error)
	// waiting tells whether text has a message at hand.
	waiting() bool
	// frame waits for a message with Content-length and gives its body; the body is empty if the server acknowledges without words.
	// last: the server may say nothing more at all.
	frame(ctx context.Context, last bool) ([]byte, error)
}

// Conn is the client's end of one dialogue. It is used by one goroutine at a time. Every method returns a *StatusError
// when the server refused.
type Conn struct {
	client     Client
	socket     net.Conn
	transport  transport
	server     string // as the user knows it
	peer       Peer
	capability Capability
	detached   bool
}

// newConn puts a dialogue on a socket, and closes it when that fails.
func (c *Client) newConn(socket net.Conn, server string) (*Conn, error) {
	conn := &Conn{client: *c, socket: socket, server: server}
	conn.peer.Local, conn.peer.Remote = addrPortOf(socket.LocalAddr()), addrPortOf(socket.RemoteAddr())
	if _, ok := socket.RemoteAddr().(*net.UDPAddr); !ok {
		conn.peer.Network, conn.transport = "tcp", &tcpTransport{socket: socket}
		return conn, nil
	}
	udp, err := newUDPTransport(c, socket)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	conn.peer.Network, conn.transport = "udp", udp
	return conn, nil
}

// addrPortOf gives the address of a socket's end, invalid if it has none.
func addrPortOf(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return unmap(a.AddrPort())
	}
	return netip.AddrPort{}
}

// patience bounds a wait that ctx does not bound.
const patience = time.Minute

// guard wakes who waits for the socket when ctx is done, until release is called, which leaves the socket without one.
func (c *Conn) guard(ctx context.Context) (release func()) {
	if c.peer.Network == "tcp" { // over UDP each copy of a message has a deadline of its own
		_ = c.socket.SetDeadline(time.Now().Add(patience)) // the kernel's clock, whatever ours is; a closed socket says so when it is used
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = c.socket.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
		}
		_ = c.socket.SetDeadline(time.Time{})
	}
}

// start tells the versions in turn until the server knows one, and learns what it offers (RFC 5572 section 4.4.2). When it fails the
// socket is closed.
func (c *Conn) start(ctx context.Context, versions []string) error {
	defer c.guard(ctx)()
	var err error
	for _, version := range versions {
		var answer []byte
		if answer, err = c.say(ctx, string(versionRequest)+"="+version); err != nil {
			break
		}
		if capability, ok := parseCapability(answer); ok {
			c.capability, c.peer.Version = capability, version
			return nil
		}
		if err = statusError(answer); err == nil {
			err = fmt.Errorf("%w: %.40q in place of CAPABILITY", ErrProtocol, answer)
		}
		if !badVersion(err) {
			break
		}
	}
	_ = c.socket.Close() // why it is closed says more
	return err
}

// say sends a line and waits for the answer.
func (c *Conn) say(ctx context.Context, line string) ([]byte, error) {
	if err := c.transport.ask(ctx, []byte(line+"\r\n")); err != nil {
		return nil, err
	}
	return c.transport.text(ctx)
}

// parseCapability reads a CAPABILITY line; false if it is none. What it offers besides is skipped.
func parseCapability(line []byte) (c Capability, ok bool) {
	tokens := bytes.Fields(bytes.TrimRight(line, "\x00"))
	if len(tokens) == 0 || string(tokens[0]) != "CAPABILITY" {
		return Capability{}, false
	}
	for _, token := range tokens[1:] {
		name, value, _ := strings.Cut(strings.ToUpper(string(token)), "=")
		switch t, m := TunnelType(strings.ToLower(value)), sasl.Mechanism(value); {
		case name == "TUNNEL" && len(c.Tunnels) < maxOffered && !slices.Contains(c.Tunnels, t):
			c.Tunnels = append(c.Tunnels, t)
		case name == "AUTH" && len(c.Mechanisms) < maxOffered && !slices.Contains(c.Mechanisms, m):
			c.Mechanisms = append(c.Mechanisms, m)
		}
	}
	return c, true
}

// maxOffered bounds what is remembered of a CAPABILITY line.
const maxOffered = 16

// statusError reads a status line with what follows it: nil for 200, else a *StatusError, or ErrProtocol.
func statusError(b []byte) error {
	code, text, rest, err := parseStatus(b)
	if err != nil {
		return fmt.Errorf("%w: %w in %.40q", ErrProtocol, err, b)
	}
	if code < brokerListFollows {
		if Code(code) == StatusSuccess {
			return nil
		}
		return &StatusError{Code: Code(code), Text: text}
	}
	m, err := parseMessage(rest)
	if err != nil || len(m.brokers) == 0 {
		return fmt.Errorf("%w: status %d without a list of brokers", ErrProtocol, code)
	}
	return &StatusError{Code: Code(code) - brokerListFollows, Text: text, Brokers: m.brokers}
}

// Peer tells the ends of the dialogue as the client sees them (Local is the client's own), the network and the version.
func (c *Conn) Peer() Peer { return c.peer }

// Capability is what the server advertised, tunnel types in lower and mechanisms in upper case; perhaps some this package does not
// know. Realm and Redirect are not set.
func (c *Conn) Capability() Capability { return c.capability }

// maxRounds bounds a SASL exchange.
const maxRounds = 8

// Login authenticates by the first of the Client's mechanisms that the server offers, ErrMechanism if there is none. A
// mechanism by which the server proves itself (DIGEST-MD5) fails with sasl.ErrProof unless the proof is right.
func (c *Conn) Login(ctx context.Context) error {
	defer c.guard(ctx)()
	i := slices.IndexFunc(c.client.Mechanisms, func(m sasl.Mechanism) bool { return slices.Contains(c.capability.Mechanisms, m) })
	if i < 0 {
		return fmt.Errorf("%w: the server offers %v, wanted is %v", ErrMechanism, c.capability.Mechanisms, c.client.Mechanisms)
	}
	name := c.client.Mechanisms[i]
	mechanism, err := sasl.NewClient(name, sasl.Identity{User: c.client.User, Password: c.client.Password, Host: c.server}, c.client.Rand)
	if err != nil {
		return err
	}
	if err := c.transport.ask(ctx, []byte(string(authenticateRequest)+" "+string(name)+"\r\n")); err != nil {
		return err
	}
	if mechanism.First() && !c.transport.waiting() {
		if err := c.respond(ctx, mechanism, nil); err != nil {
			return err
		}
	}
	for range maxRounds {
		message, err := c.transport.text(ctx)
		if err != nil {
			return err
		}
		if _, _, _, err := parseStatus(message); err == nil {
			return verdictOf(statusError(message), name, mechanism)
		}
		if err := c.respond(ctx, mechanism, trimEnd(message)); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %s does not end", ErrProtocol, name)
}

// verdictOf believes a success only if the mechanism is complete.
func verdictOf(status error, name sasl.Mechanism, mechanism sasl.Client) error {
	if status == nil && !mechanism.Done() {
		return fmt.Errorf("%s: %w: success before the exchange was complete", name, sasl.ErrProof)
	}
	return status
}

// respond answers a challenge if the mechanism has something to say.
func (c *Conn) respond(ctx context.Context, mechanism sasl.Client, challenge []byte) error {
	response, err := mechanism.Next(challenge)
	if err != nil || len(response) == 0 {
		return err
	}
	return c.transport.ask(ctx, append(response, "\r\n"...))
}

// command sends a message and reads the answer's status and message. An answer without words is success; after the last command
// there may be none.
func (c *Conn) command(ctx context.Context, m message, last bool) (message, error) {
	defer c.guard(ctx)()
	if err := c.transport.ask(ctx, appendFrame(nil, m.append(nil))); err != nil {
		return message{}, err
	}
	body, err := c.transport.frame(ctx, last)
	if err != nil || len(body) == 0 {
		return message{}, err
	}
	if err := statusError(body); err != nil {
		return message{}, err
	}
	_, _, rest, _ := parseStatus(body)
	if rest = bytes.TrimSpace(rest); len(rest) == 0 {
		return message{}, nil
	}
	answer, err := parseMessage(rest)
	if err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrProtocol, errors.Unwrap(err))
	}
	return answer, nil
}

// Create asks for a tunnel. Type may be V6AnyV4; a Stated that is not valid becomes the socket's own address; NAT is not
// used. The Offer has everything the server told.
func (c *Conn) Create(ctx context.Context, request Request) (Offer, error) {
	if !request.Stated.IsValid() {
		request.Stated = c.peer.Local.Addr()
	}
	return c.offer(ctx, requestMessage(request))
}

// Info asks what the subscriber's tunnel is.
func (c *Conn) Info(ctx context.Context) (Offer, error) {
	return c.offer(ctx, message{action: actionInfo})
}

func (c *Conn) offer(ctx context.Context, m message) (Offer, error) {
	answer, err := c.command(ctx, m, false)
	if err != nil {
		return Offer{}, err
	}
	offer := answer.offer()
	if offer.Type != V6V4 && offer.Type != V6UDPV4 || !offer.ServerIPv4.IsValid() || !offer.ClientIPv6.IsValid() {
		return Offer{}, fmt.Errorf("%w: an offer without type, server or client address", ErrProtocol)
	}
	return offer, nil
}

// Accept takes the offer. When it returns nil the tunnel forwards.
func (c *Conn) Accept(ctx context.Context) error { return c.order(ctx, actionAccept) }

// Reject gives the offer back.
func (c *Conn) Reject(ctx context.Context) error { return c.order(ctx, actionReject) }

// Delete ends the subscriber's tunnel.
func (c *Conn) Delete(ctx context.Context) error { return c.order(ctx, actionDelete) }

func (c *Conn) order(ctx context.Context, what action) error {
	_, err := c.command(ctx, message{action: what}, what == actionAccept)
	return err
}

// Detach hands over the socket: after the Accept of a v6udpv4 tunnel it carries the tunnel's packets, bare IPv6 in each
// datagram, to and from the server. Close then leaves it open.
func (c *Conn) Detach() net.Conn {
	c.detached = true
	return c.socket
}

// Close ends the dialogue and closes the socket unless it was detached.
func (c *Conn) Close() error {
	if c.detached {
		return nil
	}
	return c.socket.Close()
}
