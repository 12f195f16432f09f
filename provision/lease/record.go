// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// journalKind names the form of the records below.
const journalKind = "ddtb leases 1"

// A record of the journal is a sequence of these. Numbers are uvarints, times 8 octets big-endian. Pools are counted as
// in the last definition before.
const (
	opPools   = 1 // number of pools, each: name (length before), first, size, endpoint base 16, prefix length, prefix base 16
	opPut     = 2 // pool, index, entry
	opExtend  = 3 // pool, index, end: the lease lasts until then
	opRelease = 4 // pool, index, end: the lease ended then
)

var errMalformed = errors.New("malformed lease record")

// appendPools writes the definition of pools.
func appendPools(b []byte, pools []Pool) []byte {
	b = append(b, opPools)
	b = binary.AppendUvarint(b, uint64(len(pools)))
	for _, p := range pools {
		b = binary.AppendUvarint(b, uint64(len(p.Name)))
		b = append(b, p.Name...)
		b = binary.AppendUvarint(b, uint64(p.First))
		b = binary.AppendUvarint(b, uint64(p.Size))
		e := p.EndpointBase.As16()
		b = append(b, e[:]...)
		b = binary.AppendUvarint(b, uint64(p.PrefixLen))
		var base [16]byte
		if p.delegates() {
			base = p.PrefixBase.As16()
		}
		b = append(b, base[:]...)
	}
	return b
}

// appendPut writes an entry as it is.
func appendPut(b []byte, p *poolTable, index uint32, e entry) []byte {
	return appendEntry(appendIndex(b, opPut, p, index), e)
}

// appendChange writes what makes c.after of c.before, as shortly as may be.
func appendChange(b []byte, c change) []byte {
	op := byte(opPut)
	extended := c.before
	extended.end = c.after.end
	switch {
	case !c.before.is(held):
	case extended.same(c.after):
		op = opExtend
	case c.before.ended(c.after.end).same(c.after):
		op = opRelease
	}
	if op == opPut {
		return appendPut(b, c.pool, c.index, c.after)
	}
	return binary.BigEndian.AppendUint64(appendIndex(b, op, c.pool, c.index), uint64(c.after.end))
}

func appendIndex(b []byte, op byte, p *poolTable, index uint32) []byte {
	b = append(b, op)
	b = binary.AppendUvarint(b, uint64(p.number))
	return binary.AppendUvarint(b, uint64(index))
}

// loader makes a table of records. Its orders and indices are not built: the state between two records may contradict
// itself when the journal was compacted under load.
type loader struct {
	opts  Options
	table *table // nil until the pools are known
}

// record puts a record into effect.
func (l *loader) record(record []byte) error {
	d := decoder{rest: record}
	for len(d.rest) > 0 && !d.bad {
		op := d.octet()
		switch {
		case op != opPools && l.table != nil:
			d.change(l.table, op)
		case op == opPools && l.table == nil:
			pools := d.pools()
			if err := Validate(pools); err != nil {
				return fmt.Errorf("%w: %w", errMalformed, err)
			}
			l.table = newTable(pools, l.opts)
		default:
			return fmt.Errorf("%w: the pools have to come first, and once", errMalformed)
		}
	}
	if d.bad {
		return errMalformed
	}
	return nil
}

// decoder reads a record. After something malformed all it gives is zero, and bad is set.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) change(t *table, op byte) {
	number, index := d.uvarint(), d.uvarint()
	if d.bad || number >= uint64(len(t.pools)) || index == 0 || index >= uint64(t.pools[number].Size) {
		d.bad = true
		return
	}
	p := t.pools[number]
	e := p.get(uint32(index))
	switch op {
	case opPut:
		e = d.entry()
	case opExtend:
		e.end = d.time()
	case opRelease:
		if e.is(held) {
			e = e.ended(0)
		}
		e.end = d.time()
	default:
		d.bad = true
	}
	if d.bad || !e.is(used) {
		d.bad = true
		return
	}
	*p.place(uint32(index)) = e
}

func (d *decoder) entry() entry {
	e := entry{flags: flags(d.octet()), since: d.time(), end: d.time()}
	e.blob = string(d.take(d.uvarint()))
	if !e.valid() {
		d.bad = true
	}
	return e
}

func (d *decoder) pools() []Pool {
	n := d.uvarint()
	var out []Pool
	for ; n > 0 && !d.bad; n-- {
		p := Pool{Name: string(d.take(d.uvarint())), First: d.uint32(), Size: d.uint32()}
		p.EndpointBase = d.addr()
		p.PrefixLen = int(d.uint32())
		if base := d.addr(); p.PrefixLen > 0 {
			p.PrefixBase = base
		}
		out = append(out, p)
	}
	return out
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) octet() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.take(uint64(n))
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v>>32 != 0 {
		d.bad = true
	}
	return uint32(v)
}

func (d *decoder) time() int64 {
	if b := d.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (d *decoder) addr() netip.Addr {
	if b := d.take(16); b != nil {
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.Addr{}
}
