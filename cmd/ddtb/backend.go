// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// broker is what a dialogue needs of a provision.Broker.
type broker interface {
	Offer(ctx context.Context, request provision.Request) (provision.Session, error)
	Activate(ctx context.Context, id string) error
	Reject(ctx context.Context, id string) error
	Release(ctx context.Context, id string, cause aaa.Cause) error
	finder
}

// finder finds tunnels in force, and by their id those that are offered too.
type finder interface {
	Session(id string) (provision.Session, bool)
	At(encap datapath.Encap, client, local netip.AddrPort) (provision.Session, bool)
	Owned(name string) []provision.Session
}

// policy is what an operator can change of a backend while it answers.
type policy struct {
	realm      string           // of DIGEST-MD5
	tunnels    []tsp.TunnelType // that are given
	mechanisms []sasl.Mechanism // that are offered if a backend can verify them, in this order; none: those that each can
	resolvers  []netip.Addr     // that clients are told of
	redirect   []tsp.Broker     // where every client is sent instead, if there are any
}

// backend answers the protocol out of aaa and provision. It is where the three meet: credentials and requests are put
// into the words of the one, errors into the status codes of the other (RFC 5572 appendix B).
type backend struct {
	auth   aaa.Chain
	broker broker
	others func() []netip.Addr // servers that take the clients of this one now; nil: there are none
	policy atomic.Pointer[policy]
}

var _ tsp.Backend = (*backend)(nil)

func newBackend(auth aaa.Chain, broker broker, p policy) *backend {
	b := &backend{auth: auth, broker: broker}
	b.follow(p)
	return b
}

// follow puts a policy in force. What is offered is found here once, not for every VERSION of a stranger.
func (b *backend) follow(p policy) {
	p.mechanisms = offered(p.mechanisms, b.auth)
	b.policy.Store(&p)
}

// Capability implements tsp.Backend.
func (b *backend) Capability(peer tsp.Peer) tsp.Capability {
	p := b.policy.Load()
	capability := tsp.Capability{Realm: p.realm, Redirect: b.redirect(p), Mechanisms: p.mechanisms}
	if peer.Local.Addr().Unmap().Is4() { // every encapsulation that there is runs over IPv4
		capability.Tunnels = p.tunnels
	}
	return capability
}

// redirect is where clients are sent instead: where policy says, else to a server of the fleet, if that is wanted now.
func (b *backend) redirect(p *policy) []tsp.Broker {
	if len(p.redirect) > 0 || b.others == nil {
		return p.redirect
	}
	var out []tsp.Broker
	for _, addr := range b.others() {
		out = append(out, tsp.Broker{Addr: addr})
	}
	return out
}

// offered is what an operator listed and at least one backend can verify; without a list, what all of them can. ANONYMOUS
// stands last: it is offered wherever somebody takes it.
func offered(listed []sasl.Mechanism, auth aaa.Chain) (out []sasl.Mechanism) {
	verified := auth.Mechanisms()
	for _, m := range listed {
		if slices.Contains(verified, aaa.Mechanism(m)) {
			out = append(out, m)
		}
	}
	if len(listed) == 0 {
		for _, m := range auth.Shared() {
			out = append(out, sasl.Mechanism(m))
		}
	}
	if slices.Contains(verified, aaa.MechanismAnonymous) {
		out = append(out, sasl.Anonymous)
	}
	return out
}

// Authenticate implements tsp.Backend.
func (b *backend) Authenticate(ctx context.Context, peer tsp.Peer, c sasl.Credential) (tsp.Session, string, error) {
	credential, err := credentialOf(c)
	if err != nil {
		return nil, "", status(err)
	}
	subscriber, err := b.auth.Authenticate(ctx, aaa.Login{Credential: credential, Client: peer.Remote, Server: peer.Local})
	if err != nil {
		return nil, "", status(err)
	}
	proof := subscriber.ResponseAuth
	subscriber.ResponseAuth = ""
	s := &session{backend: b, peer: peer, subscriber: subscriber}
	switch c.Mechanism() {
	case sasl.Plain, sasl.Anonymous: // nothing that the client sends depends on what it hears
		s.forgeable = peer.Network == "udp"
	case sasl.DigestMD5, sasl.CramMD5:
	}
	return s, proof, nil
}

