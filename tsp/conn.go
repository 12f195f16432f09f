// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ddtb/tsp/sasl"
)

// phase is where a dialogue stands.
//
//	                   VERSION, ECHO REQUEST: answered, nothing kept
//	                      │
//	         AUTHENTICATE │ mechanism that is offered
//	                      ▼
//	                  phaseLogin ── SASL messages ──┐
//	    300, 530, ...     │ ▲                       │
//	  ┌───────────────────┤ └───────────────────────┘
//	  │                   │ 200
//	  │                   ▼
//	  │              phaseCommand ── create, info, delete, reject: answered with 200 or an error ──┐
//	  │   accept: 200     │ ▲                                                                      │
//	  │   any: 1200       │ └──────────────────────────────────────────────────────────────────────┘
//	  ▼                   ▼
//	phaseOver ◄───────────┘
type phase uint8

const (
	phaseLogin phase = iota
	phaseCommand
	phaseOver
)

// maxCommands bounds the command phase. A client needs two.
const maxCommands = 16

// apart is the time between two messages on a stream that a client must not receive at once (rspauth and 200).
const apart = 200 * time.Millisecond

// endTimeout bounds giving an offer back.
const endTimeout = 10 * time.Second

// dialogue is one client's way from AUTHENTICATE to accept, whatever the transport. Whoever owns it calls its methods one at a
// time.
type dialogue struct {
	server     *Server
	peer       Peer
	phase      phase
	mechanism  sasl.Mechanism
	login      sasl.Server     // in phaseLogin
	credential sasl.Credential // collected, not yet verified
	session    Session         // from phaseCommand on
	user       string
	offered    bool // Create without Accept or Reject
	commands   int
}

// reply is what one message of the client is answered with.
type reply struct {
	first  []byte
	second []byte // a message of its own that must arrive apart from the first; nil if there is none
}

// step takes one message of the client, a whole datagram's or one line or frame of a stream, and answers it. It may block in the
// Backend, bounded by ctx. message is nil to verify a credential that was collected without one.
func (d *dialogue) step(ctx context.Context, message []byte) (r reply) {
	defer d.rescue(&r)
	if d.phase == phaseLogin {
		return d.authenticate(ctx, message)
	}
	return reply{first: d.command(ctx, message)}
}

// rescue is deferred: one client's message must not end everybody's dialogues.
func (d *dialogue) rescue(r *reply) {
	if p := recover(); p != nil {
		d.server.log.Error().Stringer("remote", d.peer.Remote).Interface("panic", p).Bytes("stack", debug.Stack()).Msg("dialogue panicked")
		r.first, r.second = d.server.status(nil, StatusServerError), nil
		if d.phase == phaseCommand {
			r.first = appendFrame(nil, r.first)
		}
		d.phase = phaseOver
	}
}

// begin starts a mechanism (RFC 5572 section 4.4.3) and gives the first challenge, empty if the client speaks next. When the
// mechanism needs no message, credential is set and step has to verify it. The mechanism was found to be offered.
func (d *dialogue) begin(realm string) (challenge []byte, err error) {
	if d.login, err = sasl.NewServer(d.mechanism, realm, d.server.rand); err != nil {
		return nil, err
	}
	challenge, d.credential = d.login.Start()
	return endLine(challenge), nil
}

// endLine ends a SASL message; an empty one is none.
func endLine(token []byte) []byte {
	if len(token) == 0 {
		return nil
	}
	return append(token, "\r\n"...)
}

// authenticate takes the next SASL message.
func (d *dialogue) authenticate(ctx context.Context, message []byte) reply {
	if d.credential == nil {
		challenge, credential, err := d.login.Next(trimEnd(message))
		if err != nil {
			return d.refuse(err, StatusAuthFailed)
		}
		if credential == nil {
			return reply{first: endLine(challenge)}
		}
		d.credential = credential
	}
	var session Session
	var proof string
	err := d.timed(d.server.metrics.backend.authenticate, func() (err error) {
		session, proof, err = d.server.backend.Authenticate(ctx, d.peer, d.credential)
		return err
	})
	if err == nil && d.mechanism == sasl.DigestMD5 && proof == "" {
		err = errors.New("the backend gave no rspauth, without which clients crash")
	}
	if err != nil {
		code, _ := statusOf(err)
		if code == StatusSuccess { // clients do not follow a redirection here
			code = StatusBusy
		}
		return d.refuse(err, code)
	}
	d.user, d.session, d.phase = d.credential.User(), session, phaseCommand
	if d.mechanism != sasl.Anonymous {
		d.server.proven.add(sourceOf(d.peer.Remote.Addr()))
	}
	success := d.server.status(nil, StatusSuccess)
	d.server.metrics.login(d.mechanism, StatusSuccess)
	d.log(nil).Str("mechanism", string(d.mechanism)).Msg("logged in")
	final := endLine(d.login.Success(proof))
	d.login, d.credential = nil, nil
	if final != nil {
		return reply{first: final, second: success}
	}
	return reply{first: success}
}

