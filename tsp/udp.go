// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// ipUDP is what IPv4 and UDP add to a datagram: counted where a reply's size on the wire is held against the request's.
const ipUDP = 28

// amplification is how many times larger than the request a reply to a stranger may be on the wire.
const amplification = 3

// room is how much TSP data a reply to a stranger's datagram of size octets may have.
func room(size int) int { return amplification*(size+ipUDP) - ipUDP - headerLen }

// retransmission is how long a client repeats a request that was answered: 8 times in 66 s.
const retransmission = 66 * time.Second

// udpServer is all UDP dialogues of a Server.
type udpServer struct {
	*Server
	table     *table
	dialogues map[endpoints]*udpDialogue // under table.mu
	jobs      chan job
	inflight  atomic.Int64 // jobs queued or in work
}

// job is work for the pool: a message to answer, or a dialogue to end.
type job struct {
	dialogue *udpDialogue
	message  []byte
	end      bool
}

func newUDPServer(s *Server) *udpServer {
	l := s.limits
	return &udpServer{Server: s, dialogues: map[endpoints]*udpDialogue{}, jobs: make(chan job, l.Queue),
		table: newTable(l.Dialogues, l.PerSource, [standings]time.Duration{over: retransmission, stranger: l.AuthTimeout, known: l.Timeout})}
}

// udpSocket is one of the Server's sockets.
type udpSocket struct {
	server   *Server
	conn     *net.UDPConn
	local    netip.AddrPort
	wildcard bool
}

func newUDPSocket(s *Server, conn *net.UDPConn) (*udpSocket, error) {
	address, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("udp socket on %v is not bound", conn.LocalAddr())
	}
	local := address.AddrPort()
	u := &udpSocket{server: s, conn: conn, local: unmap(local), wildcard: local.Addr().IsUnspecified()}
	if u.wildcard {
		if err := receiveDestination(conn); err != nil {
			return nil, err
		}
	}
	return u, nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// serve reads datagrams until the socket is closed.
func (u *udpSocket) serve() error {
	buffer, scratch, oob := make([]byte, 65536), make([]byte, 0, 2*maxDatagram), make([]byte, oobSize)
	for {
		n, oobn, _, remote, err := u.conn.ReadMsgUDPAddrPort(buffer, oob)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", u.local, err)
		}
		local := u.local
		if u.wildcard {
			addr, ok := destination(oob[:oobn])
			if !ok {
				u.server.metrics.drops.malformed.Inc()
				continue
			}
			local = netip.AddrPortFrom(addr, local.Port())
		}
		if answer := u.server.udp.datagram(u, local, unmap(remote), buffer[:n], scratch); len(answer) > 0 {
			u.send(local, remote, answer)
		}
	}
}

// send writes one datagram, from the address the client spoke to. What cannot be sent is lost, as datagrams may be.
func (u *udpSocket) send(local, remote netip.AddrPort, datagram []byte) {
	var err error
	if u.wildcard {
		_, _, err = u.conn.WriteMsgUDPAddrPort(datagram, sendFrom(local.Addr()), remote)
	} else {
		_, err = u.conn.WriteToUDPAddrPort(datagram, remote)
	}
	if err != nil {
		u.server.log.Debug().Err(err).Stringer("remote", remote).Msg("datagram not sent")
	}
}

// datagram takes one datagram and gives the answer that can be given at once, in scratch or in memory that is not written again;
// empty if there is none or it follows later. Nothing is allocated before a valid AUTHENTICATE.
func (s *udpServer) datagram(u *udpSocket, local, remote netip.AddrPort, b, scratch []byte) []byte {
	if len(b) > 0 && b[0]>>4 == nibbleIPv6 {
		s.injected(local, remote, b)
		return nil
	}
	h, data, ok := parseHeader(b)
	if !ok {
		s.metrics.drops.malformed.Inc()
		return nil
	}
	now, src := s.now(), sourceOf(remote.Addr())
	if !s.limiter.allow(src, now) {
		s.metrics.drops.rate.Inc()
		return nil
	}
	answer := h.append(scratch[:0])
	peer := Peer{Local: local, Remote: remote, Network: "udp"}
	if answer, _, ok := s.greeting(answer, &peer, data, room(len(b))); ok {
		if peer.Version != "" {
			s.restart(endpointsOf(local, remote), h)
		}
		if len(answer) == headerLen {
			return nil
		}
		return answer
	}
	mechanism, ok := parseAuthenticate(data)
	if !ok {
		return s.proceed(endpointsOf(local, remote), h, data, answer, now)
	}
	return s.fitDatagram(s.authenticate(u, peer, mechanism, h, answer, now), len(b))
}

// fitDatagram drops an answer that is too large for a stranger's datagram of size octets.
func (s *udpServer) fitDatagram(answer []byte, size int) []byte {
	if len(answer) > headerLen+room(size) {
		s.metrics.drops.size.Inc()
		return nil
	}
	return answer
}

// injected hands on a tunnel packet.
func (s *udpServer) injected(local, remote netip.AddrPort, packet []byte) {
	if s.innerHook == nil {
		s.metrics.drops.inner.Inc()
		return
	}
	s.metrics.inner.Inc()
	s.innerHook(local, remote, packet)
}
