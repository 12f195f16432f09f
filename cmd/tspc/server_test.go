// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/cmd/tspc/agent"
	"ddtb/tsp"
	"ddtb/tsp/tsptest"
)

// server is a TSP server and the other end of its tunnels, which answers echo requests to any address.
type server struct {
	*tsptest.Backend
	address netip.Addr
	udp     *net.UDPConn
	raw     *net.IPConn
	stop    func()

	mutex   sync.Mutex
	deaf    bool
	senders map[netip.AddrPort]int // inner packets by outer source; port 0 is protocol 41
	inner   map[netip.Addr]int     // inner packets by inner source
	replies []uint16               // identifiers of echo replies
}

// serve starts a server at 192.0.2.n.
func (l *lab) serve(n byte, change func(*tsptest.Backend)) *server {
	l.t.Helper()
	s := &server{
		Backend: tsptest.NewBackend(), address: netip.AddrFrom4([4]byte{192, 0, 2, n}),
		senders: map[netip.AddrPort]int{}, inner: map[netip.Addr]int{},
	}
	s.Offer.ServerIPv4, s.Offer.MTU = s.address, 1400
	s.Prefix = netip.MustParsePrefix("2001:db8:1234::/56")
	if change != nil {
		change(s.Backend)
	}
	config := tsp.ServerConfig{Backend: s.Backend, Inner: s.take, Limits: tsp.Limits{Drain: 10 * time.Millisecond}}
	at := netip.AddrPortFrom(s.address, agent.DefaultPort)
	l.inside("server", func() {
		udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err != nil {
			l.t.Error(err)
			return
		}
		tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
		if err != nil {
			l.t.Error(err)
			return
		}
		s.raw, err = net.ListenIP("ip4:41", &net.IPAddr{IP: s.address.AsSlice()})
		if err != nil {
			l.t.Error(err)
			return
		}
		s.udp, config.UDP, config.TCP = udp, []*net.UDPConn{udp}, []net.Listener{tcp}
	})
	if l.t.Failed() {
		l.t.FailNow()
	}
	running, err := tsp.NewServer(config)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := running.Run(ctx); err != nil {
			l.t.Errorf("server: %v", err)
		}
	})
	all.Go(s.takeRaw)
	s.stop = sync.OnceFunc(func() {
		cancel()
		_ = s.raw.Close()
		all.Wait()
	})
	l.t.Cleanup(s.stop)
	<-running.Ready()
	return s
}

// take takes a packet of a v6udpv4 tunnel.
func (s *server) take(_, remote netip.AddrPort, packet []byte) {
	if answer := s.answer(remote, packet); answer != nil {
		_, _ = s.udp.WriteToUDPAddrPort(answer, remote)
	}
}

// takeRaw takes the packets of v6v4 tunnels.
func (s *server) takeRaw() {
	buf := make([]byte, 2000)
	for {
		n, from, err := s.raw.ReadFromIP(buf)
		if err != nil {
			return
		}
		remote, _ := netip.AddrFromSlice(from.IP)
		if answer := s.answer(netip.AddrPortFrom(remote.Unmap(), 0), buf[:n]); answer != nil {
			_, _ = s.raw.WriteToIP(answer, from)
		}
	}
}

// answer counts an inner packet and answers an echo request.
func (s *server) answer(remote netip.AddrPort, packet []byte) []byte {
	if len(packet) < 48 {
		return nil
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.senders[remote]++
	s.inner[netip.AddrFrom16([16]byte(packet[8:24]))]++
	if packet[6] == unix.IPPROTO_ICMPV6 && packet[40] == 129 {
		s.replies = append(s.replies, uint16(packet[44])<<8|uint16(packet[45]))
	}
	if s.deaf || packet[6] != unix.IPPROTO_ICMPV6 || packet[40] != 128 {
		return nil
	}
	answer := bytes.Clone(packet)
	copy(answer[8:24], packet[24:40])
	copy(answer[24:40], packet[8:24])
	answer[7], answer[40] = 64, 129
	// Addresses change places, which the sum does not see; the type is one more in the upper octet (RFC 1624).
	sum := uint32(^(uint16(packet[42])<<8 | uint16(packet[43]))) + 0x100
	sum = ^(sum&0xFFFF + sum>>16)
	answer[42], answer[43] = byte(sum>>8), byte(sum)
	return answer
}

// listen makes the tunnel end answer or not.
func (s *server) listen(yes bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.deaf = !yes
}

// seen gives the outer and inner sources of packets so far.
func (s *server) seen() (senders []netip.AddrPort, inner []netip.Addr) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for sender := range s.senders {
		senders = append(senders, sender)
	}
	for source := range s.inner {
		inner = append(inner, source)
	}
	return senders, inner
}

// answered gives the identifiers of echo replies so far.
func (s *server) answered() []uint16 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.replies)
}
