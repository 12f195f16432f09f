// SPDX-License-Identifier: GPL-2.0-or-later

package datapath

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"ddtb/provision/lease"
)

// Inner is the head of a decapsulated packet.
type Inner struct {
	Source, Destination netip.Addr
	Length              int // octets; what followed in the datagram is padding
}

const ipv6Header = 40

// ParseInner reads the head of a decapsulated packet. The Reason says why it cannot be any tunnel's, "" if it may be.
func ParseInner(packet []byte) (Inner, Reason) {
	if len(packet) < ipv6Header || packet[0]>>4 != 6 {
		return Inner{}, Malformed
	}
	inner := Inner{
		Source:      netip.AddrFrom16([16]byte(packet[8:24])),
		Destination: netip.AddrFrom16([16]byte(packet[24:40])),
		Length:      ipv6Header + int(binary.BigEndian.Uint16(packet[4:])),
	}
	if inner.Length > len(packet) {
		return inner, Malformed
	}
	if inner.Source.IsLinkLocalUnicast() || inner.Source.IsUnspecified() {
		return inner, LinkLocal
	}
	return inner, ""
}

// martian tells whether no router may send to an address: multicast, link-local, or one of ::/64 (unspecified, loopback,
// IPv4-mapped; RFC 4291 section 2.5).
func martian(a netip.Addr) bool {
	bytes := a.As16()
	return a.IsMulticast() || a.IsLinkLocalUnicast() || binary.BigEndian.Uint64(bytes[:]) == 0
}

// Refuse says why a packet with these outer addresses is not let in through a tunnel, "" if it is. The ports of V6V4 are 0.
func (i Inner) Refuse(t Tunnel, encap Encap, local, remote netip.AddrPort) Reason {
	switch {
	case i.Source != t.Endpoint && !t.Prefix.Contains(i.Source) && !t.Routes.Contains(i.Source):
		return InnerSource
	case encap != t.Encap:
		return Encapsulation
	case local != t.Local || remote != t.Remote:
		return OuterSource
	case martian(i.Destination):
		return Martian
	}
	return ""
}

// Owner is the id of the tunnel an address belongs to by the arithmetic of the pools, in force or not.
func (c Config) Owner(a netip.Addr) (uint32, bool) {
	for _, p := range c.Pools {
		pool := lease.Pool(p)
		if index, ok := pool.Index(a); ok {
			return pool.ID(index), true
		}
	}
	return 0, false
}

// Foreign are the addresses and prefixes of clients that lie outside every pool, and the ids of their tunnels.
type Foreign struct {
	ids     map[netip.Prefix]uint32
	lengths [129]int // how many there are of each length
}

// Add notes that prefix belongs to a tunnel.
func (f *Foreign) Add(prefix netip.Prefix, id uint32) {
	if f.ids == nil {
		f.ids = map[netip.Prefix]uint32{}
	}
	if _, ok := f.ids[prefix]; !ok {
		f.lengths[prefix.Bits()]++
	}
	f.ids[prefix] = id
}

// Remove forgets a prefix.
func (f *Foreign) Remove(prefix netip.Prefix) {
	if _, ok := f.ids[prefix]; ok {
		delete(f.ids, prefix)
		f.lengths[prefix.Bits()]--
	}
}

// Len is how many there are.
func (f *Foreign) Len() int { return len(f.ids) }

// Holder is the id of the tunnel that has exactly this prefix.
func (f *Foreign) Holder(prefix netip.Prefix) (uint32, bool) {
	id, ok := f.ids[prefix]
	return id, ok
}

// Owner is the id of the tunnel with the longest prefix that holds an address.
func (f *Foreign) Owner(a netip.Addr) (uint32, bool) {
	if !a.Is6() || len(f.ids) == 0 {
		return 0, false
	}
	for bits := 128; bits >= 0; bits-- {
		if f.lengths[bits] == 0 {
			continue
		}
		if id, ok := f.ids[netip.PrefixFrom(a, bits).Masked()]; ok {
			return id, true
		}
	}
	return 0, false
}

// ForeignOf are the prefixes of a tunnel that lie outside the pools: its endpoint as a /128, its prefix, its routes.
func (c Config) ForeignOf(t Tunnel) []netip.Prefix {
	pool, index, ok := c.find(t.ID)
	if !ok {
		return nil
	}
	var foreign []netip.Prefix
	if t.Endpoint != pool.Endpoint(index) {
		foreign = append(foreign, netip.PrefixFrom(t.Endpoint, 128))
	}
	if t.Prefix.IsValid() && t.Prefix != pool.Prefix(index) {
		foreign = append(foreign, t.Prefix)
	}
	return slices.AppendSeq(foreign, t.Routes.All())
}
