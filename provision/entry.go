// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"net/netip"
	"slices"
	"time"
	"unique"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// entry is the Broker's own record of a session, made small: there may be a million. What many sessions share is in the
// terms, what few have in the extra. Fields above the line never change; those below are guarded by table.mu.
type entry struct {
	id    sid
	index uint32 // of the lease in terms.leasePool
	name  string // aaa.Subscriber.Name; "" for anonymous sessions
	terms unique.Handle[terms]
	extra *extra // nil for most

	client    [4]byte
	port      uint16 // 0 for V6V4
	slot      uint16 // of the subscriber's sessions, from 1
	tunnelID  uint32
	router    bool // a prefix is delegated
	forgeable bool // Offered: see Request

	// --------------------------------------------------

	limits   unique.Handle[limits]
	held     bool // Offered: the lease is held by this session already
	sweep    uint8
	state    State
	since    int64  // Unix ms
	seen     int64  // Unix ms
	leaseEnd uint32 // Unix s
	interim  uint32 // Unix s of the next Interim record, 0: none
	raw      datapath.Counters
}

// terms is what sessions have in common: what the backend said of the subscriber, and what was agreed on.
type terms struct {
	backend      string
	authentic    aaa.Authentic
	anonymous    bool
	noPrefix     bool
	pool         string // as the backend named it
	sessionLimit int
	routes       datapath.Prefixes // to the subscriber, beside endpoint and delegated prefix
	further      datapath.Prefixes // those of routes that are delegated, too

	leasePool string
	encap     datapath.Encap
	local     netip.AddrPort
	mtu       int
	keepalive time.Duration
	lost      time.Duration // of silence, after which the client is taken for gone
}

// limits is what bounds a session and may change while it is in force. Change writes it with the subscriber locked and
// table.mu held, so whoever has one of the two may read it.
type limits struct {
	sessionTimeout time.Duration // as the backend named them
	idleTimeout    time.Duration
	interim        time.Duration
	rate           aaa.Rate
	filter         string

	lifetime time.Duration // of the session, from entry.since
	idle     time.Duration // of silence, that ends the session; 0: only the loss of the client does
	records  time.Duration // between Interim records, 0: none
}

// extra is what few sessions have.
type extra struct {
	class   [][]byte
	cui     []byte            // Chargeable-User-Identity
	foreign netip.Prefix      // a static prefix from outside the pools
	renewal *renewal          // the backend is to be asked again
	base    datapath.Counters // counted before the tunnel was set anew: added to entry.raw
	end     *ending           // state Ending only
}

// renewal is when the backend is asked whether the session may go on, and what it wants to see then.
type renewal struct {
	state []byte
	at    int64 // Unix ms
}

// ending is how a session ended and what is still owed for it.
type ending struct {
	cause aaa.Cause
	at    int64 // Unix ms
	step  endStep
	lost  bool     // the lease is another's by now
	nas   *aaa.NAS // whose it was, nil: this server's
}

// endStep counts what of an end has been done.
type endStep uint8

const (
	endDeleted   endStep = iota // the tunnel is gone
	endMarked                   // and a restart would find that, with the last counters
	endAccounted                // and the Stop record is safe: only the lease has to be given back
)

// clientKey is one end of the outer path as seen from here: two tunnels cannot share it.
type clientKey struct {
	client, local [4]byte
	port          uint16
	encap         datapath.Encap
}

func (e *entry) from() clientKey {
	t := e.terms.Value()
	return clientKey{client: e.client, local: t.local.Addr().As4(), port: e.port, encap: t.encap}
}

// owner is the owner of the entry's lease.
func (e *entry) owner() string {
	if e.terms.Value().anonymous {
		return anonymousOwner(e.id)
	}
	return Owner(e.name, int(e.slot))
}

// lockKey is what the locks know the entry's subscriber by.
func (e *entry) lockKey() string {
	if e.terms.Value().anonymous {
		return anonymousOwner(e.id)
	}
	return e.name
}

func (e *entry) holder() lease.Holder {
	return lease.Holder{Pool: e.terms.Value().leasePool, Index: e.index, Session: e.id.String(), Owner: e.owner()}
}

// more gives the extra, to be written to.
func (e *entry) more() *extra {
	if e.extra == nil {
		e.extra = &extra{}
	}
	return e.extra
}

// total is what the session has carried.
func (e *entry) total() datapath.Counters {
	if e.extra == nil {
		return e.raw
	}
	return plus(e.extra.base, e.raw)
}

// countAnew notes that the tunnel is going to count from zero.
func (e *entry) countAnew() {
	e.more().base = e.total()
	e.raw = datapath.Counters{}
}

// counted takes over what the tunnel has counted so far. Counters that fell are those of a tunnel that was set anew behind
// our back.
func (e *entry) counted(now datapath.Counters) {
	if now.RxPackets < e.raw.RxPackets || now.TxPackets < e.raw.TxPackets {
		e.countAnew()
	}
	e.raw = now
}

