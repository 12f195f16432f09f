// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// inbound and outbound are the records of a tunnel as in bpf/tables.h. Programs on other CPUs read and count in them at any
// time, so they are touched by atomic operations only. Little-endian, as the objects are.
type inbound struct {
	key     uint64 // remote address, port, protocol, has flags; 0: not in force
	packets uint64
	bytes   uint64
	seen    uint32 // CLOCK_MONOTONIC_COARSE, 2^26 ns
	local   uint32 // index among the Config's local ends
}

type outbound struct {
	key     uint64
	packets uint64
	bytes   uint64
	extra   uint64 // MTU in force, header checksum, index of the local end
}

// ledger is what the programs need not know.
type ledger struct {
	session uint64
	asked   uint32 // MTU asked for, 0: the default
	_       uint32
}

// Octets of each in the map.
const (
	inOutSize  = 32
	ledgerSize = 16
)

// seenUnit is the unit of inbound.seen, as a shift.
const seenUnit = 26

// record is all of a tunnel.
type record struct {
	in     *inbound
	out    *outbound
	ledger *ledger
}

// The has flags of a key: which of its addresses the tunnel holds.
const (
	hasEndpoint = 1 << (56 + iota)
	hasPrefix
	hasForeign

	hasMask = 0xff << 56
)

// identity is what a record says about its tunnel, without what is counted.
type identity struct {
	key   uint64
	local uint32
	asked uint32
	extra uint64
}

// identify puts a tunnel into words. local is the index of its local end, mtu the one in force, has the flags.
func identify(t datapath.Tunnel, local uint32, mtu int, has uint64) identity {
	protocol := byte(unix.IPPROTO_UDP)
	if t.Encap == datapath.V6V4 {
		protocol = unix.IPPROTO_IPV6
	}
	checksum := headerChecksum(t.Local.Addr(), t.Remote.Addr(), protocol)
	return identity{
		key:   addrPort(t.Remote) | uint64(protocol)<<48 | has,
		local: local, asked: uint32(t.MTU),
		extra: uint64(mtu) | uint64(checksum)<<16 | uint64(local)<<32,
	}
}

// addrPort is an IPv4 address and a port as they lie in memory in network order.
func addrPort(a netip.AddrPort) uint64 {
	var b [8]byte
	addr := a.Addr().As4()
	copy(b[:], addr[:])
	binary.BigEndian.PutUint16(b[4:], a.Port())
	return binary.LittleEndian.Uint64(b[:])
}

func toAddrPort(word uint64) netip.AddrPort {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], word)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), binary.BigEndian.Uint16(b[4:]))
}

// headerChecksum is the folded sum of what is constant in an outer IPv4 header: version, time to live, protocol and
// addresses (RFC 1071), as it lies in memory in network order.
func headerChecksum(local, remote netip.Addr, protocol byte) uint16 {
	const hopLimit = 64
	sum := uint32(0x4500) + hopLimit<<8 + uint32(protocol)
	for _, a := range [2][4]byte{local.As4(), remote.As4()} {
		sum += uint32(binary.BigEndian.Uint16(a[:])) + uint32(binary.BigEndian.Uint16(a[2:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], uint16(sum))
	return binary.LittleEndian.Uint16(b[:])
}

func (r record) inForce() bool { return atomic.LoadUint64(&r.in.key) != 0 }

func (r record) identity() identity {
	return identity{
		key: atomic.LoadUint64(&r.in.key), local: atomic.LoadUint32(&r.in.local),
		asked: atomic.LoadUint32(&r.ledger.asked), extra: atomic.LoadUint64(&r.out.extra),
	}
}

func (r record) session() uint64 { return atomic.LoadUint64(&r.ledger.session) }

// seen is when the client was last heard of, ns of CLOCK_MONOTONIC_COARSE, rounded down.
func (r record) seen() uint64 { return uint64(atomic.LoadUint32(&r.in.seen)) << seenUnit }

func (r record) setSeen(ns uint64) { atomic.StoreUint32(&r.in.seen, uint32(ns>>seenUnit)) }

// clear takes a record out of force. Programs that already run may still use it for the length of a grace period.
func (r record) clear() {
	atomic.StoreUint64(&r.in.key, 0)
	atomic.StoreUint64(&r.out.key, 0)
}

// put writes a record that is out of force and still, and puts it in force: the keys come last.
func (r record) put(id identity, session, seen uint64, counters datapath.Counters) {
	atomic.StoreUint64(&r.ledger.session, session)
	atomic.StoreUint32(&r.in.local, id.local)
	r.setSeen(seen)
	r.setMTU(id)
	atomic.StoreUint64(&r.in.packets, counters.RxPackets)
	atomic.StoreUint64(&r.in.bytes, counters.RxBytes)
	atomic.StoreUint64(&r.out.packets, counters.TxPackets)
	atomic.StoreUint64(&r.out.bytes, counters.TxBytes)
	atomic.StoreUint64(&r.out.key, id.key)
	atomic.StoreUint64(&r.in.key, id.key)
}

// setMTU changes the MTU, of a record in force too: one word holds all that the programs read of it.
func (r record) setMTU(id identity) {
	atomic.StoreUint32(&r.ledger.asked, id.asked)
	atomic.StoreUint64(&r.out.extra, id.extra)
}

func (r record) counters() datapath.Counters {
	return datapath.Counters{
		RxPackets: atomic.LoadUint64(&r.in.packets), RxBytes: atomic.LoadUint64(&r.in.bytes),
		TxPackets: atomic.LoadUint64(&r.out.packets), TxBytes: atomic.LoadUint64(&r.out.bytes),
	}
}

func (r record) add(c datapath.Counters) {
	atomic.AddUint64(&r.in.packets, c.RxPackets)
	atomic.AddUint64(&r.in.bytes, c.RxBytes)
	atomic.AddUint64(&r.out.packets, c.TxPackets)
	atomic.AddUint64(&r.out.bytes, c.TxBytes)
}

// tunnel reads everything but the inner addresses, which are not in the record. locals are the Config's.
func (r record) tunnel(id uint32, locals []netip.AddrPort) datapath.Tunnel {
	words := r.identity()
	t := datapath.Tunnel{
		ID: id, Session: r.session(), Encap: datapath.V6UDPV4, Remote: toAddrPort(words.key), MTU: int(words.asked),
	}
	if int(words.local) < len(locals) {
		t.Local = locals[words.local]
	}
	if byte(words.key>>48) == unix.IPPROTO_IPV6 {
		t.Encap = datapath.V6V4
		t.Local = netip.AddrPortFrom(t.Local.Addr(), 0)
	}
	return t
}
