// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// Request is a tunnel an authenticated subscriber asks for.
type Request struct {
	Subscriber aaa.Subscriber
	Encap      datapath.Encap
	Client     netip.AddrPort // outer address of the client, IPv4 (4in6 is unmapped); the port is not used for V6V4
	Local      netip.AddrPort // the server's address it spoke to, the same way
	Router     bool           // a delegated prefix is wanted
	PrefixLen  int            // length of the prefix wanted, in bits; 0: any. A larger prefix than this may be given
	Keepalive  time.Duration  // interval wanted; 0: the client asked for none
	Forgeable  bool           // the client has shown in nothing that it hears what is sent to Client, which may be somebody else's
}

// maxOpaque bounds what is kept of a subscriber and may be long: Class, Chargeable-User-Identity, State, the name of his filter
// and his routes, in octets with two more for each. Two sessions' worth of it fits into a lease.
const maxOpaque = 1280

// Offer reserves a tunnel for a subscriber and tells what it would be. Nothing forwards before Activate, and a session
// that the offer would replace goes on until then. An offer not accepted within OfferTimeout is withdrawn. A new offer
// for the same subscriber (the same slot, if he may have several sessions) takes the place of his last one.
//
// Errors: all of this package but ErrNotFound.
func (b *Broker) Offer(ctx context.Context, request Request) (Session, error) {
	session, err := b.offer(ctx, request)
	if err != nil {
		b.metrics.login(err)
		return Session{}, fmt.Errorf("offer to %q at %v: %w", request.Subscriber.Name, request.Client, err)
	}
	return session, nil
}

func (b *Broker) offer(ctx context.Context, r Request) (Session, error) {
	s := b.settings.Load()
	if !b.ready.Load() || b.draining.Load() {
		return Session{}, fmt.Errorf("not serving: %w", ErrBusy)
	}
	if b.drained.Load() {
		return Session{}, fmt.Errorf("being drained: %w", ErrBusy)
	}
	if err := r.check(); err != nil {
		return Session{}, err
	}
	if err := b.admit(s, r); err != nil {
		return Session{}, err
	}
	defer b.admitted()
	id, err := newID(b.rand)
	if err != nil {
		return Session{}, err
	}
	e, err := newEntry(s, id, r)
	if err != nil {
		return Session{}, err
	}
	if err := b.locks.lock(ctx, e.lockKey()); err != nil {
		return Session{}, fmt.Errorf("the subscriber's last request is not done: %w: %w", ErrInProgress, err)
	}
	defer b.locks.unlock(e.lockKey())
	if err := b.place(ctx, s, e, r.Subscriber); err != nil {
		return Session{}, err
	}
	if n := len(r.Subscriber.Routes); n > 0 && r.Subscriber.Anonymous {
		b.log.Warn().Str("backend", r.Subscriber.Backend).Int("routes", n).
			Msg("routes of the anonymous account are passed over: many sessions may be in force with it")
	}
	return b.snapshot(e), nil
}

// check looks at what needs neither tables nor store, and normalizes addresses.
func (r *Request) check() error {
	r.Client = netip.AddrPortFrom(r.Client.Addr().Unmap(), r.Client.Port())
	r.Local = netip.AddrPortFrom(r.Local.Addr().Unmap(), r.Local.Port())
	switch r.Encap {
	case datapath.V6UDPV4:
	case datapath.V6V4: // RFC 4213: the path is the two addresses
		r.Client = netip.AddrPortFrom(r.Client.Addr(), 0)
		r.Local = netip.AddrPortFrom(r.Local.Addr(), 0)
	default:
		return fmt.Errorf("encapsulation %d: none of ours", r.Encap)
	}
	client := r.Client.Addr()
	if !client.Is4() || client.IsUnspecified() || client.IsMulticast() || client == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return ErrClientAddress
	}
	if r.Encap == datapath.V6UDPV4 && r.Client.Port() == 0 {
		return ErrClientAddress
	}
	if !r.Local.Addr().Is4() {
		return fmt.Errorf("local end %v: IPv4 expected", r.Local)
	}
	sub := r.Subscriber
	if err := keepable(sub); err != nil {
		return err
	}
	if r.Router && sub.Anonymous {
		return ErrAnonymousPrefix
	}
	if r.Router && sub.NoPrefix {
		return fmt.Errorf("none may be delegated: %w", ErrPrefixLength)
	}
	return nil
}

// keepable refuses a subscriber of whom there is more than a session can keep.
func keepable(sub aaa.Subscriber) error {
	if !sub.Anonymous && sub.Name == "" || len(Owner(sub.Name, MaxSlots)) > lease.MaxOwner || opaque(sub) > maxOpaque {
		return fmt.Errorf("name of %d octets, and %d of class, user identity, state, filter and routes: a name that makes an owner of at most %d, "+
			"and at most %d of the others expected: %w", len(sub.Name), opaque(sub), lease.MaxOwner, maxOpaque, ErrInvalid)
	}
	return nil
}

// opaque counts what maxOpaque bounds.
func opaque(sub aaa.Subscriber) int {
	n := len(sub.CUI) + len(sub.Reauthorize) + len(sub.Filter) + 6 + routeSize*len(sub.Routes)
	for _, r := range sub.Routes {
		if r.Delegated { // the memo has it twice
			n += routeSize
		}
	}
	for _, c := range sub.Class {
		n += len(c) + 2
	}
	return n
}

