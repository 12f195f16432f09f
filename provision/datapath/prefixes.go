// SPDX-License-Identifier: GPL-2.0-or-later

package datapath

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// MaxRoutes is how many routes a tunnel may have.
const MaxRoutes = 16

// Prefixes is a set of IPv6 prefixes that never changes. It can be compared by == and shared; the zero value is empty.
type Prefixes struct {
	packed string // of each its address and its length, in this order, none twice
}

// packedSize is how many octets a prefix takes.
const packedSize = 17

// PrefixesOf makes a set of prefixes, host bits set to 0. What is no IPv6 prefix is left out.
func PrefixesOf(prefixes ...netip.Prefix) Prefixes {
	packed := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		if p.IsValid() && p.Addr().Is6() {
			a := p.Masked().Addr().As16()
			packed = append(packed, string(append(a[:], byte(p.Bits()))))
		}
	}
	slices.Sort(packed)
	return Prefixes{strings.Join(slices.Compact(packed), "")}
}

// Len is how many there are.
func (p Prefixes) Len() int { return len(p.packed) / packedSize }

// All yields them in the order of their addresses, of two with the same the larger first.
func (p Prefixes) All() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for rest := p.packed; len(rest) >= packedSize; rest = rest[packedSize:] {
			if !yield(netip.PrefixFrom(netip.AddrFrom16([16]byte([]byte(rest[:16]))), int(rest[16]))) {
				return
			}
		}
	}
}

// Has tells whether a prefix is one of them.
func (p Prefixes) Has(prefix netip.Prefix) bool {
	for one := range p.All() {
		if one == prefix {
			return true
		}
	}
	return false
}

// Contains tells whether an address is in one of them.
func (p Prefixes) Contains(a netip.Addr) bool {
	for prefix := range p.All() {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// Overlaps tells whether one of them shares an address with a prefix.
func (p Prefixes) Overlaps(other netip.Prefix) bool {
	for prefix := range p.All() {
		if prefix.Overlaps(other) {
			return true
		}
	}
	return false
}

// String gives them with a blank between two.
func (p Prefixes) String() string {
	var b strings.Builder
	for prefix := range p.All() {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(prefix.String())
	}
	return b.String()
}
