// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// Topology is how the server is connected.
type Topology string

// The topologies:
//
//	TwoNICs   client router ---- up0  server  core0 ---- core router
//	NAT router ----- up1
//
//	OneNIC    client router, core router ---- up0  server
//	NAT router ----- up1
const (
	TwoNICs Topology = "two"
	OneNIC  Topology = "one"
)

// Devices of the server.
const (
	uplinkDevice = "up0"
	secondUplink = "up1"
	coreDevice   = "core0"
	tunnelDevice = "dptun"
)

// Addresses. Clients and hosts of the core network are behind routers, which are the server's default routes.
var (
	clientMAC = net.HardwareAddr{2, 0xdb, 0, 0, 0, 1}
	uplinkMAC = net.HardwareAddr{2, 0xdb, 0, 0, 0, 2}
	coreMAC   = net.HardwareAddr{2, 0xdb, 0, 0, 0, 3}
	hostMAC   = net.HardwareAddr{2, 0xdb, 0, 0, 0, 4}
	secondMAC = net.HardwareAddr{2, 0xdb, 0, 0, 0, 5}
	natMAC    = net.HardwareAddr{2, 0xdb, 0, 0, 0, 6}

	serverIPv4    = netip.MustParseAddr("192.0.2.1")
	clientRouter  = netip.MustParseAddr("192.0.2.254")
	secondIPv4    = netip.MustParseAddr("198.51.100.1")
	natIPv4       = netip.MustParseAddr("198.51.100.2")
	natClientIPv4 = netip.MustParseAddr("10.1.1.2")
	natInsideIPv4 = netip.MustParseAddr("10.1.1.1")
	coreIPv6      = netip.MustParseAddr("2001:db8:c::1")
	coreRouter    = netip.MustParseAddr("2001:db8:c::fe")
	coreHost      = netip.MustParseAddr("2001:db8:f::9")
	tunnelServer  = netip.MustParseAddr("2001:db8:e:ffff::1")

	localEnd  = netip.AddrPortFrom(serverIPv4, 3653)
	secondEnd = netip.AddrPortFrom(secondIPv4, 3653)
)

// Open makes a driver for the network namespace of the calling thread. It is called once for each process that the suite
// pretends there is.
type Open func(t *testing.T) datapath.Datapath

// Env is a server between stations.
type Env struct {
	Config   datapath.Config
	Topology Topology

	t        *testing.T
	open     Open
	server   *space
	wire     *space   // the far ends of the first uplink and the core interface
	nat      *space   // the far end of the second uplink
	client   *station // the client router: what comes out here was sent to some client
	core     *station // the core router
	socket   net.PacketConn
	coreName string           // the server's interface towards the core
	coreIn   net.HardwareAddr // its address
	dp       datapath.Datapath
	next     uint32 // index of the next tunnel
}

// reopen opens the stations, anew if their wires were taken away.
func (e *Env) reopen(t *testing.T) {
	t.Helper()
	e.client = newStation(e.t, e.wire, "client0", clientMAC, uplinkMAC)
	e.core = newStation(e.t, e.wire, map[Topology]string{OneNIC: "client0", TwoNICs: "host0"}[e.Topology], hostMAC, e.coreIn)
}

// mtu is that of all tunnels unless a case says otherwise.
const mtu = 1400

func newEnv(t *testing.T, topology Topology, open Open) *Env {
	t.Helper()
	e := &Env{Topology: topology, t: t, open: open, server: newSpace(t), next: 1}
	e.wire = newSpace(t)
	wire := e.wire
	e.prepare()
	e.connect(wire, uplinkDevice, uplinkMAC, "client0", clientMAC)
	core, coreIn := uplinkDevice, uplinkMAC
	if topology == TwoNICs {
		core, coreIn = coreDevice, coreMAC
		e.connect(wire, coreDevice, coreMAC, "host0", hostMAC)
	}
	e.address(core)
	e.coreIn = coreIn
	e.reopen(t)
	e.Config = datapath.Config{
		Device: tunnelDevice, Uplinks: []string{uplinkDevice, secondUplink}, Cores: []string{core},
		Local: []netip.AddrPort{localEnd, secondEnd}, Server: tunnelServer, MTU: mtu, PinPath: e.bpffs(),
		Pools: []datapath.Pool{
			{Name: "site", First: 1000, Size: 4096, EndpointBase: netip.MustParseAddr("2001:db8:e::"), PrefixBase: netip.MustParseAddr("2001:db8:1000::"), PrefixLen: 48},
			{Name: "home", First: 100000, Size: 1000, EndpointBase: netip.MustParseAddr("2001:db8:e:1::ff00"), PrefixBase: netip.MustParseAddr("2001:db8:8000:100::"), PrefixLen: 64},
			{Name: "host", First: 10, Size: 100, EndpointBase: netip.MustParseAddr("2001:db8:e:2::1")},
		},
	}
	e.socket = e.listen(t)
	t.Cleanup(func() { _ = e.socket.Close() })
	return e
}

