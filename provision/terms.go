// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unique"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

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
	routes, further, err := s.routes(sub, r.Router)
	if err != nil {
		return nil, err
	}
	e := &entry{
		id:     id,
		index:  index,
		client: r.Client.Addr().As4(),
		port:   r.Client.Port(),
		slot:   1,
		router: r.Router,

		forgeable: r.Forgeable,
		terms:     unique.Make(s.terms(r, pool.Name, routes, further)),
		limits:    unique.Make(s.limits(r.Subscriber, 0)),
	}
	if !sub.Anonymous {
		e.name = strings.Clone(sub.Name) // the message it was cut out of may hold a password
	}
	x := extra{foreign: foreign, class: copyClass(sub.Class), cui: slices.Clone(sub.CUI), renewal: renewalOf(sub, 0)}
	if foreign.IsValid() || x.class != nil || x.cui != nil || x.renewal != nil {
		e.extra = &x
	}
	return e, nil
}

// renewalOf is when the backend wants to be asked again about what it granted at an instant (Unix ms), nil for never.
func renewalOf(sub aaa.Subscriber, at int64) *renewal {
	if sub.Reauthorize == nil || sub.SessionTimeout <= 0 {
		return nil
	}
	return &renewal{state: slices.Clone(sub.Reauthorize), at: at + sub.SessionTimeout.Milliseconds()}
}

func copyClass(class [][]byte) (out [][]byte) {
	for _, c := range class {
		out = append(out, slices.Clone(c))
	}
	return out
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

// CheckGrant says why what a backend grants a subscriber cannot be had from pools, of which the first is the default; nil if it can. Whether
// it is free is not looked at. It is for those who set up a backend: at a login the client would only hear 310.
func CheckGrant(pools []lease.Pool, sub aaa.Subscriber) error {
	s := &settings{Config: Config{Pools: pools}, pools: make(map[string]lease.Pool)}
	for i, p := range pools {
		if i == 0 {
			s.DefaultPool = p.Name
		}
		s.pools[p.Name] = p
	}
	_, _, foreign, err := s.wanted(sub)
	if err == nil {
		err = keepable(sub)
	}
	if err == nil && foreign.IsValid() {
		err = lease.ValidForeign(pools, foreign)
	}
	if err == nil {
		_, _, err = s.routes(sub, true)
	}
	return err
}

// terms settles what a session is promised once and for all.
func (s *settings) terms(r Request, pool string, routes, further datapath.Prefixes) terms {
	sub := r.Subscriber
	t := terms{
		backend:      sub.Backend,
		authentic:    sub.Authentic,
		anonymous:    sub.Anonymous,
		noPrefix:     sub.NoPrefix,
		pool:         sub.Pool,
		sessionLimit: min(max(0, sub.SessionLimit), maxSmall),
		routes:       routes,
		further:      further,
		leasePool:    pool,
		encap:        r.Encap,
		local:        r.Local,
		mtu:          s.MTU,
		keepalive:    s.Keepalive.Default,
		lost:         s.LostUnasked,
	}
	if r.Keepalive > 0 {
		t.keepalive = min(max(r.Keepalive, s.Keepalive.Min), s.Keepalive.Max)
		t.lost = time.Duration(s.LostAfter) * t.keepalive
	}
	t.keepalive, t.lost = stored(t.keepalive), stored(t.lost)
	return t
}

// limits settles what bounds a session that has been in force for so long already. Whom the backend wants to be asked about
// again is not ended by his Session-Timeout.
func (s *settings) limits(sub aaa.Subscriber, age time.Duration) limits {
	l := limits{
		sessionTimeout: stored(sub.SessionTimeout),
		idleTimeout:    stored(sub.IdleTimeout),
		interim:        stored(sub.InterimInterval),
		rate:           sub.Rate,
		filter:         sub.Filter,
		lifetime:       stored(s.Lifetime),
		records:        stored(s.Interim),
	}
	if l.sessionTimeout > 0 && sub.Reauthorize == nil { // else the backend decides then
		l.lifetime = min(l.lifetime, stored(age)+l.sessionTimeout)
	}
	if l.interim > 0 {
		l.records = max(l.interim, minInterim)
	}
	if l.idle = l.idleTimeout; l.idle == 0 {
		l.idle = stored(s.IdleTimeout)
	}
	return l
}

// minInterim is the least a backend may ask for (RFC 2869 section 5.16).
const minInterim = time.Minute

// stored is d as a memo can hold it.
func stored(d time.Duration) time.Duration { return max(0, d).Truncate(time.Millisecond) }
