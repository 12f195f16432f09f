// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// What XDP programs answer.
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpRedirect = 4
)

// rig is a program of ours and its maps, to be run on frames without an interface. Its next hops are fixed, and the
// interfaces they leave by are never looked at.
type rig struct {
	program *ebpf.Program
	config  datapath.Config
	layout  layout
	table   *table
	state   *state
	drops   *ebpf.Map
}

// Link layer addresses: the interface's, the gateways'.
var (
	rigMAC    = [6]byte{2, 0, 0, 0, 0, 1}
	rigClient = [6]byte{2, 0, 0, 0, 0, 2}
	rigCore   = [6]byte{2, 0, 0, 0, 0, 3}
)

var rigLocal = netip.MustParseAddrPort("192.0.2.1:3653")

func rigConfig() datapath.Config {
	return datapath.Config{
		Local: []netip.AddrPort{rigLocal}, Server: netip.MustParseAddr("2001:db8:e:ffff::1"), MTU: 1400,
		Pools: []datapath.Pool{
			{Name: "a", First: 100, Size: 1000, EndpointBase: netip.MustParseAddr("2001:db8:e::"), PrefixBase: netip.MustParseAddr("2001:db8:1000::"), PrefixLen: 48},
			{Name: "b", First: 5000, Size: 300, EndpointBase: netip.MustParseAddr("2001:db8:e:1::5")},
		},
	}
}

// newRig loads the XDP program for an interface that is uplink and core interface.
func newRig(tb testing.TB, config datapath.Config, options Options) *rig {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("eBPF needs root")
	}
	l, err := layoutOf(config, spreadOf(config.Pools, 2))
	check(tb, err)
	spec, err := loadHookTC()
	check(tb, err)
	shared := map[string]*ebpf.Map{}
	for _, name := range []string{mapTunnels, mapForeign, mapState, mapDrops, mapBudget} {
		if name == mapTunnels {
			spec.Maps[name].MaxEntries = l.entries()
		}
		m, err := ebpf.NewMap(spec.Maps[name])
		check(tb, err)
		tb.Cleanup(func() { _ = m.Close() })
		shared[name] = m
	}
	r := &rig{config: config, layout: l, drops: shared[mapDrops]}
	r.table, _, err = openTable(shared[mapTunnels])
	check(tb, err)
	r.table.arrange(l)
	r.state, err = openState(shared[mapState])
	check(tb, err)
	const device = 77
	k := constantsOf(config, l, device, options, true)
	r.program, err = k.load(loadHookXDP, hookXDPProgDdtbXdp, role{canSend: portXDP, decap: true, encap: true}, shared)
	check(tb, err)
	tb.Cleanup(func() { _ = r.program.Close() })
	r.fix(tb)
	return r
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// fix gives the programs next hops for ever.
func (r *rig) fix(tb testing.TB) {
	tb.Helper()
	const core, uplink = 10, 11
	r.state.setPort(0, port{ifindex: uplink, flags: portXDP, mac: macWord(rigMAC)})
	r.state.setPort(1, port{ifindex: core, flags: portXDP, mac: macWord(rigMAC)})
	still := func() error { return nil }
	hop := func(index uint32, to [6]byte) *fixedHop {
		h := &fixedHop{until: 1 << 62, ifindex: index, mtu: 1500}
		copy(h.macs[:], to[:])
		copy(h.macs[6:], rigMAC[:])
		return h
	}
	check(tb, r.state.setCore(hop(core, rigCore), nil, still))
	check(tb, r.state.setUplink(hop(uplink, rigClient), nil, still))
}

func macWord(mac [6]byte) (word uint64) {
	for n, b := range mac {
		word |= uint64(b) << (8 * n)
	}
	return word
}

// tunnel is that of an index of the first pool, with its prefix.
func (r *rig) tunnel(index uint32) datapath.Tunnel {
	id := r.config.Pools[0].First + index
	endpoint, prefix := r.layout.addresses(id)
	return datapath.Tunnel{
		ID: id, Encap: datapath.V6UDPV4, Local: rigLocal, Endpoint: endpoint, Prefix: prefix,
		Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(index >> 16), byte(index >> 8), byte(index)}), 40000),
	}
}

func (r *rig) set(t datapath.Tunnel) {
	slot, _ := r.layout.slot(t.ID)
	has := uint64(hasEndpoint)
	if t.Prefix.IsValid() {
		has |= hasPrefix
	}
	r.table.record(slot).put(identify(t, r.layout.local(&t), r.state.mtu(r.config.MTU), has, ends{}), 1, 1, datapath.Counters{})
	r.table.active.set(slot, true)
}

