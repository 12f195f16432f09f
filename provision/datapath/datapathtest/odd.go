// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// daemon reads what the datapath leaves to the daemon's socket.
func (e *Env) daemon(t *testing.T) (packet []byte, from netip.AddrPort) {
	t.Helper()
	if err := e.socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<16)
	n, peer, err := e.socket.ReadFrom(buffer)
	if err != nil {
		t.Fatalf("nothing reached the daemon's socket: %v; dropped: %v", err, e.drops(t))
	}
	address, ok := peer.(*net.UDPAddr)
	if !ok {
		t.Fatalf("a datagram from %v", peer)
	}
	from = address.AddrPort()
	return buffer[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// odd sends what the fast path must leave alone: signalling, fragments, IP options. With a driver that takes packets from
// sockets the last two reach the daemon, who gives what is in them to Inject; another driver deals with them in the kernel.
func odd(t *testing.T, e *Env) {
	tunnel := e.tunnel(0, datapath.V6UDPV4)
	e.set(t, tunnel)
	t.Run("signalling", func(t *testing.T) {
		for _, message := range []string{"\xf0\x00\x00\xf0\x00\x00\x00\x01", "\xf0\x00\x00\xf0\x00\x00\x00\x01VERSION=2.0.2\r\n", "\xff"} {
			p := wrap(tunnel, nil)
			p.payload = udp(tunnel.Remote.Port(), tunnel.Local.Port(), []byte(message))
			e.client.send(unix.ETH_P_IP, p.bytes())
			if got, from := e.daemon(t); string(got) != message || from != tunnel.Remote {
				t.Errorf("%q from %s", got, from)
			}
		}
	})
	up := sized(tunnel.Endpoint, coreHost, 1300)
	whole := wrap(tunnel, up.bytes())
	passed := uint64(0)
	inject := func(t *testing.T, up ip6) {
		t.Helper()
		if injector, ok := e.dp.(datapath.Injector); ok {
			packet, from := e.daemon(t)
			if !bytes.Equal(packet, up.bytes()) || from != tunnel.Remote {
				t.Fatalf("%d octets from %s", len(packet), from)
			}
			injector.Inject(datapath.V6UDPV4, tunnel.Local, from, packet)
		}
		if got := e.atCore(t, up); got.hops != up.hops-1 {
			t.Errorf("%d hops left, %d expected", got.hops, up.hops-1)
		}
		passed++
		e.counts(t, tunnel.ID, datapath.Counters{RxPackets: passed, RxBytes: passed * uint64(len(up.bytes()))})
	}
	t.Run("fragments", func(t *testing.T) {
		first, second := whole, whole
		first.fragment, second.fragment = 0x2000, 800/8
		first.payload, second.payload = whole.payload[:800], whole.payload[800:]
		e.client.send(unix.ETH_P_IP, first.bytes())
		e.client.send(unix.ETH_P_IP, second.bytes())
		inject(t, up)
	})
	t.Run("options", func(t *testing.T) {
		optional := whole
		optional.options = []byte{1, 1, 1, 0} // no operation, end of list
		e.client.send(unix.ETH_P_IP, optional.bytes())
		inject(t, up)
	})
	if injector, ok := e.dp.(datapath.Injector); ok {
		t.Run("refused", func(t *testing.T) { e.injectRefused(t, injector, tunnel) })
	}
}

// injectRefused gives Inject what must not pass.
func (e *Env) injectRefused(t *testing.T, injector datapath.Injector, tunnel datapath.Tunnel) {
	good := datagram(tunnel.Endpoint, coreHost, "injected").bytes()
	from := func(a netip.Addr) []byte { return datagram(a, coreHost, "injected").bytes() }
	elsewhere := netip.AddrPortFrom(tunnel.Remote.Addr(), 9)
	before := e.state(t, tunnel.ID).Counters
	for _, test := range []struct {
		name   string
		encap  datapath.Encap
		remote netip.AddrPort
		packet []byte
		reason datapath.Reason
	}{
		{"nothing", tunnel.Encap, tunnel.Remote, nil, datapath.Malformed},
		{"half a header", tunnel.Encap, tunnel.Remote, good[:39], datapath.Malformed},
		{"half a packet", tunnel.Encap, tunnel.Remote, good[:len(good)-1], datapath.Malformed},
		{"IPv4", tunnel.Encap, tunnel.Remote, wrap(tunnel, good).bytes(), datapath.Malformed},
		{"inner source", tunnel.Encap, tunnel.Remote, from(coreHost), datapath.InnerSource},
		{"link-local", tunnel.Encap, tunnel.Remote, from(netip.MustParseAddr("fe80::1")), datapath.LinkLocal},
		{"no tunnel", tunnel.Encap, tunnel.Remote, from(e.tunnel(0, datapath.V6UDPV4).Endpoint), datapath.NoTunnel},
		{"outer source", tunnel.Encap, elsewhere, good, datapath.OuterSource},
		{"encapsulation", datapath.V6V4, tunnel.Remote, good, datapath.Encapsulation},
		{"martian", tunnel.Encap, tunnel.Remote, datagram(tunnel.Endpoint, netip.MustParseAddr("ff02::1"), "injected").bytes(), datapath.Martian},
	} {
		t.Run(test.name, func(t *testing.T) {
			e.refused(t, test.reason, func() { injector.Inject(test.encap, tunnel.Local, test.remote, test.packet) })
		})
	}
	e.counts(t, tunnel.ID, before)
	e.quiet(t)
}

// garbage sends what no client of ours sends. Nothing of it may come out, be counted as traffic, or hurt.
func garbage(t *testing.T, e *Env) {
	for _, encap := range encaps {
		t.Run(encap.String(), func(t *testing.T) {
			tunnel := e.tunnel(0, encap)
			e.set(t, tunnel)
			up := datagram(tunnel.Endpoint, coreHost, "garbage")
			whole := wrap(tunnel, up.bytes()).bytes()
			for n := range len(whole) {
				e.client.send(unix.ETH_P_IP, whole[:n])
			}
			header := len(whole) - len(up.bytes())
			for _, bad := range []struct {
				at    int
				value uint16
			}{
				{2, 0}, {2, 19}, {2, uint16(len(whole) + 1)}, {2, 0xffff}, // outer length
				{header + 4, uint16(len(up.payload) + 1)}, {header + 4, 0xffff}, // inner length
				{header, 0x5000}, {header, 0x4500}, {header, 0}, // inner version
			} {
				p := bytes.Clone(whole)
				be.PutUint16(p[bad.at:], bad.value)
				be.PutUint16(p[10:], 0)
				be.PutUint16(p[10:], checksum(p[:ipv4Header]))
				e.client.send(unix.ETH_P_IP, p)
			}
			if encap == datapath.V6UDPV4 {
				for _, length := range []uint16{0, 7, 8, 9, uint16(len(whole)-ipv4Header) - 1, uint16(len(whole)-ipv4Header) + 1, 0xffff} {
					p := bytes.Clone(whole)
					be.PutUint16(p[24:], length)
					e.client.send(unix.ETH_P_IP, p)
				}
			}
			e.client.send(unix.ETH_P_IP, nil)
			for n := range ipv6Header {
				e.core.send(unix.ETH_P_IPV6, datagram(coreHost, tunnel.Endpoint, "").bytes()[:n])
			}
			e.core.send(unix.ETH_P_IPV6, datagram(coreHost, tunnel.Endpoint, "truncated").bytes()[:ipv6Header+10])
			e.padded(t, tunnel)
			size := uint64(len(datagram(tunnel.Endpoint, coreHost, "padded").bytes()))
			e.counts(t, tunnel.ID, datapath.Counters{RxPackets: 2, RxBytes: 2 * size, TxPackets: 1, TxBytes: size})
			if e.drops(t)[datapath.Malformed].Packets == 0 {
				t.Error("nothing was dropped as malformed")
			}
			e.quiet(t)
		})
	}
}

// padded sends frames longer than the packet in them, as short ones are on a wire: the packet passes, the padding does not.
func (e *Env) padded(t *testing.T, tunnel datapath.Tunnel) {
	t.Helper()
	padding := make([]byte, 20)
	up, down := datagram(tunnel.Endpoint, coreHost, "padded"), datagram(coreHost, tunnel.Endpoint, "padded")
	check := func(what string, excess int) {
		t.Helper()
		if excess != 0 {
			t.Errorf("%s: %d octets behind the packet", what, excess)
		}
	}
	e.client.send(unix.ETH_P_IP, append(wrap(tunnel, up.bytes()).bytes(), padding...))
	check("frame from the client", e.atCore(t, up).excess)
	e.client.send(unix.ETH_P_IP, wrap(tunnel, append(up.bytes(), padding...)).bytes())
	check("datagram from the client", e.atCore(t, up).excess)
	e.core.send(unix.ETH_P_IPV6, append(down.bytes(), padding...))
	got := e.atClient(t, tunnel, down)
	check("frame from the core, inside", got.inner.excess)
	check("frame from the core", got.outer.excess)
}

// foreign gives a client addresses from outside the pools.
func foreign(t *testing.T, e *Env) {
	for _, encap := range encaps {
		t.Run(encap.String(), func(t *testing.T) {
			tunnel, other := e.tunnel(0, encap), e.tunnel(0, encap)
			arithmetic := tunnel.Prefix.Addr().Next()
			tunnel.Prefix = netip.MustParsePrefix("2001:db8:f00::/48")
			tunnel.Endpoint = netip.MustParseAddr("2001:db8:f01::1")
			other.Prefix = netip.MustParsePrefix("2001:db8:f02:100::/56")
			e.set(t, tunnel, other)
			for n, address := range []netip.Addr{tunnel.Endpoint, netip.MustParseAddr("2001:db8:f00:1::5")} {
				up, down := datagram(address, coreHost, fmt.Sprint("up", n)), datagram(coreHost, address, fmt.Sprint("down", n))
				e.fromClient(tunnel, up)
				e.atCore(t, up)
				e.fromCore(down)
				e.atClient(t, tunnel, down)
			}
			across := datagram(other.Prefix.Addr(), tunnel.Prefix.Addr().Next(), "across")
			e.fromClient(other, across)
			e.atClient(t, tunnel, across)
			e.refused(t, datapath.OuterSource, func() { e.fromClient(tunnel, datagram(other.Prefix.Addr(), coreHost, "forged")) })
			e.refused(t, datapath.InnerSource, func() { e.fromClient(tunnel, datagram(arithmetic, coreHost, "forged")) })
			e.refused(t, datapath.InnerSource, func() {
				e.fromClient(tunnel, datagram(netip.MustParseAddr("2001:db8:f02:200::1"), coreHost, "forged"))
			})
			e.quiet(t)
		})
	}
	// Gone with the tunnel: from now on these addresses are somebody else's.
	e.refused(t, datapath.InnerSource, func() {
		e.fromClient(e.tunnel(0, datapath.V6UDPV4), datagram(netip.MustParseAddr("2001:db8:f00:1::5"), coreHost, "late"))
	})
}