// credentialOf puts what a mechanism collected into the words of aaa. To act for somebody else (RFC 4616 section 2, authzid) is not
// allowed to anybody.
func credentialOf(c sasl.Credential) (aaa.Credential, error) {
	switch c := c.(type) {
	case sasl.AnonymousCredential:
		return aaa.Anonymous{}, nil
	case sasl.PlainCredential:
		if c.AuthzID != "" && c.AuthzID != c.Username {
			return nil, fmt.Errorf("%q wants to act for %q: %w", c.Username, c.AuthzID, aaa.ErrRejected)
		}
		return aaa.Password{Username: c.Username, Password: c.Password}, nil
	case sasl.DigestCredential:
		return aaa.Digest{
			Username: c.Username, Realm: c.Realm, Nonce: c.Nonce, CNonce: c.CNonce, NC: c.NC, QOP: c.QOP,
			URI: c.URI, Response: c.Response, UTF8: c.UTF8, AuthzID: c.AuthzID,
		}, nil
	case sasl.CramCredential:
		return aaa.Cram{Username: c.Username, Challenge: c.Challenge, Response: c.Response}, nil
	default:
		return nil, fmt.Errorf("credential of type %T: not known to aaa", c)
	}
}

// status gives an error the code of RFC 5572 appendix B that tells the client what to do about it. What has none is 310.
func status(err error) error {
	for _, known := range []struct {
		err  error
		code tsp.Code
	}{
		{aaa.ErrUnknown, tsp.StatusAuthFailed},
		{aaa.ErrRejected, tsp.StatusAuthFailed},
		{aaa.ErrThrottled, tsp.StatusBusy}, // not 300: nothing was verified, and the password may be right
		{aaa.ErrUnavailable, tsp.StatusBusy},
		{provision.ErrFull, tsp.StatusNoTunnels},
		{provision.ErrDenied, tsp.StatusNoTunnels},
		{provision.ErrClientAddress, tsp.StatusBadIPv4},
		{provision.ErrAddressInUse, tsp.StatusIPv4InUse},
		{provision.ErrPrefixLength, tsp.StatusPrefixLength},
		{provision.ErrInProgress, tsp.StatusInProgress},
		{provision.ErrAnonymousPrefix, tsp.StatusPrefixForbidden},
		{provision.ErrBusy, tsp.StatusBusy},
		{provision.ErrNotFound, tsp.StatusInProgress}, // the offer went to a newer login, or it was too old
		{context.DeadlineExceeded, tsp.StatusBusy},
		{context.Canceled, tsp.StatusBusy},
	} {
		if errors.Is(err, known.err) {
			return &tsp.StatusError{Code: known.code, Err: err}
		}
	}
	return &tsp.StatusError{Code: tsp.StatusServerError, Err: err}
}

// session is one dialogue of an authenticated subscriber.
type session struct {
	*backend
	peer       tsp.Peer
	subscriber aaa.Subscriber
	forgeable  bool   // the login could have been sent by somebody who does not hear what is sent to the peer
	offer      string // id of what was offered and is not decided, "" if nothing
}

var _ tsp.Session = (*session)(nil)

// Create implements tsp.Session.
func (s *session) Create(ctx context.Context, r tsp.Request) (tsp.Offer, error) {
	if err := s.Reject(ctx); err != nil {
		return tsp.Offer{}, err
	}
	encap, err := encapOf(r.Type)
	if err != nil {
		return tsp.Offer{}, err
	}
	offer, err := s.broker.Offer(ctx, provision.Request{
		Subscriber: s.subscriber,
		Encap:      encap,
		Client:     s.peer.Remote,
		Local:      s.peer.Local,
		Router:     r.Router,
		PrefixLen:  r.PrefixLen,
		Keepalive:  r.Keepalive,
		Forgeable:  s.forgeable,
	})
	if err != nil {
		return tsp.Offer{}, status(err)
	}
	s.offer = offer.ID
	return s.tell(offer, r.Keepalive > 0), nil
}

