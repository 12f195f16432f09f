// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	"ddtb/provision/datapath"
)

// state is a tunnel in force as the module tells it.
type state struct {
	placed
	datapath.Counters
	idle time.Duration // since the last packet from the client, or since it was set
}

// longest is the longest time that is believed: that since any machine's start is shorter.
const longest = 100 * 365 * 24 * time.Hour

// decodeTunnels reads the UTUN_A_TUNNELs of a message, without its generic netlink header, and calls f with each.
func decodeTunnels(b []byte, f func(state) error) error {
	return walk(b, func(kind uint16, value []byte) error {
		if kind != attrTunnel {
			return nil
		}
		s, err := decodeTunnel(value)
		if err != nil {
			return err
		}
		return f(s)
	})
}

// decodeTunnel reads the inside of one UTUN_A_TUNNEL. Attributes that are not known here are left alone.
func decodeTunnel(b []byte) (state, error) {
	var s state
	var local, remote, prefix netip.Addr
	var localPort, remotePort uint16
	var bits uint8
	var routes []netip.Prefix
	r := &reader{}
	err := walk(b, func(kind uint16, value []byte) error {
		r.kind, r.value = kind, value
		switch kind {
		case tunnelRoute:
			route, err := decodeRoute(value)
			routes = append(routes, route)
			return err
		case tunnelID:
			r.u32(&s.ID)
		case tunnelSession:
			r.u64(&s.Session)
		case tunnelEncap:
			r.encap(&s.Encap)
		case tunnelLocal:
			r.addr4(&local)
		case tunnelLocalPort:
			r.be16(&localPort)
		case tunnelRemote:
			r.addr4(&remote)
		case tunnelRemotePort:
			r.be16(&remotePort)
		case tunnelEndpoint:
			r.addr6(&s.Endpoint)
		case tunnelPrefix:
			r.addr6(&prefix)
		case tunnelPrefixLen:
			r.u8(&bits)
		case tunnelMTU:
			r.int(&s.MTU)
		case tunnelIfindex:
			r.int(&s.link)
		case tunnelRxRate:
			r.rate(&s.Rate.Rx)
		case tunnelTxRate:
			r.rate(&s.Rate.Tx)
		case tunnelRxPackets:
			r.u64(&s.RxPackets)
		case tunnelRxBytes:
			r.u64(&s.RxBytes)
		case tunnelTxPackets:
			r.u64(&s.TxPackets)
		case tunnelTxBytes:
			r.u64(&s.TxBytes)
		case tunnelIdle:
			r.milliseconds(&s.idle)
		}
		return r.err
	})
	if err != nil {
		return state{}, fmt.Errorf("tunnel %d: %w", s.ID, err)
	}
	if local.IsValid() {
		s.Local = netip.AddrPortFrom(local, localPort)
	}
	if remote.IsValid() {
		s.Remote = netip.AddrPortFrom(remote, remotePort)
	}
	if prefix.IsValid() {
		s.Prefix = netip.PrefixFrom(prefix, int(bits))
		if s.Prefix != s.Prefix.Masked() || !s.Prefix.IsValid() {
			return state{}, fmt.Errorf("tunnel %d: prefix %s/%d is none", s.ID, prefix, bits)
		}
	}
	if s.Routes = datapath.PrefixesOf(routes...); s.Routes.Len() != len(routes) || len(routes) > datapath.MaxRoutes {
		return state{}, fmt.Errorf("tunnel %d: %d routes, some twice or too many", s.ID, len(routes))
	}
	return s, nil
}

// decodeRoute reads the inside of one UTUN_TUNNEL_A_ROUTE.
func decodeRoute(b []byte) (netip.Prefix, error) {
	var address netip.Addr
	var bits uint8
	r := &reader{}
	err := walk(b, func(kind uint16, value []byte) error {
		r.kind, r.value = kind, value
		switch kind {
		case routeAddr:
			r.addr6(&address)
		case routeLen:
			r.u8(&bits)
		}
		return r.err
	})
	route := netip.PrefixFrom(address, int(bits))
	if err == nil && (!route.IsValid() || route != route.Masked()) {
		err = fmt.Errorf("route %s/%d is none", address, bits)
	}
	return route, err
}