// run gives a frame to the program.
func (r *rig) run(tb testing.TB, frame []byte) (verdict uint32, out []byte) {
	tb.Helper()
	options := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Repeat: 1}
	verdict, err := r.program.Run(options)
	check(tb, err)
	return verdict, options.DataOut
}

// dropped are the counts by reason.
func (r *rig) dropped(tb testing.TB) map[datapath.Reason]uint64 {
	tb.Helper()
	counts := map[datapath.Reason]uint64{}
	for n, reason := range datapath.Reasons() {
		var entries []dropEntry
		check(tb, r.drops.Lookup(uint32(n), &entries))
		for _, e := range entries {
			counts[reason] += e.Packets
		}
	}
	return counts
}

// inner is an IPv6 packet with a payload of so many octets.
func innerPacket(from, to netip.Addr, payload int) []byte {
	b := make([]byte, 40+payload)
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(payload))
	b[6], b[7] = unix.IPPROTO_UDP, 64
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	return b
}

// upFrame is a frame from the client of a tunnel, downFrame one from the core.
func upFrame(t datapath.Tunnel, inner []byte) []byte {
	ip := make([]byte, 20, 28+len(inner))
	protocol := byte(unix.IPPROTO_IPV6)
	if t.Encap == datapath.V6UDPV4 {
		protocol = unix.IPPROTO_UDP
		ip = binary.BigEndian.AppendUint16(ip, t.Remote.Port())
		ip = binary.BigEndian.AppendUint16(ip, t.Local.Port())
		ip = binary.BigEndian.AppendUint16(ip, uint16(8+len(inner)))
		ip = append(ip, 0, 0)
	}
	ip = append(ip, inner...)
	ip[0], ip[8], ip[9] = 0x45, 60, protocol
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], t.Remote.Addr().AsSlice())
	copy(ip[16:], t.Local.Addr().AsSlice())
	return ethernet(rigMAC, rigClient, unix.ETH_P_IP, ip)
}

func downFrame(inner []byte) []byte { return ethernet(rigMAC, rigCore, unix.ETH_P_IPV6, inner) }

func ethernet(to, from [6]byte, protocol uint16, payload []byte) []byte {
	b := append(to[:], from[:]...)
	return append(binary.BigEndian.AppendUint16(b, protocol), payload...)
}

var rigHost = netip.MustParseAddr("2001:db8:f::9")

// TestRootShortWay makes sure that good packets take the way past the stack, which the drivers' suite cannot see.
func TestRootShortWay(t *testing.T) {
	r := newRig(t, rigConfig(), Options{NextHop: Fixed})
	for _, encap := range []datapath.Encap{datapath.V6UDPV4, datapath.V6V4} {
		tunnel := r.tunnel(7)
		if tunnel.Encap = encap; encap == datapath.V6V4 {
			tunnel.Local, tunnel.Remote = netip.AddrPortFrom(rigLocal.Addr(), 0), netip.AddrPortFrom(tunnel.Remote.Addr(), 0)
		}
		r.set(tunnel)
		t.Run(encap.String()+" up", func(t *testing.T) {
			inner := innerPacket(tunnel.Endpoint, rigHost, 100)
			verdict, out := r.run(t, upFrame(tunnel, inner))
			inner[7]--
			if want := ethernet(rigCore, rigMAC, unix.ETH_P_IPV6, inner); verdict != xdpRedirect || !bytes.Equal(out, want) {
				t.Errorf("verdict %d: % x\nexpected: % x", verdict, out, want)
			}
		})
		t.Run(encap.String()+" down", func(t *testing.T) {
			inner := innerPacket(rigHost, tunnel.Prefix.Addr().Next(), 100)
			verdict, out := r.run(t, downFrame(inner))
			inner[7]--
			if verdict != xdpRedirect || !bytes.HasSuffix(out, inner) || len(out) != 14+encap.Overhead()+len(inner) {
				t.Errorf("verdict %d: % x", verdict, out)
			}
		})
		t.Run(encap.String()+" echo", func(t *testing.T) {
			inner := innerPacket(tunnel.Endpoint, r.config.Server, 16)
			inner[6], inner[40] = unix.IPPROTO_ICMPV6, 128
			verdict, out := r.run(t, upFrame(tunnel, inner))
			if verdict != xdpRedirect || len(out) < 40 || out[len(out)-16] != 129 {
				t.Errorf("verdict %d: % x", verdict, out)
			}
		})
	}
}

