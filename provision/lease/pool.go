// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Pool is a range of endpoint addresses and a range of delegated prefixes of the same size, both numbered by an index:
// index i has the endpoint EndpointBase+i, the prefix PrefixBase + i<<(128-PrefixLen) and the tunnel id First+i.
// Index 0 is never leased. The fields are those of datapath.Pool, so one converts to the other.
type Pool struct {
	Name         string
	First        uint32 // tunnel id of index 0
	Size         uint32 // indices, index 0 counted
	EndpointBase netip.Addr
	PrefixBase   netip.Addr // the zero Addr if the pool delegates no prefix
	PrefixLen    int        // of one delegated prefix, in bits; 0: the pool delegates none
}

// Endpoint is the endpoint address of index i, the zero Addr if the pool has no such index.
func (p Pool) Endpoint(i uint32) netip.Addr {
	if i >= p.Size || !p.EndpointBase.Is6() {
		return netip.Addr{}
	}
	return wideOf(p.EndpointBase).plus(wide{lo: uint64(i)}).addr()
}

// Prefix is the delegated prefix of index i, the zero Prefix if the pool has no such index or delegates none.
func (p Pool) Prefix(i uint32) netip.Prefix {
	if i >= p.Size || !p.delegates() {
		return netip.Prefix{}
	}
	base := wideOf(p.PrefixBase).plus(wide{lo: uint64(i)}.shl(128 - p.PrefixLen))
	return netip.PrefixFrom(base.addr(), p.PrefixLen)
}

// ID is the tunnel id of index i.
func (p Pool) ID(i uint32) uint32 { return p.First + i }

// Index is the index addr belongs to, as its endpoint or as a part of its delegated prefix.
func (p Pool) Index(addr netip.Addr) (uint32, bool) {
	if i, ok := p.EndpointIndex(addr); ok {
		return i, true
	}
	if !p.delegates() || !addr.Is6() {
		return 0, false
	}
	offset, under := wideOf(addr.WithZone("")).minus(wideOf(p.PrefixBase))
	offset = offset.shr(128 - p.PrefixLen)
	if under || offset.hi != 0 || offset.lo >= uint64(p.Size) {
		return 0, false
	}
	return uint32(offset.lo), true
}

// EndpointIndex is the index whose endpoint is addr.
func (p Pool) EndpointIndex(addr netip.Addr) (uint32, bool) {
	if !addr.Is6() || !p.EndpointBase.Is6() {
		return 0, false
	}
	offset, under := wideOf(addr.WithZone("")).minus(wideOf(p.EndpointBase))
	if under || offset.hi != 0 || offset.lo >= uint64(p.Size) {
		return 0, false
	}
	return uint32(offset.lo), true
}

// PrefixIndex is the index whose delegated prefix is prefix, exactly.
func (p Pool) PrefixIndex(prefix netip.Prefix) (uint32, bool) {
	if !p.delegates() || prefix.Bits() != p.PrefixLen || prefix.Masked() != prefix {
		return 0, false
	}
	i, ok := p.Index(prefix.Addr())
	if !ok || p.Prefix(i) != prefix {
		return 0, false
	}
	return i, true
}

// TunnelIndex is the index whose tunnel id is id.
func (p Pool) TunnelIndex(id uint32) (uint32, bool) {
	if id < p.First || id-p.First >= p.Size {
		return 0, false
	}
	return id - p.First, true
}

// Overlaps tells whether prefix shares an address with the pool's endpoints or its delegated prefixes.
func (p Pool) Overlaps(prefix netip.Prefix) bool {
	r := spanOf(prefix)
	if r.overlaps(p.endpoints()) {
		return true
	}
	return p.delegates() && r.overlaps(p.prefixes())
}

func (p Pool) delegates() bool { return p.PrefixLen > 0 && p.PrefixBase.Is6() }

// endpoints is the span of all endpoint addresses.
func (p Pool) endpoints() span {
	base := wideOf(p.EndpointBase)
	return span{base, base.plus(wide{lo: uint64(p.Size) - 1})}
}

// prefixes is the span of all delegated prefixes.
func (p Pool) prefixes() span {
	base := wideOf(p.PrefixBase)
	host := 128 - p.PrefixLen
	last := base.plus(wide{lo: uint64(p.Size) - 1}.shl(host))
	return span{base, last.plus(lowMask(host))}
}

// span is a range of addresses, both ends included.
type span struct{ first, last wide }

func spanOf(prefix netip.Prefix) span {
	base := wideOf(prefix.Masked().Addr())
	return span{base, base.plus(lowMask(128 - prefix.Bits()))}
}

func (s span) overlaps(o span) bool { return !s.last.less(o.first) && !o.last.less(s.first) }

func (s span) contains(a wide) bool { return !a.less(s.first) && !s.last.less(a) }

// wide is an unsigned number of 128 bits.
type wide struct{ hi, lo uint64 }

func wideOf(a netip.Addr) wide {
	b := a.As16()
	return wide{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (w wide) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], w.hi)
	binary.BigEndian.PutUint64(b[8:], w.lo)
	return netip.AddrFrom16(b)
}

// plus adds modulo 2^128.
func (w wide) plus(o wide) wide {
	lo, carry := bits.Add64(w.lo, o.lo, 0)
	hi, _ := bits.Add64(w.hi, o.hi, carry)
	return wide{hi, lo}
}

// minus subtracts; under says that o was greater.
func (w wide) minus(o wide) (d wide, under bool) {
	lo, borrow := bits.Sub64(w.lo, o.lo, 0)
	hi, borrow := bits.Sub64(w.hi, o.hi, borrow)
	return wide{hi, lo}, borrow != 0
}

func (w wide) less(o wide) bool { return w.hi < o.hi || w.hi == o.hi && w.lo < o.lo }

// shl shifts left by n bits, 0 to 128. Go shifts by 64 and more give 0, so the middle terms vanish by themselves.
func (w wide) shl(n int) wide {
	if n >= 64 {
		return wide{hi: w.lo << (n - 64)}
	}
	return wide{hi: w.hi<<n | w.lo>>(64-n), lo: w.lo << n}
}

// shr shifts right by n bits, 0 to 128.
func (w wide) shr(n int) wide {
	if n >= 64 {
		return wide{lo: w.hi >> (n - 64)}
	}
	return wide{hi: w.hi >> n, lo: w.lo>>n | w.hi<<(64-n)}
}

// lowMask has the n low bits set.
func lowMask(n int) wide {
	all := wide{^uint64(0), ^uint64(0)}
	return all.shr(128 - n)
}