// decodeDrops reads the UTUN_A_DROPs of a message, without its generic netlink header. now is the time they are told.
func decodeDrops(b []byte, now time.Time) ([]datapath.Drop, error) {
	var drops []datapath.Drop
	err := walk(b, func(kind uint16, value []byte) error {
		if kind != attrDrop {
			return nil
		}
		drop, err := decodeDrop(value, now)
		if err == nil && drop.Reason != "" {
			drops = append(drops, drop)
		}
		return err
	})
	return drops, err
}

// decodeTally reads a message of the drops of one tunnel, without its generic netlink header.
func decodeTally(b []byte) (id uint32, drops []datapath.Drop, err error) {
	r := &reader{}
	err = walk(b, func(kind uint16, value []byte) error {
		if r.kind, r.value = kind, value; kind == attrID {
			r.u32(&id)
		}
		return r.err
	})
	if err == nil {
		drops, err = decodeDrops(b, time.Time{})
	}
	return id, drops, err
}

// decodeDrop reads the inside of one UTUN_A_DROP. A reason that is not known here comes out empty.
func decodeDrop(b []byte, now time.Time) (datapath.Drop, error) {
	var drop datapath.Drop
	var remote netip.Addr
	var port uint16
	r := &reader{}
	err := walk(b, func(kind uint16, value []byte) error {
		r.kind, r.value = kind, value
		switch kind {
		case dropReason:
			var number uint8
			r.u8(&number)
			drop.Reason = reasonOf(number)
		case dropPackets:
			r.u64(&drop.Packets)
		case dropAge:
			var age time.Duration
			r.milliseconds(&age)
			drop.Last = now.Add(-age)
		case dropID:
			r.u32(&drop.Tunnel)
		case dropRemote:
			r.addr4(&remote)
		case dropRemotePort:
			r.be16(&port)
		case dropInner:
			r.addr6(&drop.Inner)
		}
		return r.err
	})
	if remote.IsValid() {
		drop.Remote = netip.AddrPortFrom(remote, port)
	}
	return drop, err
}

// reasonOf names a number of enum utun_drop, "" if it is not known here.
func reasonOf(number uint8) datapath.Reason {
	reasons := datapath.Reasons()
	switch {
	case number >= 1 && int(number) <= len(reasons):
		return reasons[number-1]
	case number == dropUnattended:
		return datapath.Unattended
	}
	return ""
}

// reader reads one attribute after the other and keeps the first error.
type reader struct {
	kind  uint16
	value []byte
	err   error
}

// fixed tells whether the attribute has the length it must have.
func (r *reader) fixed(length int) bool {
	if r.err == nil {
		r.err = sized(r.kind, r.value, length)
	}
	return r.err == nil
}

func (r *reader) u8(to *uint8) {
	if r.fixed(1) {
		*to = r.value[0]
	}
}

func (r *reader) be16(to *uint16) {
	if r.fixed(2) {
		*to = binary.BigEndian.Uint16(r.value)
	}
}

func (r *reader) u32(to *uint32) {
	if r.fixed(4) {
		*to = binary.NativeEndian.Uint32(r.value)
	}
}

func (r *reader) int(to *int) {
	if r.fixed(4) {
		*to = int(binary.NativeEndian.Uint32(r.value))
	}
}

func (r *reader) u64(to *uint64) {
	if r.fixed(8) {
		*to = binary.NativeEndian.Uint64(r.value)
	}
}

// rate reads octets a second as bits.
func (r *reader) rate(to *uint64) {
	var octets uint64
	r.u64(&octets)
	*to = min(octets, math.MaxUint64/8) * 8
}

func (r *reader) milliseconds(to *time.Duration) {
	var n uint64
	r.u64(&n)
	*to = time.Duration(min(n, uint64(longest/time.Millisecond))) * time.Millisecond
}

func (r *reader) addr4(to *netip.Addr) {
	if r.fixed(4) {
		*to = netip.AddrFrom4([4]byte(r.value))
	}
}

func (r *reader) addr6(to *netip.Addr) {
	if r.fixed(16) {
		*to = netip.AddrFrom16([16]byte(r.value))
	}
}

func (r *reader) encap(to *datapath.Encap) {
	var number uint8
	r.u8(&number)
	switch number {
	case encapUDP:
		*to = datapath.V6UDPV4
	case encapIP:
		*to = datapath.V6V4
	}
}