// admit refuses before anything is spent when there is no room. Who has a session already may replace it.
func (b *Broker) admit(s *settings, r Request) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	sub := r.Subscriber
	most := s.MaxNegotiating
	if sub.Anonymous { // anybody, perhaps under forged addresses: half of the room is the subscribers'
		most = (most + 1) / 2
	}
	if n := len(b.offers) + b.offering; n >= most {
		return fmt.Errorf("%d offers are not answered yet: %w", n, ErrBusy)
	}
	if n := len(b.byID) + b.offering; n >= s.MaxSessions && (sub.Anonymous || b.owners[Owner(sub.Name, 1)] == nil) {
		return fmt.Errorf("%d sessions: %w", n, ErrFull)
	}
	if sub.Anonymous && b.guests[r.Client.Addr().As4()] >= s.AnonymousPerAddress {
		return fmt.Errorf("%d anonymous sessions from %v: %w", s.AnonymousPerAddress, r.Client.Addr(), ErrDenied)
	}
	b.offering++
	return nil
}

// admitted ends what a successful admit began.
func (b *Broker) admitted() {
	b.mu.Lock()
	b.offering--
	b.mu.Unlock()
}

// place finds a slot and a lease for e and puts it among the offers. The subscriber is locked.
func (b *Broker) place(ctx context.Context, s *settings, e *entry, sub aaa.Subscriber) error {
	current, err := b.settle(ctx, s, e, sub)
	switch {
	case err != nil:
		return err
	case e.held:
	case current != nil && current.terms.Value().leasePool == e.terms.Value().leasePool:
		if e.index == 0 {
			e.index = current.index
		}
	default:
		if _, err := b.reserve(ctx, s, e, nil); err != nil {
			return err
		}
	}
	pool := s.pool(e.terms.Value().leasePool)
	if err := checkGateways(sub, pool.Endpoint(e.index), e.prefix(pool)); err != nil {
		b.giveBack(ctx, e)
		return err
	}
	e.tunnelID = pool.ID(e.index)
	e.since = b.now()
	e.seen = e.since
	b.mu.Lock()
	replaced := b.addOffer(e)
	b.mu.Unlock()
	if replaced != nil && replaced.terms.Value().leasePool != e.terms.Value().leasePool {
		b.giveBack(ctx, replaced)
	}
	return nil
}

// reserve takes a lease for an offer. A process after a restart finds by its Data that nobody accepted it, or nothing of
// it: the offer is gone with the dialogue in any case. change, if not nil, alters the request.
func (b *Broker) reserve(ctx context.Context, s *settings, e *entry, change func(*lease.Request)) (lease.Lease, error) {
	request := b.acquisition(s, e, s.OfferTimeout+2*s.SweepInterval, memo{phase: phaseOffered}.encode())
	request.Tentative = true
	if change != nil {
		change(&request)
	}
	got, err := b.store.Acquire(ctx, request)
	if err != nil {
		return got, storeError(err)
	}
	e.index, e.held = got.Index, true
	return got, nil
}

// acquisition is the request for e's lease.
func (b *Broker) acquisition(s *settings, e *entry, ttl time.Duration, data []byte) lease.Request {
	t := e.terms.Value()
	return lease.Request{
		Pool:    t.leasePool,
		Owner:   e.owner(),
		Session: e.id.String(),
		Node:    s.Node,
		TTL:     ttl,
		Index:   e.index,
		Foreign: e.foreign(),
		Forget:  t.anonymous,
		Data:    data,
	}
}

// storeError makes of a store's error what the subscriber is to be told.
func storeError(err error) error {
	switch {
	case errors.Is(err, lease.ErrFull):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, lease.ErrUnavailable), errors.Is(err, lease.ErrGrace):
		return fmt.Errorf("%w: %w", ErrInProgress, err)
	case errors.Is(err, lease.ErrTaken), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// Reject takes an offer back. One that is gone already is no error; a session that is not an offer any more is not
// touched: ErrInProgress.
func (b *Broker) Reject(ctx context.Context, id string) error {
	e := b.lookup(id)
	if e == nil {
		return nil
	}
	ctx, cancel := detach(ctx)
	defer cancel()
	if err := b.locks.lock(ctx, e.lockKey()); err != nil {
		return fmt.Errorf("reject %s: %w: %w", id, ErrInProgress, err)
	}
	defer b.locks.unlock(e.lockKey())
	return b.withdraw(ctx, e)
}

// withdraw ends an offer. The subscriber is locked.
func (b *Broker) withdraw(ctx context.Context, e *entry) error {
	b.mu.Lock()
	current, state := b.find(e.id) == e, e.state
	if current && state == Offered {
		b.dropOffer(e)
	}
	b.mu.Unlock()
	switch {
	case !current:
		return nil
	case state != Offered:
		return fmt.Errorf("reject %v: accepted already: %w", e.id, ErrInProgress)
	}
	b.giveBack(ctx, e)
	return nil
}

// giveBack releases what an offer held. If that fails the lease ends by itself soon.
func (b *Broker) giveBack(ctx context.Context, e *entry) {
	if !e.held {
		return
	}
	if err := b.store.Release(ctx, e.holder()); err != nil {
		b.log.Warn().Err(err).Stringer("session", e.id).Msg("the lease of an offer was not given back; it will end by itself")
	}
}
