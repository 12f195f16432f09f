// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// Types of ICMPv6 (RFC 4443).
const (
	packetTooBig = 2
	timeExceeded = 3
	echoRequest  = 128
	echoReply    = 129
)

// sized is a datagram of so many octets in all.
func sized(from, to netip.Addr, octets int) ip6 {
	return datagram(from, to, strings.Repeat("x", octets-ipv6Header-udpHeader))
}

// isError tells whether an ICMPv6 packet is an error of a type about a packet. The quotation may be cut, but not shorter
// than the error must be long (RFC 4443 section 2.4 (c)).
func isError(p ip6, kind byte, about ip6) bool {
	if p.next != unix.IPPROTO_ICMPV6 || p.to != about.from || len(p.payload) < icmpHeader || p.payload[0] != kind || !goodICMP(p) {
		return false
	}
	quoted, sent := p.payload[icmpHeader:], about.bytes()
	if want := min(len(sent), 1280-ipv6Header-icmpHeader); len(quoted) != want {
		return false
	}
	// A router may have decremented the hop limit before it found out.
	return (quoted[7] == sent[7] || quoted[7] == sent[7]-1) && bytes.Equal(quoted[:7], sent[:7]) && bytes.Equal(quoted[8:], sent[8:len(quoted)])
}

// tooBig sends packets above the MTU: the sender is told the tunnel's, and one of exactly that size passes.
func tooBig(t *testing.T, e *Env) {
	for _, encap := range encaps {
		standard, small := e.tunnel(0, encap), e.tunnel(0, encap)
		small.MTU = 1300
		for _, tunnel := range []datapath.Tunnel{standard, small} {
			limit := tunnel.MTU
			if limit == 0 {
				limit = mtu
			}
			t.Run(fmt.Sprintf("%s %d", encap, limit), func(t *testing.T) {
				e.set(t, tunnel)
				for _, octets := range []int{limit + 1, 1500} {
					for octets > limit {
						octets = e.complaint(t, tunnel, octets, limit)
					}
				}
				fits := sized(coreHost, tunnel.Endpoint, limit)
				e.fromCore(fits)
				e.atClient(t, tunnel, fits)
				e.counts(t, tunnel.ID, datapath.Counters{TxPackets: 1, TxBytes: uint64(limit)})
			})
		}
	}
	t.Run("no error about an error", func(t *testing.T) {
		tunnel := e.tunnel(0, datapath.V6UDPV4)
		tunnel.MTU = 1300
		e.set(t, tunnel)
		body := make([]byte, 1350-ipv6Header-icmpHeader)
		e.refused(t, datapath.TooBig, func() {
			e.fromCore(ip6{
				from: coreHost, to: tunnel.Endpoint, hops: 64, next: unix.IPPROTO_ICMPV6,
				payload: icmp6(coreHost, tunnel.Endpoint, timeExceeded, 0, 0, body),
			})
		})
		e.quiet(t)
	})
}

// complaint sends one packet above the MTU and gives the MTU that is told: the tunnel's, or first that of the device.
func (e *Env) complaint(t *testing.T, tunnel datapath.Tunnel, octets, limit int) int {
	t.Helper()
	sent := sized(coreHost, tunnel.Endpoint, octets)
	e.fromCore(sent)
	told := await(t, e.core, "Packet Too Big", func(f frame) (ip6, bool) {
		p, err := parse6(f.payload)
		return p, err == nil && isError(p, packetTooBig, sent)
	})
	next := int(be.Uint32(told.payload[4:]))
	if next != limit && (next != mtu || octets <= mtu) {
		t.Fatalf("MTU %d is told about %d octets; %d expected", next, octets, limit)
	}
	if told.from.IsLinkLocalUnicast() || told.from.IsMulticast() {
		t.Errorf("told by %s", told.from)
	}
	return next
}

// The budget for Packet Too Big that drivers keep (RFC 4443 section 2.4 (f)): so many at once, one more each interval. It may be
// one for each CPU, and read a clock that is behind by a tick.
const (
	complaintBurst    = 100
	complaintInterval = time.Millisecond
	complaintTick     = 10 * time.Millisecond
)

