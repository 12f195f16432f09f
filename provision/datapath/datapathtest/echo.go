// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

func ping(from, to netip.Addr, body []byte) ip6 {
	return ip6{from: from, to: to, hops: 64, next: unix.IPPROTO_ICMPV6, payload: icmp6(from, to, echoRequest, 0, 0x12340001, body)}
}

// isReply tells whether a packet is the answer to an echo request, its body to the octet.
func isReply(p, request ip6) bool {
	return p.next == unix.IPPROTO_ICMPV6 && p.from == request.to && p.to == request.from && goodICMP(p) &&
		p.payload[0] == echoReply && p.payload[1] == 0 && bytes.Equal(p.payload[4:], request.payload[4:])
}

// echo sends keepalives: the server's address answers (RFC 5572 section 4.5.4), to the tunnel and to the core.
func echo(t *testing.T, e *Env) {
	for _, encap := range encaps {
		tunnel := e.tunnel(0, encap)
		for name, from := range map[string]netip.Addr{"endpoint": tunnel.Endpoint, "prefix": tunnel.Prefix.Addr().Next()} {
			for _, size := range []int{0, 1, 16, 56, 1000, mtu - ipv6Header - icmpHeader} {
				t.Run(fmt.Sprintf("%s %s %d", encap, name, size), func(t *testing.T) {
					tunnel.Session++ // so that it starts from zero
					e.set(t, tunnel)
					body := make([]byte, size)
					for n := range body {
						body[n] = byte(n * 7)
					}
					request := ping(from, tunnelServer, body)
					e.fromClient(tunnel, request)
					reply := await(t, e.client, "echo reply", func(f frame) (arrival, bool) {
						outer, inner, ok := unwrap(tunnel, f)
						return arrival{outer, inner}, ok && isReply(inner, request)
					})
					if reply.inner.hops != 64 || reply.outer.ttl != 64 || reply.inner.excess != 0 {
						t.Errorf("reply: %+v", reply)
					}
					n := uint64(len(request.bytes()))
					e.counts(t, tunnel.ID, datapath.Counters{RxPackets: 1, RxBytes: n, TxPackets: 1, TxBytes: n})
				})
			}
		}
	}
	t.Run("core", func(t *testing.T) {
		request := ping(coreHost, tunnelServer, []byte("from outside"))
		e.fromCore(request)
		await(t, e.core, "echo reply", func(f frame) (ip6, bool) {
			p, err := parse6(f.payload)
			return p, err == nil && isReply(p, request)
		})
	})
	t.Run("forged", func(t *testing.T) {
		tunnel := e.tunnel(0, datapath.V6UDPV4)
		e.set(t, tunnel)
		p := wrap(tunnel, ping(tunnel.Endpoint, tunnelServer, make([]byte, 16)).bytes())
		p.from = netip.MustParseAddr("203.0.113.251")
		e.refused(t, datapath.OuterSource, func() { e.client.send(unix.ETH_P_IP, p.bytes()) })
		e.quiet(t)
	})
	t.Run("wrong checksum", func(t *testing.T) {
		tunnel := e.tunnel(0, datapath.V6UDPV4)
		e.set(t, tunnel)
		request := ping(tunnel.Endpoint, tunnelServer, make([]byte, 16))
		request.payload[9]++
		e.fromClient(tunnel, request)
		// Whoever answers must not make a good reply of a bad request.
		good := ping(tunnel.Endpoint, tunnelServer, []byte("good"))
		e.fromClient(tunnel, good)
		await(t, e.client, "echo reply", func(f frame) (ip6, bool) {
			_, inner, ok := unwrap(tunnel, f)
			if ok && len(inner.payload) == icmpHeader+16 && goodICMP(inner) {
				t.Error("a request with a wrong checksum got a reply with a right one")
			}
			return inner, ok && isReply(inner, good)
		})
	})
}

// own lets the server itself speak with a client.
func own(t *testing.T, e *Env) {
	tunnel := e.tunnel(0, datapath.V6UDPV4)
	e.set(t, tunnel)
	socket := e.udp6(t)
	defer socket.Close()
	up := ip6{from: tunnel.Endpoint, to: tunnelServer, hops: 64, next: unix.IPPROTO_UDP}
	up.payload = summed(tunnel.Endpoint, tunnelServer, 1234, innerPort, []byte("question"))
	e.fromClient(tunnel, up)
	buffer := make([]byte, 100)
	n, peer, err := socket.ReadFrom(buffer)
	if err != nil || string(buffer[:n]) != "question" {
		t.Fatalf("%q, %v", buffer[:n], err)
	}
	if _, err := socket.WriteTo([]byte("answer"), peer); err != nil {
		t.Fatal(err)
	}
	await(t, e.client, "answer", func(f frame) (ip6, bool) {
		_, p, ok := unwrap(tunnel, f)
		return p, ok && p.from == tunnelServer && p.next == unix.IPPROTO_UDP && bytes.HasSuffix(p.payload, []byte("answer")) &&
			checksum(pseudo(p.from, p.to, len(p.payload), unix.IPPROTO_UDP), p.payload) == 0
	})
}

// hairpin sends from one client to another.
func hairpin(t *testing.T, e *Env) {
	for _, encap := range encaps {
		a, b := e.tunnel(0, encap), e.tunnel(1, datapath.V6UDPV4)
		t.Run(encap.String(), func(t *testing.T) {
			e.set(t, a, b)
			there := datagram(a.Endpoint, b.Prefix.Addr().Next(), "hello neighbour")
			e.fromClient(a, there)
			if got := e.atClient(t, b, there); got.inner.hops != there.hops-1 {
				t.Errorf("%d hops left, %d expected", got.inner.hops, there.hops-1)
			}
			back := datagram(b.Prefix.Addr().Next(), a.Endpoint, "hello too")
			e.fromClient(b, back)
			e.atClient(t, a, back)
			size := uint64(len(there.bytes()))
			e.counts(t, a.ID, datapath.Counters{RxPackets: 1, RxBytes: size, TxPackets: 1, TxBytes: uint64(len(back.bytes()))})
		})
	}
}
