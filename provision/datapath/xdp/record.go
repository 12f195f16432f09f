// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync/atomic"

	"ddtb/provision/datapath"
)

// half is struct record of bpf/tables.h: one direction of a tunnel. Programs on other CPUs read and count in it at any time,
// so it is touched by atomic operations only. Little-endian, as the objects are.
type half struct {
	key   uint64
	count uint64
}

// ledger is what is seldom needed of a tunnel.
type ledger struct {
	rxPackets, rxOctets uint64 // moved here from the count, by programs
	txPackets, txOctets uint64
	begun, ended        uint32 // moves
	session             uint64
	seen                uint64 // ns, as of the last look
	asked               uint64 // MTU asked for, 0: the default; above it the places of foreign.go
	rx, tx              bucket
}

// Octets of each in the map.
const (
	halfSize   = 16
	ledgerSize = 6 * halfSize
	tallySize  = 4 * halfSize
)

// record is all of a tunnel.
type record struct {
	in, out *half
	ledger  *ledger
	tally   *tally
}

// The octet 6 of a key: which of its addresses the tunnel holds, protocol 41, the index of its local end.
const (
	hasEndpoint = 1 << (48 + iota)
	hasPrefix
	hasForeign
	isSIT

	localShift = 52

	isRated = 1 << 55 // in the direction of the half

	hasMask = hasEndpoint | hasPrefix | hasForeign
)

// The octet 7 of a key: the time, or the place of the MTU.
const (
	lastShift = 56
	lastMask  = 0xff << lastShift
	keyMask   = 1<<55 - 1 // what is the same in both halves
)

const (
	seenUnit     = 30 // of the time, as a shift of ns
	countPackets = 36 // where they begin in a count
)

// identity is what a record says about its tunnel, without what is counted.
type identity struct {
	key   uint64 // what is the same in both halves
	mtu   uint8  // the place of the MTU in force
	asked uint64
	rate  datapath.Rate
}