// refuse ends a login.
func (d *dialogue) refuse(err error, code Code) reply {
	if d.credential != nil {
		d.user = d.credential.User()
	}
	d.phase, d.login, d.credential = phaseOver, nil, nil
	d.server.metrics.login(d.mechanism, code)
	d.server.refused(&d.peer, err, code).Str("user", d.user).Str("mechanism", string(d.mechanism)).Msg("login refused")
	return reply{first: d.server.status(nil, code)}
}

// log starts a line about this dialogue: a failure of our own is everybody's business, the rest is not.
func (d *dialogue) log(err error) *zerolog.Event {
	event := d.server.log.Debug()
	if code, _ := statusOf(err); err != nil && code == StatusServerError {
		event = d.server.log.Error()
	}
	return event.Err(err).Str("network", d.peer.Network).Stringer("remote", d.peer.Remote).Str("user", d.user)
}

// command answers one framed message (RFC 5572 section 4.4.3).
func (d *dialogue) command(ctx context.Context, b []byte) []byte {
	if d.commands++; d.commands > maxCommands {
		d.phase = phaseOver
		return d.fail(badRequest(fmt.Errorf("more than %d commands", maxCommands)))
	}
	body, _, err := parseFrame(b, maxBody)
	if err != nil {
		return d.fail(badRequest(err))
	}
	m, err := parseMessage(body)
	if err != nil {
		return d.fail(err)
	}
	d.server.metrics.request(m.action)
	switch m.action {
	case actionCreate:
		return d.create(ctx, &m)
	case actionInfo:
		var offer Offer
		err := d.timed(d.server.metrics.backend.info, func() (err error) {
			offer, err = d.session.Info(ctx)
			return err
		})
		return d.tell(offer, m.client.ipv4, err)
	case actionDelete:
		return d.done("tunnel deleted", d.timed(d.server.metrics.backend.delete, func() error { return d.session.Delete(ctx) }))
	case actionAccept, actionReject:
		return d.decide(ctx, m.action)
	case actionList: // a server's word
	}
	return d.fail(badRequest(fmt.Errorf("action %.20q", m.action)))
}

// timed calls the Backend and measures it.
func (d *dialogue) timed(seconds prometheus.Observer, call func() error) error {
	start := d.server.now()
	err := call()
	seconds.Observe(d.server.now().Sub(start).Seconds())
	return err
}

// create asks the Backend for an offer.
func (d *dialogue) create(ctx context.Context, m *message) []byte {
	capability := d.server.backend.Capability(d.peer)
	if len(capability.Redirect) > 0 {
		return d.fail(&StatusError{Code: StatusSuccess, Brokers: capability.Redirect})
	}
	request := m.request()
	if err := concrete(&request, d.peer, capability.Tunnels); err != nil {
		return d.fail(err)
	}
	var offer Offer
	ask := func() (err error) {
		offer, err = d.session.Create(ctx, request)
		return err
	}
	err := d.timed(d.server.metrics.backend.create, ask)
	if code, _ := statusOf(err); code == StatusIPv4InUse && m.tunnel == V6AnyV4 {
		// Somebody else has the protocol 41 between the two addresses. Clients go by the type they are told, whatever they know of a NAT.
		instead := Request{Type: V6UDPV4}
		if concrete(&instead, d.peer, capability.Tunnels) == nil {
			request.Type = instead.Type
			err = d.timed(d.server.metrics.backend.create, ask)
		}
	}
	d.offered = err == nil
	return d.tell(offer, request.Stated, err)
}

