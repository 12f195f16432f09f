// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// swap is code that exchanges two parts of the packet, whose skb R6 points to.
func swap(a, b, n int32) asm.Instructions {
	const first, second = -16, -32
	copyBytes := func(helper asm.BuiltinFunc, at, stack int32, flags bool) asm.Instructions {
		code := asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, at), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, stack), asm.Mov.Imm(asm.R4, n),
		}
		if flags {
			code = append(code, asm.Mov.Imm(asm.R5, 0))
		}
		return append(code, helper.Call())
	}
	code := copyBytes(asm.FnSkbLoadBytes, a, first, false)
	code = append(code, copyBytes(asm.FnSkbLoadBytes, b, second, false)...)
	code = append(code, copyBytes(asm.FnSkbStoreBytes, a, second, true)...)
	return append(code, copyBytes(asm.FnSkbStoreBytes, b, first, true)...)
}

// mirror attaches a program that sends every IPv4 packet back where it came from, outside and inside, as if a client had
// sent it.
func (s *site) mirror(device string, encap datapath.Encap) {
	s.Helper()
	l := s.link(device)
	code := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1), asm.LoadMem(asm.R2, asm.R1, 16 /* protocol */, asm.Word)}
	code = append(code, asm.JNE.Imm(asm.R2, 0x0008 /* IPv4 */, "other"))
	code = append(code, swap(0, 6, 6)...)
	code = append(code, swap(14+12, 14+16, 4)...)
	if encap == datapath.V6UDPV4 {
		code = append(code, swap(14+20, 14+22, 2)...)
	}
	inner := int32(14 + encap.Overhead())
	code = append(code, swap(inner+8, inner+24, 16)...)
	code = append(code,
		asm.Mov.Imm(asm.R1, int32(l.Attrs().Index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("other"), asm.Return())
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: code})
	check(s, err)
	defer program.Close()
	attrs := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	check(s, netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: attrs}))
	check(s, netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1,
		},
		Fd: program.FD(), Name: "mirror", DirectAction: true,
	}))
}

// vnetHeader is struct virtio_net_hdr: that the packet behind it is to be taken apart.
type vnetHeader struct {
	flags, kind                      uint8
	header, segment, sumStart, sumAt uint16
}

const vnetSize = 10

// raw opens a packet socket whose packets have a vnetHeader before them.
func (s *site) raw(device string) int {
	s.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	check(s, err)
	s.Cleanup(func() { _ = unix.Close(fd) })
	for option, value := range map[int]int{unix.PACKET_VNET_HDR: 1, unix.PACKET_IGNORE_OUTGOING: 1} {
		check(s, unix.SetsockoptInt(fd, unix.SOL_PACKET, option, value))
	}
	check(s, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	check(s, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0xdd86, Ifindex: s.link(device).Attrs().Index}))
	return fd
}

// plain turns off what a device leaves to hardware: what leaves it is as it would be on a wire.
func (s *site) plain(device string) {
	s.Helper()
	const checksums, segmentation = 0x17, 0x1f // ETHTOOL_STXCSUM, ETHTOOL_STSO
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(s, err)
	defer unix.Close(fd)
	for _, feature := range []uint32{checksums, segmentation} {
		value := struct{ command, data uint32 }{command: feature}
		var request struct {
			name  [unix.IFNAMSIZ]byte
			value unsafe.Pointer
			_     [16]byte
		}
		copy(request.name[:], device)
		request.value = unsafe.Pointer(&value)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			s.Fatalf("%s: feature %#x: %v", device, feature, errno)
		}
	}
}

