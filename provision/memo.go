// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unique"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

// memo is what a session leaves with its lease for the process after a restart. What the lease itself says (pool, index,
// foreign prefix, session id) is not repeated.
//
// On disk it is a version, a phase, then the fields in the order of appendEntry: numbers as varints, text with its length
// before it, addresses as they are.
type memo struct {
	phase phase
	entry *entry // terms, client, times, base counters; on phaseEnding how it ended
	prev  *past  // phaseStarting only: the session it replaced, whose Stop record may still be owed
}

// past is a session that ended, with what its own lease no longer tells.
type past struct {
	entry    *entry
	endpoint netip.Addr
	prefix   netip.Prefix
}

// phase is how far a session had come.
//
//	phaseOffered:  not accepted: a restart gives the lease back
//	phaseStarting: accepted, but whether the Start record was taken is not known: a restart gives it again
//	phaseActive:   started
//	phaseEnding:   the tunnel is gone: a restart gives the Stop record (again) and the lease back
type phase uint8

const (
	phaseOffered phase = iota + 1
	phaseStarting
	phaseActive
	phaseEnding
)

const (
	memoVersion = 3
	memoBefore  = 2         // without what the tunnel had counted; read, not written
	usualMemo   = 128       // octets, more than most need
	maxSmall    = 1<<24 - 1 // the largest small number
)

var errMemo = errors.New("session data not readable")

// encode gives m as it is kept with the lease.
func (m memo) encode() []byte {
	b := append(make([]byte, 0, usualMemo), memoVersion, byte(m.phase))
	if m.phase == phaseOffered {
		return b
	}
	b = appendEntry(b, m.entry)
	if m.phase == phaseEnding {
		b = appendEnd(b, m.entry.extra.end)
	}
	if m.phase == phaseStarting {
		b = appendPast(b, m.prev)
	}
	return b
}

func appendEntry(b []byte, e *entry) []byte {
	t, l := e.terms.Value(), e.limits.Value()
	var x extra
	if e.extra != nil {
		x = *e.extra
	}
	b = append(b, bits(t.anonymous, t.noPrefix, e.router, x.cui != nil, x.renewal != nil, t.routes.Len() > 0, t.further.Len() > 0), byte(t.authentic), byte(t.encap))
	b = appendText(b, e.name, t.backend, t.pool, l.filter)
	for _, n := range []uint64{
		uint64(t.sessionLimit), uint64(t.mtu), uint64(e.slot), millis(t.keepalive), millis(t.lost),
		millis(l.sessionTimeout), millis(l.idleTimeout), millis(l.interim), l.rate.Up, l.rate.Down,
		millis(l.lifetime), millis(l.idle), millis(l.records),
		uint64(e.since),
	} {
		b = binary.AppendUvarint(b, n)
	}
	local := t.local.Addr().As4()
	b = append(b, e.client[:]...)
	b = binary.BigEndian.AppendUint16(b, e.port)
	b = append(b, local[:]...)
	b = binary.BigEndian.AppendUint16(b, t.local.Port())
	base, raw := x.base, e.raw
	if x.end != nil {
		base, raw = e.total(), datapath.Counters{}
	}
	b = appendCounters(b, base)
	b = appendCounters(b, raw)
	b = binary.AppendUvarint(b, uint64(len(x.class)))
	for _, c := range x.class {
		b = appendText(b, string(c))
	}
	if x.cui != nil {
		b = appendText(b, string(x.cui))
	}
	if x.renewal != nil {
		b = binary.AppendUvarint(appendText(b, string(x.renewal.state)), uint64(x.renewal.at))
	}
	return appendRoutes(appendRoutes(b, t.routes), t.further)
}

// routeSize is what a route takes, in octets.
const routeSize = 17

func appendRoutes(b []byte, routes datapath.Prefixes) []byte {
	if routes.Len() == 0 {
		return b
	}
	b = append(b, byte(routes.Len()))
	for p := range routes.All() {
		b = append(append(b, byte(p.Bits())), p.Addr().AsSlice()...)
	}
	return b
}

func appendEnd(b []byte, end *ending) []byte {
	return binary.AppendUvarint(append(b, byte(end.cause)), uint64(end.at))
}

func appendPast(b []byte, p *past) []byte {
	if p == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	b = append(b, p.entry.id[:]...)
	b = binary.AppendUvarint(b, uint64(p.entry.tunnelID))
	b = append(b, p.endpoint.AsSlice()...)
	if p.prefix.IsValid() {
		b = append(b, byte(p.prefix.Bits()))
		b = append(b, p.prefix.Addr().AsSlice()...)
	} else {
		b = append(b, noPrefix)
	}
	return appendEnd(appendEntry(b, p.entry), p.entry.extra.end)
}

// noPrefix stands where a prefix length would.
const noPrefix = 255

