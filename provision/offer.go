// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unique"

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
}

// maxClass bounds all Class attributes of a subscriber together, in octets with two more for each.
const maxClass = 1024

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
	sub, class := r.Subscriber, 0
	for _, c := range sub.Class {
		class += len(c) + 2
	}
	if !sub.Anonymous && sub.Name == "" || len(Owner(sub.Name, MaxSlots)) > lease.MaxOwner || class > maxClass {
		return fmt.Errorf("name of %d and class of %d octets: a name that makes an owner of at most %d, and at most %d of class expected",
			len(sub.Name), class, lease.MaxOwner, maxClass)
	}
	if r.Router && sub.Anonymous {
		return ErrAnonymousPrefix
	}
	if r.Router && sub.NoPrefix {
		return fmt.Errorf("none may be delegated: %w", ErrPrefixLength)
	}
	return nil
}

// admit refuses before anything is spent when there is no room. Who has a session already may replace it.
func (b *Broker) admit(s *settings, r Request) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	sub := r.Subscriber
	if n := len(b.offers) + b.offering; n >= s.MaxNegotiating {
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

// newEntry makes the session that a request would become; slot and index are not settled yet.
func newEntry(s *settings, id sid, r Request) (*entry, error) {
	pool, index, foreign, err := s.wanted(r.Subscriber)
	if err != nil {
		return nil, err
	}
	if r.Router {
		if err := checkLength(pool, foreign, r.PrefixLen); err != nil {
			return nil, err
		}
	}
	sub := r.Subscriber
	e := &entry{
		id:     id,
		index:  index,
		client: r.Client.Addr().As4(),
		port:   r.Client.Port(),
		slot:   1,
		router: r.Router,
		terms:  unique.Make(s.terms(r, pool.Name)),
	}
	if !sub.Anonymous {
		e.name = strings.Clone(sub.Name) // the message it was cut out of may hold a password
	}
	if foreign.IsValid() || sub.Class != nil {
		e.extra = &extra{foreign: foreign}
	}
	for _, c := range sub.Class {
		e.extra.class = append(e.extra.class, slices.Clone(c))
	}
	return e, nil
}

// checkLength tells whether the prefix there would be is at least as large as the one wanted.
func checkLength(pool lease.Pool, foreign netip.Prefix, want int) error {
	have := pool.PrefixLen
	if foreign.IsValid() {
		have = foreign.Bits()
	}
	if have == 0 {
		return fmt.Errorf("pool %q delegates none: %w", pool.Name, ErrPrefixLength)
	}
	if want != 0 && have > want {
		return fmt.Errorf("/%d wanted, /%d to be had: %w", want, have, ErrPrefixLength)
	}
	return nil
}

// wanted says from which pool a subscriber is to be served, with which static index (0: any) and foreign prefix.
func (s *settings) wanted(sub aaa.Subscriber) (pool lease.Pool, index uint32, foreign netip.Prefix, err error) {
	name := sub.Pool
	switch {
	case name != "":
	case sub.Anonymous:
		name = s.AnonymousPool
	default:
		name = s.DefaultPool
	}
	pool, ok := s.pools[name]
	if !ok {
		return pool, 0, foreign, fmt.Errorf("pool %q of %q: there is none", name, sub.Name)
	}
	fixed := func(i uint32, p lease.Pool) error {
		if index != 0 && (index != i || p.Name != pool.Name) {
			return fmt.Errorf("static endpoint %v and prefix %v of %q: not of the same index", sub.Endpoint, sub.Prefix, sub.Name)
		}
		if sub.Pool != "" && p.Name != pool.Name || i == 0 {
			return fmt.Errorf("static endpoint %v or prefix %v of %q: not to be had from pool %q", sub.Endpoint, sub.Prefix, sub.Name, pool.Name)
		}
		pool, index = p, i
		return nil
	}
	if sub.Endpoint.IsValid() {
		err = fmt.Errorf("static endpoint %v of %q: in no pool", sub.Endpoint, sub.Name)
		for _, p := range s.Pools {
			if i, ok := p.EndpointIndex(sub.Endpoint); ok {
				err = fixed(i, p)
			}
		}
	}
	if err != nil || !sub.Prefix.IsValid() || sub.NoPrefix {
		return pool, index, foreign, err
	}
	for _, p := range s.Pools {
		if i, ok := p.PrefixIndex(sub.Prefix); ok {
			return pool, index, foreign, fixed(i, p)
		}
	}
	return pool, index, sub.Prefix, nil
}

// terms settles what a session is promised.
func (s *settings) terms(r Request, pool string) terms {
	sub := r.Subscriber
	t := terms{
		backend:        sub.Backend,
		authentic:      sub.Authentic,
		anonymous:      sub.Anonymous,
		noPrefix:       sub.NoPrefix,
		pool:           sub.Pool,
		sessionLimit:   max(0, sub.SessionLimit),
		sessionTimeout: stored(sub.SessionTimeout),
		idleTimeout:    stored(sub.IdleTimeout),
		interim:        stored(sub.InterimInterval),
		leasePool:      pool,
		encap:          r.Encap,
		local:          r.Local,
		mtu:            s.MTU,
		keepalive:      s.Keepalive.Default,
		lifetime:       stored(s.Lifetime),
		records:        stored(s.Interim),
	}
	if t.sessionTimeout > 0 {
		t.lifetime = min(t.lifetime, t.sessionTimeout)
	}
	if t.interim > 0 {
		t.records = max(t.interim, minInterim)
	}
	t.silence = s.LostUnasked
	if r.Keepalive > 0 {
		t.keepalive = min(max(r.Keepalive, s.Keepalive.Min), s.Keepalive.Max)
		t.silence = time.Duration(s.LostAfter) * t.keepalive
	}
	idle := t.idleTimeout
	if idle == 0 {
		idle = stored(s.IdleTimeout)
	}
	if idle > 0 && idle < t.silence {
		t.silence, t.idle = idle, true
	}
	t.keepalive, t.silence = stored(t.keepalive), stored(t.silence)
	return t
}

// minInterim is the least a backend may ask for (RFC 2869 section 5.16).
const minInterim = time.Minute

// stored is d as a memo can hold it.
func stored(d time.Duration) time.Duration { return max(0, d).Truncate(time.Millisecond) }

// place finds a slot and a lease for e and puts it among the offers. The subscriber is locked.
func (b *Broker) place(ctx context.Context, s *settings, e *entry, sub aaa.Subscriber) error {
	current, err := b.settle(ctx, s, e, sub)
	if err != nil {
		return err
	}
	if current != nil && current.terms.Value().leasePool == e.terms.Value().leasePool {
		if e.index == 0 {
			e.index = current.index
		}
	} else if err := b.reserve(ctx, s, e); err != nil {
		return err
	}
	e.tunnelID = s.pool(e.terms.Value().leasePool).ID(e.index)
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

// settle picks the slot and gives the session that is in it now, which Activate will replace, or nil.
func (b *Broker) settle(ctx context.Context, s *settings, e *entry, sub aaa.Subscriber) (*entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.contend(e); err != nil || sub.Anonymous {
		return nil, err
	}
	slot, err := b.choose(s, e, sub)
	if err != nil {
		return nil, err
	}
	e.slot = uint16(slot)
	current := b.owners[e.owner()]
	if current == nil && len(b.byID)+b.offering > s.MaxSessions {
		return nil, fmt.Errorf("%d sessions, and the subscriber has slot %d free: %w", len(b.byID), slot, ErrFull)
	}
	if current == nil || current.state == Active {
		return current, nil
	}
	b.mu.Unlock()
	err = b.finish(ctx, current)
	b.mu.Lock()
	return nil, err
}

// contend refuses e when its outer address ends a v6v4 tunnel of somebody else who was heard of lately (RFC 5572,
// status 506). Whoever speaks from an address has proved to be there, so an anonymous session keeps nobody out.
func (b *Broker) contend(e *entry) error {
	other := b.clients[e.from()]
	if other == nil || e.terms.Value().encap != datapath.V6V4 {
		return nil
	}
	if terms := other.terms.Value(); terms.anonymous || other.name == e.name && !e.terms.Value().anonymous || b.silent(other) {
		return nil
	}
	return fmt.Errorf("session %v: %w", other.id, ErrAddressInUse)
}

func (b *Broker) silent(e *entry) bool {
	return b.now()-e.seen > e.terms.Value().silence.Milliseconds()
}

// choose picks the slot for a further session of a subscriber: the one of the same outer address, else the lowest free
// one, so that each keeps its lease, else by policy the one longest silent.
func (b *Broker) choose(s *settings, e *entry, sub aaa.Subscriber) (int, error) {
	limit := s.Sessions.Limit
	if sub.SessionLimit > 0 {
		limit = min(sub.SessionLimit, MaxSlots)
	}
	if e.index != 0 || e.foreign().IsValid() {
		limit = 1 // a static address is in one place at a time
	}
	free, victim, quietest, pending := limit+1, 0, int64(math.MaxInt64), false
	for slot := 1; slot <= limit; slot++ {
		owner := Owner(e.name, slot)
		current, offer := b.owners[owner], b.offers[owner]
		vacant := current == nil || current.state == Ending
		if !vacant && current.from() == e.from() || offer != nil && offer.from() == e.from() {
			return slot, nil
		}
		pending = pending || offer != nil
		if vacant && offer == nil {
			free = min(free, slot)
			continue
		}
		if s.Sessions.Deny && (offer != nil || !b.silent(current)) {
			continue
		}
		if last := lastSign(current, offer); last < quietest {
			victim, quietest = slot, last
		}
	}
	switch {
	case free <= limit:
		return free, nil
	case victim != 0:
		return victim, nil
	case pending:
		return 0, fmt.Errorf("another login of the subscriber is not done: %w", ErrInProgress)
	}
	return 0, fmt.Errorf("%d sessions: %w", limit, ErrDenied)
}

// lastSign is when a slot was last heard of.
func lastSign(current, offer *entry) int64 {
	last := int64(0)
	for _, e := range []*entry{current, offer} {
		if e != nil {
			last = max(last, e.seen)
		}
	}
	return last
}

// reserve takes a lease for an offer. A process after a restart finds by its Data that nobody accepted it.
func (b *Broker) reserve(ctx context.Context, s *settings, e *entry) error {
	got, err := b.store.Acquire(ctx, b.acquisition(s, e, s.OfferTimeout+2*s.SweepInterval, offeredMemo()))
	if err != nil {
		return storeError(err)
	}
	e.index, e.held = got.Index, true
	return nil
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