// TestRootLongWay: what must go through the stack is left as it came.
func TestRootLongWay(t *testing.T) {
	config := rigConfig()
	for _, nextHop := range []NextHop{Fixed, Stack} {
		r := newRig(t, config, Options{NextHop: nextHop})
		tunnel, other := r.tunnel(7), r.tunnel(8)
		r.set(tunnel)
		r.set(other)
		good := innerPacket(tunnel.Endpoint, rigHost, 100)
		with := func(b []byte, at int, value byte) []byte { b = bytes.Clone(b); b[at] = value; return b }
		frames := map[string][]byte{
			"hop limit":         upFrame(tunnel, with(good, 7, 1)),
			"hop-by-hop":        upFrame(tunnel, with(good, 6, 0)),
			"to another tunnel": upFrame(tunnel, innerPacket(tunnel.Endpoint, other.Endpoint, 100)),
			"fragment":          with(upFrame(tunnel, good), 20, 0x20),
			"IP options":        with(upFrame(tunnel, good), 14, 0x46),
			"signalling":        with(upFrame(tunnel, good), 42, 0xf0),
			"another port":      with(upFrame(tunnel, good), 37, 0x46),
			"too big":           downFrame(innerPacket(rigHost, tunnel.Endpoint, 1400)),
			"hop limit down":    downFrame(with(innerPacket(rigHost, tunnel.Endpoint, 100), 7, 1)),
			"hop-by-hop down":   downFrame(with(innerPacket(rigHost, tunnel.Endpoint, 100), 6, 0)),
			"link-local source": downFrame(innerPacket(netip.MustParseAddr("fe80::1"), tunnel.Endpoint, 100)),
			"no tunnel":         downFrame(innerPacket(rigHost, r.tunnel(9).Endpoint, 100)),
			"frame of another":  with(upFrame(tunnel, good), 5, 9),
			"ARP":               ethernet(rigMAC, rigClient, unix.ETH_P_ARP, make([]byte, 46)),
		}
		if nextHop == Stack {
			frames["anything up"] = upFrame(tunnel, good)
			frames["anything down"] = downFrame(innerPacket(rigHost, tunnel.Endpoint, 100))
		}
		for name, frame := range frames {
			t.Run(fmt.Sprintf("%s %s", nextHop, name), func(t *testing.T) {
				if verdict, out := r.run(t, frame); verdict != xdpPass || !bytes.Equal(out, frame) {
					t.Errorf("verdict %d: % x\nexpected unchanged: % x", verdict, out, frame)
				}
			})
		}
		if slot, _ := r.layout.slot(tunnel.ID); r.table.record(slot).counters() != (datapath.Counters{}) {
			t.Errorf("counted: %+v", r.table.record(slot).counters())
		}
	}
}

// TestRootExceptions: destinations with another route are looked up, which leads nowhere here, and a next hop that nobody
// vouches for is not used.
func TestRootExceptions(t *testing.T) {
	r := newRig(t, rigConfig(), Options{NextHop: Fixed})
	tunnel := r.tunnel(7)
	r.set(tunnel)
	up, down := upFrame(tunnel, innerPacket(tunnel.Endpoint, rigHost, 100)), downFrame(innerPacket(rigHost, tunnel.Endpoint, 100))
	both := func(want uint32) {
		t.Helper()
		for _, frame := range [][]byte{up, down} {
			if verdict, _ := r.run(t, frame); verdict != want {
				t.Errorf("verdict %d, %d expected", verdict, want)
			}
		}
	}
	both(xdpRedirect)
	core, uplink := r.state.shared.core, r.state.shared.uplink
	still := func() error { return nil }
	set := func(six, four netip.Prefix) {
		w := way{hop: core}
		w.exceptions[0], w.hop.exceptions = six, 1
		check(t, r.state.setCore(&w.hop, w.exceptions6(), still))
		w = way{hop: uplink}
		w.exceptions[0], w.hop.exceptions = four, 1
		check(t, r.state.setUplink(&w.hop, w.exceptions4(), still))
	}
	set(netip.MustParsePrefix("2001:db8:f::/64"), netip.MustParsePrefix("10.0.0.0/9"))
	both(xdpPass)
	set(netip.MustParsePrefix("2001:db8:f:1::/64"), netip.MustParsePrefix("10.128.0.0/9"))
	both(xdpRedirect)
	r.state.prolong(now() - 1)
	both(xdpPass)
	r.state.prolong(now() + 1e12)
	both(xdpRedirect)
	r.state.forget()
	both(xdpPass)
}