func plus(a, b datapath.Counters) datapath.Counters {
	return datapath.Counters{
		RxPackets: a.RxPackets + b.RxPackets, RxBytes: a.RxBytes + b.RxBytes,
		TxPackets: a.TxPackets + b.TxPackets, TxBytes: a.TxBytes + b.TxBytes,
	}
}

// grown is what a counter of the same tunnel gained from one look to the next. One that fell was set anew.
func grown(before, after datapath.Counters) datapath.Counters {
	if after.RxPackets < before.RxPackets || after.TxPackets < before.TxPackets {
		return after
	}
	return datapath.Counters{
		RxPackets: after.RxPackets - before.RxPackets, RxBytes: after.RxBytes - before.RxBytes,
		TxPackets: after.TxPackets - before.TxPackets, TxBytes: after.TxBytes - before.TxBytes,
	}
}

func (e *entry) foreign() netip.Prefix {
	if e.extra == nil {
		return netip.Prefix{}
	}
	return e.extra.foreign
}

// prefix is the delegated prefix, invalid if there is none.
func (e *entry) prefix(pool lease.Pool) netip.Prefix {
	if !e.router {
		return netip.Prefix{}
	}
	if foreign := e.foreign(); foreign.IsValid() {
		return foreign
	}
	return pool.Prefix(e.index)
}

func (e *entry) clientAddr() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(e.client), e.port)
}

// tunnel is the wanted state of the session's tunnel.
func (e *entry) tunnel(pool lease.Pool) datapath.Tunnel {
	t, rate := e.terms.Value(), e.limits.Value().rate
	return datapath.Tunnel{
		ID:       e.tunnelID,
		Session:  e.id.tunnel(),
		Encap:    t.encap,
		Local:    t.local,
		Remote:   e.clientAddr(),
		Endpoint: pool.Endpoint(e.index),
		Prefix:   e.prefix(pool),
		Routes:   t.routes,
		MTU:      t.mtu,
		Rate:     datapath.Rate{Rx: rate.Up, Tx: rate.Down},
	}
}

func (e *entry) subscriber() aaa.Subscriber {
	t, l := e.terms.Value(), e.limits.Value()
	s := aaa.Subscriber{
		Name:            e.name,
		Anonymous:       t.anonymous,
		Backend:         t.backend,
		Authentic:       t.authentic,
		Pool:            t.pool,
		NoPrefix:        t.noPrefix,
		SessionLimit:    t.sessionLimit,
		SessionTimeout:  l.sessionTimeout,
		IdleTimeout:     l.idleTimeout,
		InterimInterval: l.interim,
		Rate:            l.rate,
		Filter:          l.filter,
	}
	if e.extra != nil {
		s.Class, s.CUI = e.extra.class, e.extra.cui
		if e.extra.renewal != nil {
			s.Reauthorize = e.extra.renewal.state
		}
	}
	return s
}

// session is the entry as others see it.
func (e *entry) session(s *settings) Session {
	t, pool := e.terms.Value(), s.pool(e.terms.Value().leasePool)
	return Session{
		ID:         e.id.String(),
		State:      e.state,
		Subscriber: e.subscriber(),
		Owner:      e.owner(),
		Pool:       t.leasePool,
		TunnelID:   e.tunnelID,
		Encap:      t.encap,
		Client:     e.clientAddr(),
		Local:      t.local,
		Server:     s.Server,
		Endpoint:   pool.Endpoint(e.index),
		Prefix:     e.prefix(pool),
		Routes:     t.routes,
		MTU:        t.mtu,
		Keepalive:  t.keepalive,
		Lifetime:   e.limits.Value().lifetime,
		Since:      time.UnixMilli(e.since).UTC(),
		Seen:       time.UnixMilli(e.seen).UTC(),
		Traffic:    e.total(),
	}
}

// record is an accounting record of the session.
func (e *entry) record(s *settings, status aaa.Status, at int64) aaa.Record {
	t, pool := e.terms.Value(), s.pool(e.terms.Value().leasePool)
	r := aaa.Record{
		Status:     status,
		Session:    e.id.String(),
		Subscriber: e.subscriber(),
		Time:       time.UnixMilli(at).UTC(),
		TunnelID:   e.tunnelID,
		Encap:      t.encap.String(),
		Client:     e.clientAddr(),
		Server:     t.local,
		Endpoint:   pool.Endpoint(e.index),
		Prefix:     e.prefix(pool),
		Further:    slices.Collect(t.further.All()),
	}
	for p := range t.routes.All() {
		if !t.further.Has(p) {
			r.Routes = append(r.Routes, p)
		}
	}
	if e.extra != nil && e.extra.end != nil && e.extra.end.nas != nil {
		r.NAS = *e.extra.end.nas
		if !r.NAS.Address.IsValid() {
			r.NAS.Address = t.local.Addr()
		}
	}
	if status != aaa.StatusStart {
		c := e.total()
		r.SessionTime = time.Duration(max(0, at-e.since)) * time.Millisecond
		r.Octets = aaa.Traffic{Input: c.RxBytes, Output: c.TxBytes}
		r.Packets = aaa.Traffic{Input: c.RxPackets, Output: c.TxPackets}
	}
	return r
}