// sum16 is the checksum of RFC 1071 over parts of even length but the last.
func sum16(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, b := range parts {
		for n, v := range b {
			sum += uint32(v) << (8 * (1 - n%2))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// TestRootCoalesced sends TCP segments that the kernel carries as one packet into a tunnel, and those of protocol 41 back:
// without XDP such trains are encapsulated and decapsulated in one piece, and taken apart only where they leave the server.
func TestRootCoalesced(t *testing.T) {
	for _, nextHop := range []NextHop{FIB, Stack} {
		for _, encap := range []datapath.Encap{datapath.V6UDPV4, datapath.V6V4} {
			t.Run(fmt.Sprintf("%s %s", nextHop, encap), func(t *testing.T) { coalesced(t, nextHop, encap) })
		}
	}
}

func coalesced(t *testing.T, nextHop NextHop, encap datapath.Encap) {
	const size, segments, tcp = 1200, 20, 20
	s := newSite(t)
	core, _ := s.gateways()
	mac := s.link("dpcorex").Attrs().HardwareAddr
	check(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: s.link("dpcore").Attrs().Index, IP: core.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}))
	s.mirror("dpupx", encap)
	s.plain("dpcore")
	d := s.open(Options{Mode: TC, NextHop: nextHop})
	tunnel := (&rig{config: s.config, layout: d.table.layout}).tunnel(5)
	if tunnel.Encap = encap; encap == datapath.V6V4 {
		tunnel.Local, tunnel.Remote = netip.AddrPortFrom(rigLocal.Addr(), 0), netip.AddrPortFrom(tunnel.Remote.Addr(), 0)
	}
	check(t, d.Set(t.Context(), tunnel))

	packet := innerPacket(rigHost, tunnel.Endpoint, tcp+segments*size)
	packet[6] = unix.IPPROTO_TCP
	segment := packet[40:]
	binary.BigEndian.PutUint32(segment[4:], 1000)
	segment[12], segment[13] = 5<<4, 0x10
	for n := range segments * size {
		segment[tcp+n] = byte(n / size)
	}
	pseudo := append(bytes.Clone(packet[8:40]), 0, 0, 0, 0, 0, 0, 0, unix.IPPROTO_TCP)
	binary.BigEndian.PutUint32(pseudo[32:], uint32(len(segment)))
	binary.BigEndian.PutUint16(segment[16:], ^sum16(pseudo)) // the rest is left to the device
	header := vnetHeader{flags: 1, kind: 4 /* TCP over IPv6 */, header: 14 + 40 + tcp, segment: size, sumStart: 14 + 40, sumAt: 16}
	frame := append(unsafe.Slice((*byte)(unsafe.Pointer(&header)), vnetSize), s.link("dpcore").Attrs().HardwareAddr...)
	frame = append(append(append(frame, mac...), 0x86, 0xdd), packet...)
	fd := s.raw("dpcorex")
	_, err := unix.Write(fd, frame)
	check(t, err)

	const octets = segments * (40 + tcp + size)
	want := datapath.Counters{RxPackets: segments, RxBytes: octets, TxPackets: segments, TxBytes: octets}
	slot, _ := d.table.layout.slot(tunnel.ID)
	if encap == datapath.V6UDPV4 { // what comes back goes to the daemon's socket, which gets the datagrams one by one
		want.RxPackets, want.RxBytes = 0, 0
		s.await("the counters", func() bool { return d.table.record(slot).counters() == want })
		return
	}
	arrived := map[int]bool{}
	buffer := make([]byte, 1<<16)
	for len(arrived) < segments {
		n, err := unix.Read(fd, buffer)
		if err != nil {
			t.Fatalf("%d of %d segments arrived: %v; %+v", len(arrived), segments, err, d.table.record(5).counters())
		}
		p := buffer[vnetSize+14 : n]
		if p[6] != unix.IPPROTO_TCP {
			continue
		}
		number := (int(binary.BigEndian.Uint32(p[44:])) - 1000) / size
		binary.BigEndian.PutUint32(pseudo[32:], uint32(len(p)-40))
		if len(p) != 40+tcp+size || p[7] != 64-2 || sum16(append(bytes.Clone(p[8:40]), pseudo[32:]...), p[40:]) != 0 || p[60] != byte(number) {
			t.Fatalf("segment %d: % x", number, p[:80])
		}
		arrived[number] = true
	}
	s.await("the counters", func() bool { return d.table.record(slot).counters() == want })
}
