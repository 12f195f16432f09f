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
		sessionLimit:   min(max(0, sub.SessionLimit), maxSmall),
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
