// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// inbound and outbound are the lines of a tunnel as in bpf/tables.h, each of eight words. Programs on other CPUs read and
// count in them at any time, so they are touched by atomic operations only. Little-endian, as the objects are.
type inbound struct {
	key     uint64 // remote address, port, protocol, has flags; 0: not in force
	local   uint64 // local address, port
	packets uint64
	bytes   uint64
	seen    uint64 // CLOCK_MONOTONIC_COARSE, ns
	session uint64
	_       [2]uint64
}

type outbound struct {
	key     uint64
	local   uint64 // local address, port, MTU in force
	extra   uint64 // header checksum, MTU asked for
	packets uint64
	bytes   uint64
	_       [3]uint64
}

const (
	lineSize   = 64
	recordSize = 2 * lineSize
)

// record is both lines of a tunnel.
type record struct {
	in  *inbound
	out *outbound
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
	local uint64 // local address, port
	out   uint64 // the same with the MTU in force
	extra uint64 // header checksum, MTU asked for
}

// identify puts a tunnel into words. mtu is the one in force, has the flags.
func identify(t datapath.Tunnel, mtu int, has uint64) identity {
	protocol := byte(unix.IPPROTO_UDP)
	if t.Encap == datapath.V6V4 {
		protocol = unix.IPPROTO_IPV6
	}
	local := addrPort(t.Local)
	return identity{
		key:   addrPort(t.Remote) | uint64(protocol)<<48 | has,
		local: local,
		out:   local | uint64(mtu)<<48,
		extra: uint64(headerChecksum(t.Local.Addr(), t.Remote.Addr(), protocol)) | uint64(t.MTU)<<16,
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
		key: atomic.LoadUint64(&r.in.key), local: atomic.LoadUint64(&r.in.local),
		out: atomic.LoadUint64(&r.out.local), extra: atomic.LoadUint64(&r.out.extra),
	}
}

// clear takes a record out of force. Programs that already run may still use it for the length of a grace period.
func (r record) clear() {
	atomic.StoreUint64(&r.in.key, 0)
	atomic.StoreUint64(&r.out.key, 0)
}

// put writes a record that is out of force and still, and puts it in force: the keys come last.
func (r record) put(id identity, session, seen uint64, counters datapath.Counters) {
	atomic.StoreUint64(&r.in.local, id.local)
	atomic.StoreUint64(&r.out.local, id.out)
	atomic.StoreUint64(&r.out.extra, id.extra)
	atomic.StoreUint64(&r.in.session, session)
	atomic.StoreUint64(&r.in.seen, seen)
	atomic.StoreUint64(&r.in.packets, counters.RxPackets)
	atomic.StoreUint64(&r.in.bytes, counters.RxBytes)
	atomic.StoreUint64(&r.out.packets, counters.TxPackets)
	atomic.StoreUint64(&r.out.bytes, counters.TxBytes)
	atomic.StoreUint64(&r.out.key, id.key)
	atomic.StoreUint64(&r.in.key, id.key)
}

// setMTU changes the MTU of a record in force. One word holds the one the programs read.
func (r record) setMTU(id identity) {
	atomic.StoreUint64(&r.out.extra, id.extra)
	atomic.StoreUint64(&r.out.local, id.out)
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

// tunnel reads everything but the inner addresses, which are not in the record.
func (r record) tunnel(id uint32) datapath.Tunnel {
	words := r.identity()
	t := datapath.Tunnel{
		ID: id, Session: atomic.LoadUint64(&r.in.session), Encap: datapath.V6UDPV4,
		Local: toAddrPort(words.local), Remote: toAddrPort(words.key), MTU: int(uint16(words.extra >> 16)),
	}
	if byte(words.key>>48) == unix.IPPROTO_IPV6 {
		t.Encap = datapath.V6V4
	}
	return t
}