// identify puts a tunnel into words. local is the index of its local end, mtu the place of the one in force, has the flags,
// e what it has outside the pools.
func identify(t datapath.Tunnel, local uint32, mtu uint8, has uint64, e ends) identity {
	key := addrPort(t.Remote) | has | uint64(local)<<localShift
	if t.Encap == datapath.V6V4 {
		key |= isSIT
	}
	return identity{key: key, mtu: mtu, asked: uint64(t.MTU) | e.places(), rate: t.Rate}
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

// key is what identifies the tunnel, 0 if it is not in force.
func (r record) key() uint64 { return atomic.LoadUint64(&r.in.key) & keyMask }

func (r record) inForce() bool { return r.key() != 0 }

func (r record) identity() identity {
	return identity{
		key: r.key(), mtu: uint8(atomic.LoadUint64(&r.out.key) >> lastShift), asked: atomic.LoadUint64(&r.ledger.asked),
		rate: datapath.Rate{Rx: atomic.LoadUint64(&r.ledger.rx.rate), Tx: atomic.LoadUint64(&r.ledger.tx.rate)},
	}
}

// rated is the flag of a half whose direction has a rate.
func rated(rate uint64) uint64 {
	if rate == 0 {
		return 0
	}
	return isRated
}

func (r record) session() uint64 { return atomic.LoadUint64(&r.ledger.session) }

// clear takes a record out of force. Programs that already run may still use it for the length of a grace period.
func (r record) clear() {
	atomic.StoreUint64(&r.in.key, 0)
	atomic.StoreUint64(&r.out.key, 0)
}

// put writes a record that is out of force and still, and puts it in force: the keys come last. seen is in ns.
func (r record) put(id identity, session, seen uint64, c datapath.Counters) {
	atomic.StoreUint64(&r.in.count, 0)
	atomic.StoreUint64(&r.out.count, 0)
	atomic.StoreUint64(&r.ledger.rxPackets, c.RxPackets)
	atomic.StoreUint64(&r.ledger.rxOctets, c.RxBytes)
	atomic.StoreUint64(&r.ledger.txPackets, c.TxPackets)
	atomic.StoreUint64(&r.ledger.txOctets, c.TxBytes)
	atomic.StoreUint64(&r.ledger.session, session)
	atomic.StoreUint64(&r.ledger.seen, seen)
	atomic.StoreUint64(&r.ledger.asked, id.asked)
	r.ledger.rx.set(id.rate.Rx)
	r.ledger.tx.set(id.rate.Tx)
	atomic.StoreUint64(&r.out.key, id.key|rated(id.rate.Tx)|uint64(id.mtu)<<lastShift)
	atomic.StoreUint64(&r.in.key, id.key|rated(id.rate.Rx)|seen>>seenUnit<<lastShift)
}

// adjust changes MTU and rates, of a record in force too, which only who calls takes out of force.
func (r record) adjust(id identity) {
	atomic.StoreUint64(&r.ledger.asked, id.asked)
	r.ledger.rx.set(id.rate.Rx)
	r.ledger.tx.set(id.rate.Tx)
	atomic.StoreUint64(&r.out.key, id.key|rated(id.rate.Tx)|uint64(id.mtu)<<lastShift)
	if id.rate.Rx != 0 {
		atomic.OrUint64(&r.in.key, isRated)
	} else {
		atomic.AndUint64(&r.in.key, ^uint64(isRated))
	}
}

// counters adds the ledger and the counts. While a program moves a count to the ledger it waits; that is a matter of
// nanoseconds, once in gigabytes.
func (r record) counters() datapath.Counters {
	for {
		ended := atomic.LoadUint32(&r.ledger.ended)
		in, out := atomic.LoadUint64(&r.in.count), atomic.LoadUint64(&r.out.count)
		c := datapath.Counters{
			RxPackets: atomic.LoadUint64(&r.ledger.rxPackets) + in>>countPackets,
			RxBytes:   atomic.LoadUint64(&r.ledger.rxOctets) + in&(1<<countPackets-1),
			TxPackets: atomic.LoadUint64(&r.ledger.txPackets) + out>>countPackets,
			TxBytes:   atomic.LoadUint64(&r.ledger.txOctets) + out&(1<<countPackets-1),
		}
		if ended == atomic.LoadUint32(&r.ledger.begun) {
			return c
		}
		runtime.Gosched()
	}
}

// add counts what the programs have not.
func (r record) add(c datapath.Counters) {
	atomic.AddUint64(&r.ledger.rxPackets, c.RxPackets)
	atomic.AddUint64(&r.ledger.rxOctets, c.RxBytes)
	atomic.AddUint64(&r.ledger.txPackets, c.TxPackets)
	atomic.AddUint64(&r.ledger.txOctets, c.TxBytes)
}

// lastSeen is when the client was last heard of, ns, to the end of the unit in which it was but not after now. The programs
// note the low octet of the time, which comes round in four and a half minutes: somebody has to look more often to be sure
// of the rest. If nobody did, it is as late as it may have been.
func (r record) lastSeen(now uint64) uint64 {
	seen := atomic.LoadUint64(&r.ledger.seen)
	noted, unit := atomic.LoadUint64(&r.in.key)>>lastShift, now>>seenUnit
	if seen>>seenUnit&0xff != noted {
		seen = (unit - (unit-noted)&0xff) << seenUnit
		atomic.StoreUint64(&r.ledger.seen, seen)
	}
	return min(now, (seen>>seenUnit+1)<<seenUnit)
}

// note says that the client was heard of, as programs do.
func (r record) note(now uint64) {
	for {
		key := atomic.LoadUint64(&r.in.key)
		if key&keyMask == 0 || atomic.CompareAndSwapUint64(&r.in.key, key, key&^lastMask|now>>seenUnit<<lastShift) {
			return
		}
	}
}

// tunnel reads everything but the inner addresses, which are not in the record. locals are the Config's.
func (r record) tunnel(id uint32, locals []netip.AddrPort) datapath.Tunnel {
	words := r.identity()
	t := datapath.Tunnel{
		ID: id, Session: r.session(), Encap: datapath.V6UDPV4, Remote: toAddrPort(words.key), MTU: int(words.asked & askedMTU),
		Rate: words.rate,
	}
	if local := int(words.key >> localShift & (maxLocal - 1)); local < len(locals) {
		t.Local = locals[local]
	}
	if words.key&isSIT != 0 {
		t.Encap = datapath.V6V4
		t.Local = netip.AddrPortFrom(t.Local.Addr(), 0)
	}
	return t
}