// tooBigFlood sends more packets above the MTU than deserve an answer.
func tooBigFlood(t *testing.T, e *Env) {
	tunnel := e.tunnel(0, datapath.V6UDPV4)
	tunnel.MTU = 1300
	e.set(t, tunnel)
	for _, octets := range []int{1350, 1450} { // below and above the device's MTU
		t.Run(fmt.Sprint(octets), func(t *testing.T) {
			onOneCPU(t)
			const packets = 2048
			start := time.Now()
			answered := e.flood(t, sized(coreHost, tunnel.Endpoint, octets), packets)
			took := time.Since(start)
			// On a slow machine this may be more than all: who sends less than one in an interval is always answered.
			most := complaintBurst + int((took+complaintTick)/complaintInterval)
			t.Logf("%d of %d were answered in %v, at most %d may be", answered, packets, took, most)
			if answered > most {
				t.Error("too many were answered")
			}
			fits := sized(coreHost, tunnel.Endpoint, 1280)
			e.fromCore(fits)
			e.atClient(t, tunnel, fits)
		})
	}
}

// flood sends a packet above the MTU many times and gives how often the sender was told; the others must be dropped as too big. It
// sends in lots for which every queue on the way has room.
func (e *Env) flood(t *testing.T, packet ip6, packets int) (answered int) {
	t.Helper()
	const lot = 32
	before := e.drops(t)[datapath.TooBig].Packets
	for sent := lot; sent <= packets; sent += lot {
		for range lot {
			e.fromCore(packet)
		}
		eventually(t, func() string {
			for f, ok := e.core.receive(0); ok; f, ok = e.core.receive(0) {
				if p, err := parse6(f.payload); err == nil && isError(p, packetTooBig, packet) {
					answered++
				}
			}
			if dropped := int(e.drops(t)[datapath.TooBig].Packets - before); answered+dropped != sent {
				return fmt.Sprintf("of %d packets %d were answered and %d dropped", sent, answered, dropped)
			}
			return ""
		})
	}
	return answered
}

// hopLimit sends packets that must not go further: the sender is told, through his tunnel if he is behind one.
func hopLimit(t *testing.T, e *Env) {
	for _, encap := range encaps {
		for _, hops := range []byte{0, 1} {
			t.Run(fmt.Sprintf("%s %d", encap, hops), func(t *testing.T) {
				tunnel := e.tunnel(0, encap)
				e.set(t, tunnel)
				up := datagram(tunnel.Endpoint, coreHost, "too far")
				up.hops = hops
				e.fromClient(tunnel, up)
				await(t, e.client, "Time Exceeded through the tunnel", func(f frame) (ip6, bool) {
					_, p, ok := unwrap(tunnel, f)
					return p, ok && isError(p, timeExceeded, up)
				})
				down := datagram(coreHost, tunnel.Endpoint, "too far")
				down.hops = hops
				e.fromCore(down)
				await(t, e.core, "Time Exceeded", func(f frame) (ip6, bool) {
					p, err := parse6(f.payload)
					return p, err == nil && isError(p, timeExceeded, down)
				})
			})
		}
		t.Run(encap.String()+" 2", func(t *testing.T) {
			tunnel := e.tunnel(0, encap)
			e.set(t, tunnel)
			up, down := datagram(tunnel.Endpoint, coreHost, "just"), datagram(coreHost, tunnel.Endpoint, "just")
			up.hops, down.hops = 2, 2
			e.fromClient(tunnel, up)
			if got := e.atCore(t, up); got.hops != 1 {
				t.Errorf("%d hops left at the core, 1 expected", got.hops)
			}
			e.fromCore(down)
			if got := e.atClient(t, tunnel, down); got.inner.hops != 1 {
				t.Errorf("%d hops left at the client, 1 expected", got.inner.hops)
			}
		})
	}
	e.quiet(t)
}