func appendText(b []byte, texts ...string) []byte {
	for _, s := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func appendCounters(b []byte, c datapath.Counters) []byte {
	for _, n := range []uint64{c.RxPackets, c.RxBytes, c.TxPackets, c.TxBytes} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func bits(flags ...bool) (b byte) {
	for i, f := range flags {
		if f {
			b |= 1 << i
		}
	}
	return b
}

func millis(d time.Duration) uint64 { return uint64(d / time.Millisecond) }

// readMemo is the inverse of memo.encode. The entry has no id, index nor tunnel id, and its terms no lease pool: they
// are the lease's to tell.
func readMemo(b []byte) (memo, error) {
	r := &reader{b: b}
	if r.version = r.byte(); r.version != memoVersion && r.version != memoBefore {
		return memo{}, fmt.Errorf("%w: version %d, expected %d", errMemo, r.version, memoVersion)
	}
	m := memo{phase: phase(r.byte())}
	switch m.phase {
	case phaseOffered:
	case phaseStarting:
		m.entry = r.entry()
		m.prev = r.past()
	case phaseActive:
		m.entry = r.entry()
	case phaseEnding:
		m.entry = r.ended()
	default:
		r.failed = true
	}
	if r.failed || len(r.b) > 0 {
		return memo{}, fmt.Errorf("%w: %d octets", errMemo, len(b))
	}
	return m, nil
}

// reader takes a memo apart. Once something is missing it fails, and gives zeros.
type reader struct {
	b       []byte
	version byte
	failed  bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.b) {
		r.failed, r.b = true, nil
		return make([]byte, min(max(n, 0), 16))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		size = -1
	}
	r.take(size)
	return n
}

// small reads a number up to maxSmall.
func (r *reader) small() int {
	n := r.number()
	if n > maxSmall {
		r.failed = true
	}
	return int(n & maxSmall)
}

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.failed = true
		return ""
	}
	return string(r.take(int(n)))
}

// duration reads milliseconds, at most some 290 million years' worth of them being refused.
func (r *reader) duration() time.Duration {
	n := r.number()
	if n > uint64(1<<63-1)/uint64(time.Millisecond) {
		r.failed = true
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// time reads Unix milliseconds.
func (r *reader) time() int64 {
	n := r.number()
	if n > 1<<53 {
		r.failed = true
	}
	return int64(n & (1<<53 - 1))
}

func (r *reader) addrPort() ([4]byte, uint16) {
	return [4]byte(r.take(4)), binary.BigEndian.Uint16(r.take(2))
}

func (r *reader) counters() datapath.Counters {
	return datapath.Counters{RxPackets: r.number(), RxBytes: r.number(), TxPackets: r.number(), TxBytes: r.number()}
}

func (r *reader) entry() *entry {
	e, t, l := &entry{}, terms{}, limits{}
	flags := r.byte()
	t.anonymous, t.noPrefix, e.router = flags&1 != 0, flags&2 != 0, flags&4 != 0
	t.authentic, t.encap = aaa.Authentic(r.byte()), datapath.Encap(r.byte())
	e.name, t.backend, t.pool, l.filter = r.text(), r.text(), r.text(), r.text()
	t.sessionLimit, t.mtu, e.slot, t.keepalive, t.lost = r.small(), r.small(), uint16(r.small()), r.duration(), r.duration()
	l.sessionTimeout, l.idleTimeout, l.interim, l.rate.Up, l.rate.Down = r.duration(), r.duration(), r.duration(), r.number(), r.number()
	l.lifetime, l.idle, l.records = r.duration(), r.duration(), r.duration()
	e.since = r.time()
	e.client, e.port = r.addrPort()
	local, port := r.addrPort()
	t.local = netip.AddrPortFrom(netip.AddrFrom4(local), port)
	base := r.counters()
	if r.version > memoBefore {
		e.raw = r.counters()
	}
	if x := r.extra(base, flags&8 != 0, flags&16 != 0); x.base != (datapath.Counters{}) || x.class != nil || x.cui != nil || x.renewal != nil {
		e.extra = &x
	}
	if flags&32 != 0 {
		t.routes = r.routes()
	}
	if flags&64 != 0 {
		t.further = r.routes()
	}
	if flags > 127 || t.encap != datapath.V6UDPV4 && t.encap != datapath.V6V4 {
		r.failed = true
	}
	e.terms, e.limits = unique.Make(t), unique.Make(l)
	return e
}

// routes reads at least one route and at most datapath.MaxRoutes.
func (r *reader) routes() datapath.Prefixes {
	n := int(r.byte())
	var routes []netip.Prefix
	for range min(n, datapath.MaxRoutes) {
		bits := int(r.byte())
		routes = append(routes, netip.PrefixFrom(netip.AddrFrom16([16]byte(r.take(16))), bits))
	}
	set := datapath.PrefixesOf(routes...)
	if n == 0 || set.Len() != n {
		r.failed = true
	}
	return set
}

// extra reads what few sessions have, behind base; of the last two it is told whether they are there.
func (r *reader) extra(base datapath.Counters, cui, again bool) (x extra) {
	x.base = base
	for n := r.number(); n > 0 && !r.failed; n-- {
		x.class = append(x.class, []byte(r.text()))
	}
	if cui {
		x.cui = []byte(r.text())
	}
	if again {
		x.renewal = &renewal{state: []byte(r.text()), at: r.time()}
	}
	return x
}

func (r *reader) end() *ending {
	return &ending{cause: aaa.Cause(r.byte()), at: r.time()}
}

func (r *reader) past() *past {
	switch r.byte() {
	case 0:
		return nil
	case 1:
	default:
		r.failed = true
		return nil
	}
	p := &past{}
	id := sid(r.take(12))
	tunnelID := uint32(r.number())
	p.endpoint = netip.AddrFrom16([16]byte(r.take(16)))
	if n := r.byte(); n != noPrefix {
		p.prefix = netip.PrefixFrom(netip.AddrFrom16([16]byte(r.take(16))), int(n))
		if !p.prefix.IsValid() {
			r.failed = true
		}
	}
	p.entry = r.ended()
	p.entry.id, p.entry.tunnelID = id, tunnelID
	return p
}

// ended reads the entry of a session that has ended: all that it counted stands in base.
func (r *reader) ended() *entry {
	e := r.entry()
	e.more().end = r.end()
	if e.raw != (datapath.Counters{}) {
		r.failed = true
	}
	return e
}
