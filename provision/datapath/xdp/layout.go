// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// Bounds of a Config. The first three are sizes in bpf/tables.h.
const (
	maxPools = 8
	maxLocal = 8
	maxPorts = 16
	maxSize  = 1 << 24 // ids of all pools: 3 GiB of records
)

// layout is where the records of a Config's pools lie: one pool after the other.
type layout struct {
	pools  []datapath.Pool
	locals []netip.AddrPort // records name them by index
	first  []uint32         // slot of index 0 of each pool
	size   uint32           // slots
	spread uint32           // log2 of the distance between two records
}

func layoutOf(c datapath.Config, spread uint32) (layout, error) {
	l := layout{pools: slices.Clone(c.Pools), locals: slices.Clone(c.Local), spread: spread}
	total := uint64(0)
	for _, p := range c.Pools {
		l.first = append(l.first, uint32(total))
		total += uint64(p.Size)
	}
	if len(c.Pools) > maxPools {
		return layout{}, fmt.Errorf("%d pools: at most %d", len(c.Pools), maxPools)
	}
	if total > maxSize {
		return layout{}, fmt.Errorf("pools of %d tunnels: each takes %d octets of kernel memory from the start, so at most %d in all (%d MiB)",
			total, tunnelSize, maxSize, maxSize*tunnelSize>>20)
	}
	if spread != 0 && spread != ownLine {
		return layout{}, fmt.Errorf("records spread by 2^%d", spread)
	}
	l.size = uint32(total)
	return l, nil
}

// tunnelSize is what a tunnel takes where records are dense; ownLine is the spread that gives each half a cache line.
const (
	tunnelSize = 2*halfSize + ledgerSize + tallySize
	ownLine    = 2
)

// cacheOfCPU is about what a CPU keeps of records in a cache of its own.
const cacheOfCPU = 1 << 20

// spreadOf chooses the distance between records. As long as those of one direction would fit into the CPUs' own caches each
// has a cache line for itself, or two CPUs would take a line from each other for the sake of two different tunnels. With
// more, what counts is how many are found in a cache at all.
func spreadOf(pools []datapath.Pool, cpus int) uint32 {
	total := uint64(0)
	for _, p := range pools {
		total += uint64(p.Size)
	}
	if total*halfSize<<ownLine <= uint64(cpus)*cacheOfCPU {
		return ownLine
	}
	return 0
}

// tallies is where they begin in the map, in entries: on a cache line.
func (l layout) tallies() uint32 {
	const line = tallySize / halfSize
	return (2*l.size<<l.spread + l.size*(ledgerSize/halfSize) + line - 1) / line * line
}

// entries is the size of the map.
func (l layout) entries() uint32 { return l.tallies() + l.size*(tallySize/halfSize) + configEntries }

// local is the index of a tunnel's local end; without UDP the first with its address.
func (l layout) local(t *datapath.Tunnel) uint32 {
	return uint32(max(0, slices.IndexFunc(l.locals, func(local netip.AddrPort) bool {
		return local == t.Local || t.Encap == datapath.V6V4 && local.Addr() == t.Local.Addr()
	})))
}

// slot is the index of a tunnel's record.
func (l layout) slot(id uint32) (uint32, bool) {
	for i, p := range l.pools {
		if id >= p.First && id-p.First < p.Size {
			return l.first[i] + id - p.First, true
		}
	}
	return 0, false
}

// id is the tunnel of a slot, 0 if there is none.
func (l layout) id(slot uint32) uint32 {
	for i, p := range l.pools {
		if slot >= l.first[i] && slot-l.first[i] < p.Size {
			return p.First + slot - l.first[i]
		}
	}
	return 0
}

// addresses are the endpoint and the prefix a tunnel has by arithmetic.
func (l layout) addresses(id uint32) (netip.Addr, netip.Prefix) {
	for _, p := range l.pools {
		if index, ok := lease.Pool(p).TunnelIndex(id); ok {
			return lease.Pool(p).Endpoint(index), lease.Pool(p).Prefix(index)
		}
	}
	return netip.Addr{}, netip.Prefix{}
}

func (l layout) equal(o layout) bool {
	return l.spread == o.spread && slices.Equal(l.pools, o.pools) && slices.Equal(l.locals, o.locals)
}

// poolConst is struct pool of bpf/tables.h.
type poolConst struct {
	EndpointHigh, EndpointLow uint64
	PrefixHigh                uint64
	Shift, Prefixes           uint32
	Size, Slot, First, _      uint32
}

func (l layout) constants() (constants [maxPools]poolConst) {
	for i, p := range l.pools {
		c := &constants[i]
		c.EndpointHigh, c.EndpointLow = halves(p.EndpointBase)
		c.Size, c.Slot, c.First = p.Size, l.first[i], p.First
		if p.PrefixLen > 0 {
			c.PrefixHigh, _ = halves(p.PrefixBase)
			c.Shift, c.Prefixes = uint32(64-p.PrefixLen), p.Size
		}
	}
	return constants
}

// halves are the numbers an IPv6 address consists of.
func halves(a netip.Addr) (high, low uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// rawHalves are they as they lie in memory.
func rawHalves(a netip.Addr) (high, low uint64) {
	b := a.As16()
	return binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])
}

// ranges are the prefixes that cover all addresses of the pools, and no others.
func (l layout) ranges() []netip.Prefix {
	var covered []netip.Prefix
	for _, p := range l.pools {
		covered = append(covered, cover(p.EndpointBase, 128, p.Size)...)
		if p.PrefixLen > 0 {
			covered = append(covered, cover(p.PrefixBase, p.PrefixLen, p.Size)...)
		}
	}
	return covered
}

// cover splits n prefixes of a length, one after the other from base, into the fewest prefixes.
func cover(base netip.Addr, length int, n uint32) []netip.Prefix {
	var covered []netip.Prefix
	for at := uint64(0); at < uint64(n); {
		bits := 0 // of the block: 1<<bits prefixes
		for bits < length && at+2<<bits <= uint64(n) && aligned(base, length, at, bits+1) {
			bits++
		}
		covered = append(covered, netip.PrefixFrom(advance(base, length, at), length-bits))
		at += 1 << bits
	}
	return covered
}

// advance is base + n<<(128-length); length is up to 64, or 128.
func advance(base netip.Addr, length int, n uint64) netip.Addr {
	high, low := halves(base)
	if length <= 64 {
		high += n << (64 - length)
	} else {
		low += n << (128 - length)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low)
	return netip.AddrFrom16(b)
}

// aligned tells whether a block of 1<<bits prefixes can begin at base + at.
func aligned(base netip.Addr, length int, at uint64, bits int) bool {
	start := advance(base, length, at)
	return netip.PrefixFrom(start, length-bits).Masked().Addr() == start
}
