// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// What the reference says of a frame, besides a reason to drop it.
const (
	leave   datapath.Reason = "left to the stack"
	forward datapath.Reason = "forwarded"
)

// reference is the uplink's side of the datapath once more, in plain Go: what the program should do with a frame.
func (r *rig) reference(frame []byte) datapath.Reason {
	if len(frame) < 34 || [6]byte(frame) != rigMAC || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP {
		return leave
	}
	ip := frame[14:]
	if ip[0] != 0x45 || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
		return leave
	}
	total := int(binary.BigEndian.Uint16(ip[2:]))
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:])), 0)
	remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:])), 0)
	encap, packet, end := datapath.V6V4, ip[20:], total
	switch {
	case local.Addr() != rigLocal.Addr():
		return leave
	case ip[9] == unix.IPPROTO_UDP:
		if len(ip) < 28 || binary.BigEndian.Uint16(ip[22:]) != rigLocal.Port() {
			return leave
		}
		local, remote = rigLocal, netip.AddrPortFrom(remote.Addr(), binary.BigEndian.Uint16(ip[20:]))
		encap, packet, end = datapath.V6UDPV4, ip[28:], 20+int(binary.BigEndian.Uint16(ip[24:]))
		if len(packet) == 0 || end <= 28 {
			return datapath.Malformed
		}
		if packet[0]>>4 == 0xf {
			return leave
		}
	case ip[9] != unix.IPPROTO_IPV6:
		return leave
	}
	if end > total || total > len(ip) || end < len(ip)-len(packet) {
		return datapath.Malformed
	}
	return r.judge(ip, packet[:end-(len(ip)-len(packet))], encap, local, remote)
}

func (r *rig) judge(ip, packet []byte, encap datapath.Encap, local, remote netip.AddrPort) datapath.Reason {
	inner, why := datapath.ParseInner(packet)
	if why != "" {
		return why
	}
	id, ok := r.config.Owner(inner.Source)
	if !ok {
		return datapath.InnerSource
	}
	slot, _ := r.layout.slot(id)
	if !r.table.record(slot).inForce() {
		return datapath.NoTunnel
	}
	tunnel := r.table.record(slot).tunnel(id, r.layout.locals)
	tunnel.Endpoint, tunnel.Prefix = r.layout.addresses(id)
	if why := inner.Refuse(tunnel, encap, local, remote); why != "" {
		return why
	}
	if ip[1]&3 == 3 && packet[1]>>4&3 == 0 {
		return datapath.IllegalECN
	}
	_, toTunnel := r.config.Owner(inner.Destination)
	if packet[7] <= 1 || packet[6] == 0 || toTunnel {
		return leave
	}
	return forward
}

// FuzzRootUplink compares the program with the reference on any frame for the interface. What is left is left as it was;
// what is forwarded is the inner packet and nothing else, and counted.
func FuzzRootUplink(f *testing.F) {
	r := newRig(f, rigConfig(), Options{NextHop: Fixed})
	tunnel, sit := r.tunnel(7), r.tunnel(8)
	sit.Encap, sit.Local, sit.Remote = datapath.V6V4, netip.AddrPortFrom(rigLocal.Addr(), 0), netip.AddrPortFrom(sit.Remote.Addr(), 0)
	r.set(tunnel)
	r.set(sit)
	for _, t := range []datapath.Tunnel{tunnel, sit} {
		for _, inner := range [][]byte{
			innerPacket(t.Endpoint, rigHost, 20), innerPacket(t.Prefix.Addr().Next(), rigHost, 0), innerPacket(r.tunnel(9).Endpoint, rigHost, 20),
			innerPacket(t.Endpoint, r.tunnel(9).Endpoint, 20), innerPacket(t.Endpoint, netip.MustParseAddr("ff02::1"), 20),
			innerPacket(netip.MustParseAddr("fe80::1"), rigHost, 20), innerPacket(rigHost, rigHost, 20),
		} {
			f.Add(upFrame(t, inner)[14:])
			f.Add(append(upFrame(t, inner)[14:], 1, 2, 3))
			f.Add(upFrame(t, inner)[14:60])
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 2000 {
			return
		}
		frame := ethernet(rigMAC, rigClient, unix.ETH_P_IP, packet)
		want := r.reference(frame)
		if want == forward && isEcho(frame) {
			return // answered, which TestRootShortWay looks at
		}
		before := r.dropped(t)
		verdict, out := r.run(t, frame)
		after := r.dropped(t)
		switch want {
		case leave:
			if verdict != xdpPass || !bytes.Equal(out, frame) {
				t.Fatalf("verdict %d: % x, expected unchanged: % x", verdict, out, frame)
			}
		case forward:
			if verdict != xdpRedirect || !bytes.Contains(frame, out[14+8:]) || len(out) != 14+40+int(binary.BigEndian.Uint16(out[18:])) {
				t.Fatalf("verdict %d: % x of % x", verdict, out, frame)
			}
		default:
			if verdict != xdpDrop || after[want] != before[want]+1 {
				t.Fatalf("verdict %d, expected to be dropped: %s; % x", verdict, want, frame)
			}
			before[want]++
		}
		for reason, n := range after {
			if n != before[reason] {
				t.Fatalf("counted as %s, expected: %s", reason, want)
			}
		}
	})
}

// isEcho tells whether a forwarded packet is an echo request to the server.
func isEcho(frame []byte) bool {
	server := rigConfig().Server.As16()
	return bytes.Contains(frame, server[:])
}