// must ends a test on an error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (e *Env) sysctl(s *space, name, value string) {
	e.t.Helper()
	s.do(func() { must(e.t, os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)) })
}

// prepare makes a router of the server's namespace.
func (e *Env) prepare() {
	e.sysctl(e.server, "ipv6/conf/all/forwarding", "1")
	e.sysctl(e.server, "ipv6/conf/default/accept_dad", "0")
	e.sysctl(e.server, "ipv4/conf/all/rp_filter", "0")
	e.sysctl(e.server, "ipv4/conf/default/rp_filter", "0")
	lo, err := e.server.nl.LinkByName("lo")
	must(e.t, err)
	must(e.t, e.server.nl.LinkSetUp(lo))
	e.second()
}

// connect joins the server to a wire. The far end runs an XDP program, without which a veth takes no frames from XDP.
func (e *Env) connect(wire *space, device string, mac net.HardwareAddr, far string, farMAC net.HardwareAddr) {
	e.t.Helper()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: device, HardwareAddr: mac, MTU: 1500, TxQLen: 1000},
		PeerName:  far, PeerHardwareAddr: farMAC, PeerNamespace: netlink.NsFd(wire.handle),
	}
	must(e.t, e.server.nl.LinkAdd(veth))
	near, err := e.server.nl.LinkByName(device)
	must(e.t, err)
	peer, err := wire.nl.LinkByName(far)
	must(e.t, err, e.server.nl.LinkSetUp(near), wire.nl.LinkSetUp(peer))
	carries(e.t, e.server, device)
	carries(e.t, wire, far)
	e.passXDP(wire, peer.Attrs().Index)
	e.offload(e.t, device, ethtoolTxChecksum, false) // as on a wire: what comes out has its checksums
}

func (e *Env) passXDP(s *space, index int) {
	e.t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */), asm.Return()},
	})
	must(e.t, err)
	defer program.Close()
	s.do(func() {
		l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: link.XDPDriverMode})
		must(e.t, err)
		e.t.Cleanup(func() { _ = l.Close() })
	})
}

// address gives the server its addresses, default routes and neighbours.
func (e *Env) address(core string) {
	e.t.Helper()
	nl := e.server.nl
	up, err := nl.LinkByName(uplinkDevice)
	must(e.t, err)
	must(e.t, nl.AddrAdd(up, &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(serverIPv4, 24))}))
	e.coreName = core
	e.readdress(e.t)
}

// readdress adds what the kernel takes away from an interface that is down.
func (e *Env) readdress(t *testing.T) {
	t.Helper()
	nl := e.server.nl
	up, err := nl.LinkByName(uplinkDevice)
	must(e.t, err)
	in, err := nl.LinkByName(e.coreName)
	must(e.t, err)
	must(e.t,
		nl.AddrReplace(in, &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(coreIPv6, 64)), Flags: unix.IFA_F_NODAD}),
		nl.RouteReplace(&netlink.Route{LinkIndex: up.Attrs().Index, Gw: clientRouter.AsSlice()}),
		nl.RouteReplace(&netlink.Route{LinkIndex: in.Attrs().Index, Gw: coreRouter.AsSlice()}),
		nl.NeighSet(&netlink.Neigh{LinkIndex: up.Attrs().Index, IP: clientRouter.AsSlice(), HardwareAddr: clientMAC, State: netlink.NUD_PERMANENT}),
		nl.NeighSet(&netlink.Neigh{LinkIndex: in.Attrs().Index, IP: coreRouter.AsSlice(), HardwareAddr: hostMAC, State: netlink.NUD_PERMANENT}),
	)
}