// encapOf gives the encapsulation of a type that the protocol has made concrete already.
func encapOf(t tsp.TunnelType) (datapath.Encap, error) {
	switch t {
	case tsp.V6UDPV4:
		return datapath.V6UDPV4, nil
	case tsp.V6V4:
		return datapath.V6V4, nil
	default:
		return 0, &tsp.StatusError{Code: tsp.StatusBadTunnelType, Err: fmt.Errorf("type %q: no encapsulation of ours", t)}
	}
}

// tell puts a session into the words of the protocol. keepalive: the client asked for one, so it is told how
// (RFC 5572 section 4.6).
func (s *session) tell(p provision.Session, keepalive bool) tsp.Offer {
	offer := tsp.Offer{
		Type:        tsp.TunnelType(p.Encap.String()),
		Lifetime:    p.Lifetime,
		ServerIPv4:  p.Local.Addr(),
		ServerIPv6:  p.Server,
		ClientIPv6:  p.Endpoint,
		Resolvers:   s.policy.Load().resolvers,
		KeepaliveTo: p.Server,
		Prefix:      p.Prefix,
		MTU:         p.MTU,
	}
	if keepalive {
		offer.Keepalive = p.Keepalive
	}
	return offer
}

// Accept implements tsp.Session.
func (s *session) Accept(ctx context.Context) error {
	if err := s.broker.Activate(ctx, s.offer); err != nil {
		return status(err)
	}
	s.offer = ""
	return nil
}

// Reject implements tsp.Session.
func (s *session) Reject(ctx context.Context) error {
	if s.offer == "" {
		return nil
	}
	if err := s.broker.Reject(ctx, s.offer); err != nil {
		return status(err)
	}
	s.offer = ""
	return nil
}

// Delete implements tsp.Session.
func (s *session) Delete(ctx context.Context) error {
	tunnel, err := s.own()
	if err != nil {
		return err
	}
	if err := s.broker.Release(ctx, tunnel.ID, aaa.CauseUserRequest); err != nil && !errors.Is(err, provision.ErrNotFound) {
		return status(err)
	}
	return nil
}

// Info implements tsp.Session.
func (s *session) Info(context.Context) (tsp.Offer, error) {
	if s.offer != "" {
		offer, found := s.broker.Session(s.offer)
		if !found {
			return tsp.Offer{}, status(fmt.Errorf("offer %s: %w", s.offer, provision.ErrNotFound))
		}
		return s.tell(offer, true), nil
	}
	tunnel, err := s.own()
	if err != nil {
		return tsp.Offer{}, err
	}
	return s.tell(tunnel, true), nil
}

// own finds the tunnel that a subscriber speaks of: the one to the outer address he speaks from, else the only one he
// has. Who is anonymous is known by that address alone. The RFC has no code for "there is none": it is a request that
// makes no sense.
func (s *session) own() (provision.Session, error) {
	for _, encap := range []datapath.Encap{datapath.V6UDPV4, datapath.V6V4} {
		if encap == datapath.V6UDPV4 && s.peer.Network != "udp" {
			continue // the port is that of a connection
		}
		if t, found := s.broker.At(encap, s.peer.Remote, s.peer.Local); found && s.owns(t) {
			return t, nil
		}
	}
	var tunnels []provision.Session
	if !s.subscriber.Anonymous {
		tunnels = s.broker.Owned(s.subscriber.Name)
	}
	if len(tunnels) != 1 {
		return provision.Session{}, &tsp.StatusError{
			Code: tsp.StatusBadRequest, Err: fmt.Errorf("%q has %d tunnels, none to %s", s.subscriber.Name, len(tunnels), s.peer.Remote),
		}
	}
	return tunnels[0], nil
}

// owns reports whether a tunnel is the subscriber's.
func (s *session) owns(t provision.Session) bool {
	if s.subscriber.Anonymous || t.Subscriber.Anonymous {
		return s.subscriber.Anonymous && t.Subscriber.Anonymous
	}
	return s.subscriber.Name == t.Subscriber.Name
}
