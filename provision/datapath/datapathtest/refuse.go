// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// spoof sends what is not from the tunnel it claims to be from, and what must not go where it says.
func spoof(t *testing.T, e *Env) {
	udp4, other, sit, bare := e.tunnel(0, datapath.V6UDPV4), e.tunnel(1, datapath.V6UDPV4), e.tunnel(0, datapath.V6V4), e.tunnel(0, datapath.V6UDPV4)
	unset := e.tunnel(0, datapath.V6UDPV4)
	ghost := bare.Prefix.Addr().Next()
	bare.Prefix = netip.Prefix{}
	e.set(t, udp4, other, sit, bare)

	from := func(tunnel datapath.Tunnel, source, destination netip.Addr) ip4 {
		return wrap(tunnel, datagram(source, destination, "forged").bytes())
	}
	with := func(p ip4, change func(*ip4)) ip4 { change(&p); return p }
	for _, test := range []struct {
		name   string
		packet ip4
		reason datapath.Reason
		claim  uint32 // the tunnel it claims to be
	}{
		{"inner source of nobody", from(udp4, netip.MustParseAddr("2001:db8:bad::1"), coreHost), datapath.InnerSource, 0},
		{"inner source is the core's", from(udp4, coreHost, coreHost), datapath.InnerSource, 0},
		{"inner source is the server", from(udp4, tunnelServer, coreHost), datapath.InnerSource, 0},
		{"inner source is multicast", from(udp4, netip.MustParseAddr("ff02::1"), coreHost), datapath.InnerSource, 0},
		{"another tunnel's endpoint", from(udp4, other.Endpoint, coreHost), datapath.OuterSource, other.ID},
		{"another tunnel's prefix", from(udp4, other.Prefix.Addr().Next(), coreHost), datapath.OuterSource, other.ID},
		{"another encapsulation's endpoint", from(udp4, sit.Endpoint, coreHost), datapath.Encapsulation, sit.ID},
		{"endpoint of a tunnel not in force", from(udp4, unset.Endpoint, coreHost), datapath.NoTunnel, unset.ID},
		{"prefix of a tunnel that has none", from(bare, ghost, coreHost), datapath.InnerSource, bare.ID},
		{"outer address", with(from(udp4, udp4.Endpoint, coreHost), func(p *ip4) { p.from = netip.MustParseAddr("203.0.113.250") }), datapath.OuterSource, udp4.ID},
		{"outer port", with(from(udp4, udp4.Endpoint, coreHost), func(p *ip4) { p.payload[1]++ }), datapath.OuterSource, udp4.ID},
		{"outer destination", with(from(udp4, udp4.Endpoint, coreHost), func(p *ip4) { p.to = secondIPv4 }), datapath.OuterSource, udp4.ID},
		{"protocol 41 for UDP", with(wrap(sit, datagram(udp4.Endpoint, coreHost, "forged").bytes()), func(p *ip4) { p.from = udp4.Remote.Addr() }), datapath.Encapsulation, udp4.ID},
		{"outer address of protocol 41", with(from(sit, sit.Endpoint, coreHost), func(p *ip4) { p.from = udp4.Remote.Addr() }), datapath.OuterSource, sit.ID},

		{"link-local source", from(udp4, netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::2")), datapath.LinkLocal, 0},
		{"unspecified source", from(udp4, netip.IPv6Unspecified(), netip.MustParseAddr("ff02::16")), datapath.LinkLocal, 0},
		{"to a multicast group", from(udp4, udp4.Endpoint, netip.MustParseAddr("ff0e::1")), datapath.Martian, udp4.ID},
		{"to a link-local address", from(udp4, udp4.Endpoint, netip.MustParseAddr("fe80::2")), datapath.Martian, udp4.ID},
		{"to the loopback address", from(udp4, udp4.Endpoint, netip.IPv6Loopback()), datapath.Martian, udp4.ID},
		{"to the unspecified address", from(udp4, udp4.Endpoint, netip.IPv6Unspecified()), datapath.Martian, udp4.ID},
		{"to an IPv4-mapped address", from(udp4, udp4.Endpoint, netip.MustParseAddr("::ffff:192.0.2.1")), datapath.Martian, udp4.ID},
	} {
		t.Run(test.name, func(t *testing.T) {
			drop := e.refused(t, test.reason, func() { e.client.send(unix.ETH_P_IP, test.packet.bytes()) })
			if drop.Tunnel != test.claim {
				t.Errorf("it claims to be tunnel %d; %d expected", drop.Tunnel, test.claim)
			}
			if drop.Remote.Addr() != test.packet.from {
				t.Errorf("it came from %s; %s expected", drop.Remote, test.packet.from)
			}
			inner, _ := parse6(test.packet.payload[udpHeaderOf(test.packet):])
			if drop.Inner != inner.from && !inner.from.IsUnspecified() {
				t.Errorf("inner source %s; %s expected", drop.Inner, inner.from)
			}
			if drop.Last.IsZero() {
				t.Error("no time")
			}
		})
	}
	for _, tunnel := range []datapath.Tunnel{udp4, other, sit, bare} {
		e.counts(t, tunnel.ID, datapath.Counters{})
	}
	e.quiet(t)
}

func udpHeaderOf(p ip4) int {
	if p.protocol == unix.IPPROTO_UDP {
		return udpHeader
	}
	return 0
}

// quiet tells whether nothing has come out at either side: what was sent before has been judged by now.
func (e *Env) quiet(t *testing.T) {
	t.Helper()
	for _, s := range []*station{e.client, e.core} {
		for {
			f, ok := s.receive(0)
			if !ok {
				break
			}
			// The kernels' neighbour discovery goes to multicast and link-local addresses at any time; no packet for others does.
			if p, err := parse6(f.payload); err == nil && !p.to.IsMulticast() && !p.to.IsLinkLocalUnicast() || f.protocol == unix.ETH_P_IP {
				t.Errorf("a packet came out: % x", f.payload)
			}
		}
	}
}

// native sends packets that did not come through a tunnel with the source address of one.
func native(t *testing.T, e *Env) {
	tunnel := e.tunnel(0, datapath.V6UDPV4)
	foreign := e.tunnel(0, datapath.V6UDPV4)
	foreign.Prefix = netip.MustParsePrefix("2001:db8:f00::/48")
	e.set(t, tunnel, foreign)
	unset := e.tunnel(0, datapath.V6UDPV4)
	for name, from := range map[string]netip.Addr{
		"endpoint": tunnel.Endpoint, "prefix": tunnel.Prefix.Addr().Next(), "foreign prefix": foreign.Prefix.Addr().Next(),
		"endpoint of a tunnel not in force": unset.Endpoint,
	} {
		t.Run(name, func(t *testing.T) {
			packet := datagram(from, coreHost, "forged").bytes()
			e.refused(t, datapath.NativeSource, func() { e.client.send(unix.ETH_P_IPV6, packet) })
			drop := e.refused(t, datapath.NativeSource, func() { e.core.send(unix.ETH_P_IPV6, packet) })
			if drop.Inner != from {
				t.Errorf("source %s; %s expected", drop.Inner, from)
			}
			toTunnel := datagram(from, tunnel.Endpoint, "forged").bytes()
			e.refused(t, datapath.NativeSource, func() { e.core.send(unix.ETH_P_IPV6, toTunnel) })
		})
	}
	e.counts(t, tunnel.ID, datapath.Counters{})
	e.quiet(t)
}

// tallies counts drops by tunnel, if the driver does: in turns, over a restart, over the end of a session, and from zero for the next.
func tallies(t *testing.T, e *Env) {
	if !e.tells() {
		return
	}
	first, second := e.tunnel(0, datapath.V6UDPV4), e.tunnel(1, datapath.V6UDPV4)
	e.set(t, first, second)
	counts := func(when string, reason datapath.Reason, want uint64) {
		t.Helper()
		for _, tunnel := range []datapath.Tunnel{first, second} {
			if got := e.tallied(t, tunnel.ID, reason); got != want {
				t.Errorf("%s: %d packets of tunnel %d dropped as %s, %d expected", when, got, tunnel.ID, reason, want)
			}
		}
	}
	both := func(reason datapath.Reason, change func(*datapath.Tunnel)) {
		t.Helper()
		for _, tunnel := range []datapath.Tunnel{first, second} {
			from := tunnel
			change(&from)
			e.refused(t, reason, func() { e.fromClient(from, datagram(tunnel.Endpoint, coreHost, "dropped")) })
		}
	}
	elsewhere := func(d *datapath.Tunnel) { d.Remote = netip.AddrPortFrom(d.Remote.Addr(), 9) }
	for range 3 {
		both(datapath.OuterSource, elsewhere)
	}
	counts("in turns", datapath.OuterSource, 3)
	must(t, e.dp.Close())
	e.start(t)
	counts("after a restart", datapath.OuterSource, 3)
	both(datapath.OuterSource, elsewhere)
	counts("after a restart and one more", datapath.OuterSource, 4)
	for _, tunnel := range []datapath.Tunnel{first, second} {
		if _, err := e.dp.Delete(t.Context(), tunnel.ID); err != nil {
			t.Error(err)
		}
	}
	both(datapath.NoTunnel, func(*datapath.Tunnel) {})
	counts("after the end", datapath.OuterSource, 4)
	counts("after the end", datapath.NoTunnel, 1)
	first.Session, second.Session = first.Session+1, second.Session+1
	must(t, e.dp.Set(t.Context(), first, second))
	counts("in a new session", datapath.OuterSource, 0)
	counts("in a new session", datapath.NoTunnel, 0)
	both(datapath.OuterSource, elsewhere)
	counts("in a new session", datapath.OuterSource, 1)
}

// nowhere sends packets to pool addresses that no tunnel has: they end at the server, and do not go round.
func nowhere(t *testing.T, e *Env) {
	tunnel, bare, unset := e.tunnel(0, datapath.V6UDPV4), e.tunnel(0, datapath.V6UDPV4), e.tunnel(0, datapath.V6UDPV4)
	ghost := bare.Prefix.Addr().Next()
	bare.Prefix = netip.Prefix{}
	e.set(t, tunnel, bare)
	for name, to := range map[string]netip.Addr{
		"endpoint": unset.Endpoint, "prefix": unset.Prefix.Addr().Next(), "prefix of a tunnel without": ghost,
	} {
		t.Run(name, func(t *testing.T) {
			e.refused(t, datapath.NoDestination, func() { e.fromCore(datagram(coreHost, to, "lost")) })
			e.refused(t, datapath.NoDestination, func() { e.fromClient(tunnel, datagram(tunnel.Endpoint, to, "lost")) })
		})
	}
	e.quiet(t)
}

// elsewhere sends what is not the datapath's business: it is left alone.
func elsewhere(t *testing.T, e *Env) {
	tunnel := e.tunnel(0, datapath.V6UDPV4)
	e.set(t, tunnel)
	inner := datagram(tunnel.Endpoint, coreHost, "not for tunnels").bytes()
	before := e.drops(t)
	t.Run("frame for another host", func(t *testing.T) {
		f := frame{to: natMAC, from: clientMAC, protocol: unix.ETH_P_IP, payload: wrap(tunnel, inner).bytes()}
		e.client.sendFrame(f.bytes())
		f.protocol, f.payload = unix.ETH_P_IPV6, datagram(coreHost, tunnel.Endpoint, "not for this host").bytes()
		e.core.sendFrame(f.bytes())
	})
	t.Run("another port", func(t *testing.T) {
		p := wrap(tunnel, inner)
		p.payload = udp(tunnel.Remote.Port(), 3654, inner)
		e.client.send(unix.ETH_P_IP, p.bytes())
	})
	t.Run("another address", func(t *testing.T) {
		p := wrap(tunnel, inner)
		p.to = netip.MustParseAddr("192.0.2.99")
		e.client.send(unix.ETH_P_IP, p.bytes())
	})
	// What was sent before has been judged once this one is through.
	e.fromClient(tunnel, datagram(tunnel.Endpoint, coreHost, "for tunnels"))
	e.atCore(t, datagram(tunnel.Endpoint, coreHost, "for tunnels"))
	for reason, drop := range e.drops(t) {
		if drop.Packets != before[reason].Packets {
			t.Errorf("dropped: %+v", drop)
		}
	}
	if n := e.state(t, tunnel.ID).RxPackets; n != 1 {
		t.Errorf("%d packets counted, 1 expected", n)
	}
}