// concrete decides v6anyv4 by NAT discovery (RFC 5572 section 2.1) and checks that the type is offered and can run over this
// transport (section 4.4.1). The stated address says nothing else: it may be stale or private.
func concrete(r *Request, peer Peer, offered []TunnelType) error {
	source := peer.Remote.Addr()
	r.NAT = r.Stated != source
	udp := peer.Network == "udp" && slices.Contains(offered, V6UDPV4)
	direct := slices.Contains(offered, V6V4)
	switch {
	case r.Type == "":
		return badRequest(errors.New("create without type"))
	case !source.Is4():
	case (r.Type == V6V4 || r.Type == V6AnyV4 && !r.NAT) && direct:
		r.Type = V6V4
		return nil
	case (r.Type == V6UDPV4 || r.Type == V6AnyV4) && udp:
		r.Type = V6UDPV4
		return nil
	}
	return &StatusError{Code: StatusBadTunnelType, Err: fmt.Errorf("type %.20q over %s from %s", r.Type, peer.Network, source)}
}

// tell answers create and info.
func (d *dialogue) tell(offer Offer, stated netip.Addr, err error) []byte {
	if err == nil {
		err = complete(&offer, d.peer, stated)
	}
	if err != nil {
		return d.fail(err)
	}
	m := offerMessage(offer)
	d.log(nil).Str("type", string(offer.Type)).Stringer("endpoint", offer.ClientIPv6).Msg("tunnel offered")
	var space [1024]byte
	return appendFrame(nil, m.append(d.server.status(space[:0], StatusSuccess)))
}

// complete fills in what clients cannot do without.
func complete(o *Offer, peer Peer, stated netip.Addr) error {
	if !o.ServerIPv4.IsValid() {
		o.ServerIPv4 = peer.Local.Addr()
	}
	if !o.ClientIPv4.IsValid() {
		if o.ClientIPv4 = stated; !stated.IsValid() {
			o.ClientIPv4 = peer.Remote.Addr()
		}
	}
	if len(o.Resolvers) == 0 {
		o.Resolvers = []netip.Addr{o.ServerIPv6}
	}
	if !o.KeepaliveTo.IsValid() {
		o.KeepaliveTo = o.ServerIPv6
	}
	if o.Lifetime <= 0 {
		o.Lifetime = defaultLifetime
	}
	if o.Type != V6V4 && o.Type != V6UDPV4 || !o.ServerIPv4.Is4() || !o.ClientIPv4.Is4() || !o.ServerIPv6.Is6() || !o.ClientIPv6.Is6() {
		return fmt.Errorf("the backend's offer lacks an address or a type: %+v", *o)
	}
	if o.Prefix.Contains(o.ServerIPv6) || o.Prefix.Contains(o.ClientIPv6) { // the client puts the prefix on its LAN
		return fmt.Errorf("the backend's offer has a tunnel address within the prefix %v", o.Prefix)
	}
	return nil
}

// decide puts an offer in force or gives it back.
func (d *dialogue) decide(ctx context.Context, what action) []byte {
	if !d.offered {
		return d.fail(badRequest(fmt.Errorf("%s without an offer", what)))
	}
	if what == actionReject {
		err := d.timed(d.server.metrics.backend.reject, func() error { return d.session.Reject(ctx) })
		d.offered = err != nil
		return d.done("offer rejected", err)
	}
	err := d.timed(d.server.metrics.backend.accept, func() error { return d.session.Accept(ctx) })
	if err == nil {
		d.offered, d.phase = false, phaseOver
		d.server.metrics.accepted.Inc()
	}
	return d.done("tunnel accepted", err)
}

// done answers a command that has no message in return.
func (d *dialogue) done(what string, err error) []byte {
	if err != nil {
		return d.fail(err)
	}
	d.log(nil).Msg(what)
	return appendFrame(nil, d.server.status(nil, StatusSuccess))
}

// fail answers a command with an error, or a list of brokers, after which the dialogue is over.
func (d *dialogue) fail(err error) []byte {
	code, brokers := statusOf(err)
	if len(brokers) > 0 && code == StatusSuccess {
		d.log(err).Msg("client sent to another server")
	} else {
		d.server.refused(&d.peer, err, code).Str("user", d.user).Msg("command refused")
	}
	if len(brokers) > 0 {
		d.phase = phaseOver
		if list, n := d.server.list(nil, code, brokers, maxReply); n > 0 {
			return appendFrame(nil, list)
		}
	}
	return appendFrame(nil, d.server.status(nil, code))
}

// end gives an offer back that the client neither accepted nor rejected. It may block in the Backend.
func (d *dialogue) end(ctx context.Context) {
	if !d.offered {
		return
	}
	d.offered, d.phase = false, phaseOver
	defer d.rescue(new(reply))
	if err := d.timed(d.server.metrics.backend.reject, func() error { return d.session.Reject(ctx) }); err != nil {
		d.log(err).Msg("offer not given back")
	}
}
