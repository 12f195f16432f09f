// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"ddtb/cmd/tspbench/pktgen"
	"ddtb/provision/datapath"
)

// Sizes of headers, octets.
const (
	ethernetHeader = 14
	ipv4Header     = 20
	ipv6Header     = 40
	udpHeader      = 8
	vxlanHeader    = 8
)

// innerLength is the length of the IPv6 packet that is forwarded or carried, octets.
const innerLength = 64

// The generated packets are UDP to this port: sinks count those and no others.
const markPort = 5678

const firstClientPort = 40000

// traffic is one kind of packet: what is sent and where in it the tunnel stands.
type traffic struct {
	frame   []byte
	tunnels pktgen.Tunnels
}

// tunnelOuter is the outer address and port of the n-th tunnel (from 0), and tunnelIndex its index in the pool.
func tunnelOuter(encap datapath.Encap, n uint32) netip.AddrPort {
	if encap == datapath.V6V4 {
		return netip.AddrPortFrom(addIPv4(hostOf(clientNet), n), 0)
	}
	return netip.AddrPortFrom(addIPv4(hostOf(clientNet), n/pktgen.TunnelPorts), firstClientPort+uint16(n%pktgen.TunnelPorts))
}

func tunnelIndex(n uint32) uint32 { return n + 1 }

// tunnelEndpoint is the inner address of an index, tunnelPrefix its delegated prefix.
func tunnelEndpoint(index uint32) netip.Addr {
	address := endpointNet.Addr().As16()
	binary.BigEndian.PutUint64(address[8:], uint64(index))
	return netip.AddrFrom16(address)
}

func tunnelPrefix(index uint32) netip.Prefix {
	address := prefixNet.Addr().As16()
	high := binary.BigEndian.Uint64(address[:])
	binary.BigEndian.PutUint64(address[:], high+uint64(index)<<(64-prefixLen))
	return netip.PrefixFrom(netip.AddrFrom16(address), prefixLen)
}

// tunnelAt is the n-th tunnel as a driver is told of it.
func tunnelAt(encap datapath.Encap, n uint32) datapath.Tunnel {
	local := netip.AddrPortFrom(server4.Addr(), tspPort)
	if encap == datapath.V6V4 {
		local = netip.AddrPortFrom(server4.Addr(), 0)
	}
	index := tunnelIndex(n)
	return datapath.Tunnel{
		ID: 1 + index, Session: uint64(index), Encap: encap, Local: local, Remote: tunnelOuter(encap, n),
		Endpoint: tunnelEndpoint(index), Prefix: tunnelPrefix(index),
	}
}

// plainUp and plainDown are native packets from and to one host behind the client.
func plainUp() traffic {
	return traffic{frame: join(ethernet(uplinkMAC, clientMAC, unix.ETH_P_IPV6), inner(hostOf(plainNet), coreHost))}
}

func plainDown() traffic { return traffic{frame: native(hostOf(plainNet))} }

// vxlanUp and vxlanDown are the same through the kernel's VXLAN.
func vxlanUp() traffic {
	packet := join(ethernet(vxlanMACs[1], vxlanMACs[0], unix.ETH_P_IPV6), inner(hostOf(vxlanNet), coreHost))
	payload := join([]byte{8, 0, 0, 0, 0, 0, 42, 0}, packet) // RFC 7348 section 5
	datagram := join(udp(50000, 4789, len(payload)), payload)
	return traffic{frame: join(ethernet(uplinkMAC, clientMAC, unix.ETH_P_IP),
		ipv4(client4.Addr(), server4.Addr(), unix.IPPROTO_UDP, len(datagram)), datagram)}
}

func vxlanDown() traffic { return traffic{frame: native(hostOf(vxlanNet))} }

// tunnelUp are packets from inside the delegated prefixes (or from the endpoints) of n random tunnels.
func tunnelUp(encap datapath.Encap, n uint32, fromPrefix bool) traffic {
	address, offset, shift := tunnelInner(fromPrefix)
	return traffic{
		frame: carried(encap, tunnelOuter(encap, 0), address),
		tunnels: pktgen.Tunnels{
			Count: n, Outer: ethernetHeader, Ports: encap == datapath.V6UDPV4,
			Inner: ethernetHeader + encap.Overhead() + 8 + offset, Shift: shift,
		},
	}
}

// tunnelDown are packets to n random tunnels.
func tunnelDown(n uint32, toPrefix bool) traffic {
	address, offset, shift := tunnelInner(toPrefix)
	return traffic{
		frame:   native(address),
		tunnels: pktgen.Tunnels{Count: n, Inner: ethernetHeader + 24 + offset, Shift: shift},
	}
}

// tunnelInner is an address of the first tunnel, the half of it that the index is in, and where.
func tunnelInner(inPrefix bool) (address netip.Addr, offset, shift int) {
	if inPrefix {
		return hostOf(tunnelPrefix(tunnelIndex(0))), 0, 64 - prefixLen
	}
	return tunnelEndpoint(tunnelIndex(0)), 8, 0
}

// Where a sink finds the port of the generated packets.
const (
	markNative = ethernetHeader + ipv6Header + 2
	markVXLAN  = ethernetHeader + ipv4Header + udpHeader + vxlanHeader + markNative
)

func markTunnel(encap datapath.Encap) int { return markNative + encap.Overhead() }

// carried is a frame from the client of a tunnel to the core.
func carried(encap datapath.Encap, outer netip.AddrPort, from netip.Addr) []byte {
	packet := inner(from, coreHost)
	protocol := byte(unix.IPPROTO_IPV6)
	if encap == datapath.V6UDPV4 {
		protocol = unix.IPPROTO_UDP
		packet = join(udp(outer.Port(), tspPort, len(packet)), packet)
	}
	return join(ethernet(uplinkMAC, clientMAC, unix.ETH_P_IP), ipv4(outer.Addr(), server4.Addr(), protocol, len(packet)), packet)
}

// native is a frame from the core to a host on the other side.
func native(to netip.Addr) []byte {
	return join(ethernet(innerMAC, coreMAC, unix.ETH_P_IPV6), inner(coreHost, to))
}

// inner is the IPv6 packet of innerLength that is forwarded or carried.
func inner(from, to netip.Addr) []byte {
	payload := innerLength - ipv6Header
	b := make([]byte, ipv6Header)
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(payload))
	b[6], b[7] = unix.IPPROTO_UDP, 64
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	return join(b, udp(1234, markPort, payload-udpHeader), make([]byte, payload-udpHeader))
}

func ethernet(to, from net.HardwareAddr, protocol uint16) []byte {
	return binary.BigEndian.AppendUint16(join(to, from), protocol)
}

// ipv4 is a header with its checksum.
func ipv4(from, to netip.Addr, protocol byte, payload int) []byte {
	b := make([]byte, ipv4Header)
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4Header+payload))
	b[6] = 0x40 // don't fragment
	b[8], b[9] = 64, protocol
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return b
}

// udp is a header without a checksum.
func udp(from, to uint16, payload int) []byte {
	b := make([]byte, udpHeader)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(udpHeader+payload))
	return b
}

// checksum is the Internet checksum (RFC 1071) of an even number of octets.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func addIPv4(address netip.Addr, n uint32) netip.Addr {
	octets := address.As4()
	binary.BigEndian.PutUint32(octets[:], binary.BigEndian.Uint32(octets[:])+n)
	return netip.AddrFrom4(octets)
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}