// second makes the second uplink; the NAT router is at its other end.
func (e *Env) second() {
	e.t.Helper()
	e.nat = newSpace(e.t)
	e.connect(e.nat, secondUplink, secondMAC, "out0", natMAC)
	nl := e.server.nl
	up, err := nl.LinkByName(secondUplink)
	must(e.t, err)
	must(e.t,
		nl.AddrAdd(up, &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(secondIPv4, 24))}),
		nl.NeighSet(&netlink.Neigh{LinkIndex: up.Attrs().Index, IP: natIPv4.AsSlice(), HardwareAddr: natMAC, State: netlink.NUD_PERMANENT}),
	)
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// bpffs mounts an eBPF file system that ends with the test.
func (e *Env) bpffs() string {
	e.t.Helper()
	dir := e.t.TempDir()
	must(e.t, unix.Mount("bpf", dir, "bpf", 0, ""))
	e.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return filepath.Join(dir, "dp")
}

// listen opens the daemon's socket: what the driver leaves to it arrives there. The one of the process before may still be open.
func (e *Env) listen(t *testing.T) net.PacketConn {
	t.Helper()
	listen := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) (err error) {
		control := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if attacher, ok := e.dp.(datapath.Attacher); ok && control == nil && err == nil {
			err = attacher.Attach(conn)
		}
		return errors.Join(control, err)
	}}
	var socket net.PacketConn
	e.server.do(func() {
		var err error
		socket, err = listen.ListenPacket(context.Background(), "udp4", ":3653")
		must(t, err)
	})
	return socket
}

// attach hands the daemon's socket to a driver that takes packets out of it.
func (e *Env) attach(t *testing.T) {
	t.Helper()
	attacher, ok := e.dp.(datapath.Attacher)
	if !ok {
		return
	}
	raw, err := e.socket.(syscall.Conn).SyscallConn()
	must(t, err, attacher.Attach(raw))
}

// start opens a driver and configures it, as a process does that comes after another: with a socket of its own, if the driver
// takes packets out of it.
func (e *Env) start(t *testing.T) {
	t.Helper()
	e.server.do(func() { e.dp = e.open(e.t) })
	must(t, e.dp.Configure(context.Background(), e.Config))
	if _, ok := e.dp.(datapath.Attacher); !ok {
		return
	}
	before := e.socket
	e.socket = e.listen(t)
	e.attach(t)
	must(t, before.Close())
}

// tunnel makes a tunnel of the next index of a pool. The outer address is the client's own.
func (e *Env) tunnel(pool int, encap datapath.Encap) datapath.Tunnel {
	p := e.Config.Pools[pool]
	index := e.next
	e.next++
	t := datapath.Tunnel{
		ID: p.First + index, Session: uint64(index) << 32, Encap: encap, Local: localEnd,
		Remote:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(index)}), 40000+uint16(index)),
		Endpoint: plus(p.EndpointBase, 128, index),
	}
	if p.PrefixLen > 0 {
		t.Prefix = netip.PrefixFrom(plus(p.PrefixBase, p.PrefixLen, index), p.PrefixLen)
	}
	if encap == datapath.V6V4 {
		t.Local, t.Remote = netip.AddrPortFrom(t.Local.Addr(), 0), netip.AddrPortFrom(t.Remote.Addr(), 0)
	}
	return t
}

// plus is the index-th prefix of a length from base on.
func plus(base netip.Addr, length int, index uint32) netip.Addr {
	b := base.As16()
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if length > 64 {
		low += uint64(index) << (128 - length)
	} else {
		high += uint64(index) << (64 - length)
	}
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low)
	return netip.AddrFrom16(b)
}

// set puts tunnels in force for the length of the test.
func (e *Env) set(t *testing.T, tunnels ...datapath.Tunnel) {
	t.Helper()
	if err := e.dp.Set(context.Background(), tunnels...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, tunnel := range tunnels {
			if _, err := e.dp.Delete(context.Background(), tunnel.ID); err != nil && !errors.Is(err, datapath.ErrNotFound) {
				t.Error(err)
			}
		}
	})
}

// state gives a tunnel in force.
func (e *Env) state(t *testing.T, id uint32) datapath.State {
	t.Helper()
	for state, err := range e.dp.All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		if state.ID == id {
			return state
		}
	}
	t.Fatalf("tunnel %d is not in force", id)
	return datapath.State{}
}

// udp6 opens a socket at the server's address inside the tunnels.
func (e *Env) udp6(t *testing.T) net.PacketConn {
	t.Helper()
	var socket net.PacketConn
	e.server.do(func() {
		var err error
		socket, err = net.ListenPacket("udp6", netip.AddrPortFrom(tunnelServer, innerPort).String())
		must(e.t, err)
	})
	if err := socket.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return socket
}
