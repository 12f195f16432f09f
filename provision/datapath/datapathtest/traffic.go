// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// innerPort is the destination of the inner datagrams.
const innerPort = 5678

// datagram is an inner UDP packet.
func datagram(from, to netip.Addr, payload string) ip6 {
	return ip6{from: from, to: to, hops: 64, next: unix.IPPROTO_UDP, payload: udp(1234, innerPort, []byte(payload))}
}

// wrap is an inner packet as the client of a tunnel sends it.
func wrap(t datapath.Tunnel, inner []byte) ip4 {
	p := ip4{from: t.Remote.Addr(), to: t.Local.Addr(), ttl: 60, id: 7, fragment: 0x4000, protocol: unix.IPPROTO_IPV6, payload: inner}
	if t.Encap == datapath.V6UDPV4 {
		p.protocol, p.payload = unix.IPPROTO_UDP, udp(t.Remote.Port(), t.Local.Port(), inner)
	}
	return p
}

// unwrap tells whether a frame is for the client of a tunnel, and gives outer and inner packet.
func unwrap(t datapath.Tunnel, f frame) (outer ip4, inner ip6, ok bool) {
	if f.protocol != unix.ETH_P_IP {
		return outer, inner, false
	}
	outer, err := parse4(f.payload)
	if err != nil || outer.from != t.Local.Addr() || outer.to != t.Remote.Addr() {
		return outer, inner, false
	}
	packet := outer.payload
	if t.Encap == datapath.V6UDPV4 {
		if outer.protocol != unix.IPPROTO_UDP || len(packet) < udpHeader || be.Uint16(packet) != t.Local.Port() ||
			be.Uint16(packet[2:]) != t.Remote.Port() || int(be.Uint16(packet[4:])) != len(packet) {
			return outer, inner, false
		}
		packet = packet[udpHeader:]
	} else if outer.protocol != unix.IPPROTO_IPV6 {
		return outer, inner, false
	}
	inner, err = parse6(packet)
	return outer, inner, err == nil
}

// arrival is what came out at a client.
type arrival struct {
	outer ip4
	inner ip6
}

// atClient awaits an inner packet with these addresses and this payload.
func (e *Env) atClient(t *testing.T, tunnel datapath.Tunnel, sent ip6) arrival {
	t.Helper()
	return await(t, e.client, fmt.Sprintf("%s to %s", sent.from, sent.to), func(f frame) (arrival, bool) {
		outer, inner, ok := unwrap(tunnel, f)
		return arrival{outer, inner}, ok && same(inner, sent)
	})
}

// atCore awaits the same behind the server.
func (e *Env) atCore(t *testing.T, sent ip6) ip6 {
	t.Helper()
	return await(t, e.core, fmt.Sprintf("%s to %s", sent.from, sent.to), func(f frame) (ip6, bool) {
		if f.protocol != unix.ETH_P_IPV6 {
			return ip6{}, false
		}
		p, err := parse6(f.payload)
		return p, err == nil && same(p, sent)
	})
}

func same(p, sent ip6) bool {
	return p.from == sent.from && p.to == sent.to && p.next == sent.next && bytes.Equal(p.payload, sent.payload)
}

// fromClient sends an inner packet through a tunnel, fromCore a native one to the server.
func (e *Env) fromClient(tunnel datapath.Tunnel, inner ip6) {
	e.client.send(unix.ETH_P_IP, wrap(tunnel, inner.bytes()).bytes())
}

func (e *Env) fromCore(p ip6) { e.core.send(unix.ETH_P_IPV6, p.bytes()) }

// drops are the counts by reason.
func (e *Env) drops(t *testing.T) map[datapath.Reason]datapath.Drop {
	t.Helper()
	reporter, ok := e.dp.(datapath.DropReporter)
	if !ok {
		t.Fatalf("%T does not tell what it drops", e.dp)
	}
	all, err := reporter.Drops(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	byReason := map[datapath.Reason]datapath.Drop{}
	for _, drop := range all {
		byReason[drop.Reason] = drop
	}
	return byReason
}

// explain logs, if the test has failed, what the driver has dropped and what the kernel's IPv6 has counted.
func (e *Env) explain(t *testing.T) {
	t.Helper()
	if !t.Failed() {
		return
	}
	e.server.do(func() {
		counters, err := os.ReadFile("/proc/thread-self/net/snmp6")
		t.Logf("dropped: %v; counted (%v):\n%s", e.drops(t), err, counters)
	})
}

// tunnelDrops are the counts of single tunnels; in the keys they are 0. A driver that does not tell has none.
func (e *Env) tunnelDrops(t *testing.T) map[datapath.TunnelDrop]uint64 {
	t.Helper()
	counts := map[datapath.TunnelDrop]uint64{}
	reporter, ok := e.dp.(datapath.TunnelDropReporter)
	if !ok {
		return counts
	}
	for drop, err := range reporter.TunnelDrops(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		packets := drop.Packets
		drop.Packets = 0
		counts[drop] = packets
	}
	return counts
}

// tells whether the driver tells what it drops by tunnel.
func (e *Env) tells() bool {
	_, ok := e.dp.(datapath.TunnelDropReporter)
	return ok
}

// tallied are the drops of a tunnel for a reason.
func (e *Env) tallied(t *testing.T, id uint32, reason datapath.Reason) uint64 {
	t.Helper()
	return e.tunnelDrops(t)[datapath.TunnelDrop{Tunnel: id, Reason: reason}]
}

// refused does something and awaits that one packet is dropped for a reason, and none for another; if it can be told
// which tunnel it was for, that is known too.
func (e *Env) refused(t *testing.T, reason datapath.Reason, do func()) datapath.Drop {
	t.Helper()
	before, tunnels := e.drops(t), e.tunnelDrops(t)
	do()
	var now map[datapath.Reason]datapath.Drop
	eventually(t, func() string {
		now = e.drops(t)
		if now[reason].Packets == before[reason].Packets+1 {
			return ""
		}
		return fmt.Sprintf("%s: %d drops more, 1 expected; all: %v", reason, now[reason].Packets-before[reason].Packets, now)
	})
	for other, drop := range now {
		if other != reason && drop.Packets != before[other].Packets {
			t.Errorf("dropped as %s, not only as %s: %+v", other, reason, drop)
		}
	}
	if id := now[reason].Tunnel; id != 0 && e.tells() {
		tunnels[datapath.TunnelDrop{Tunnel: id, Reason: reason}]++
	}
	if diff := cmp.Diff(tunnels, e.tunnelDrops(t)); diff != "" {
		t.Errorf("drops by tunnel: %s", diff)
	}
	return now[reason]
}

// counts are awaited, since a packet may arrive before the programs are done with it.
func (e *Env) counts(t *testing.T, id uint32, want datapath.Counters) {
	t.Helper()
	eventually(t, func() string { return cmp.Diff(want, e.state(t, id).Counters) })
}
