// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"ddtb/tsp/mmsg"
)

// ipUDP is what IPv4 and UDP add to a datagram: counted where a reply's size on the wire is held against the request's.
const ipUDP = 28

// amplification is how many times larger than the request a reply to a stranger may be on the wire.
const amplification = 3

// room is how much TSP data a reply to a stranger's datagram of size octets may have.
func room(size int) int { return amplification*(size+ipUDP) - ipUDP - headerLen }

// udpServer is all UDP dialogues of a Server.
type udpServer struct {
	*Server
	table     *table
	dialogues map[endpoints]*udpDialogue // under table.mu
	answered  *answered                  // those that are over, under table.mu
	statuses  map[string]*said           // replies that many dialogues end with
	jobs      chan job
	forgeable chan job     // what anybody could have sent under a forged address
	inflight  atomic.Int64 // jobs queued or in work, and answers on their way to the socket
}

// job is work for the pool: a message to answer, or a dialogue to end.
type job struct {
	dialogue *udpDialogue
	message  []byte
	end      bool
}

func newUDPServer(s *Server) *udpServer {
	l := s.limits.Load()
	u := &udpServer{Server: s, dialogues: map[endpoints]*udpDialogue{}, answered: newAnswered(l.Dialogues, s.now()), statuses: map[string]*said{},
		jobs: make(chan job, l.Queue), forgeable: make(chan job, l.Queue), table: newTable(l.Dialogues, l.PerSource, lifetimes(*l))}
	for code := range s.metrics.replies {
		line := appendStatus(nil, code, code.String())
		for _, answer := range [][]byte{line, appendFrame(nil, line)} {
			u.statuses[string(answer)] = &said{answer: answer}
		}
	}
	return u
}

// bound puts other limits in force.
func (s *udpServer) bound(l Limits) {
	s.table.bound(l.Dialogues, l.PerSource, lifetimes(l))
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.answered.bound(l.Dialogues)
}

// Datagrams are read, and written, so many at a time. What is read may be a whole IPv6 packet that the kernel put together.
const (
	batch      = 32
	largest    = 65536
	outboxSize = 4096
)

// udpSocket is one of the Server's sockets.
type udpSocket struct {
	server *Server
	conn   *net.UDPConn
	local  netip.AddrPort
	reader *mmsg.Reader
	writer *mmsg.Writer // of the goroutine that reads
	outbox *outbox
}

func newUDPSocket(s *Server, conn *net.UDPConn) (*udpSocket, error) {
	reader, err := mmsg.NewReader(conn, batch, largest)
	if err != nil {
		return nil, err
	}
	address, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("udp socket on %v is not bound", conn.LocalAddr())
	}
	u := &udpSocket{server: s, conn: conn, local: unmap(address.AddrPort()), reader: reader}
	if u.writer, err = mmsg.NewWriter(conn, batch); err != nil {
		return nil, err
	}
	if u.outbox, err = newOutbox(u); err != nil {
		return nil, err
	}
	return u, nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// serve reads datagrams until the socket is closed, and sends what can be answered at once.
func (u *udpSocket) serve() error {
	scratch := make([]byte, batch*2*maxDatagram)
	answers := make([]mmsg.Message, 0, batch)
	for {
		messages, err := u.reader.Read()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", u.local, err)
		}
		answers = answers[:0]
		for i, m := range messages {
			local := u.local
			if local.Addr().IsUnspecified() {
				if !m.Local.IsValid() {
					u.server.metrics.drops.malformed.Inc()
					continue
				}
				local = netip.AddrPortFrom(m.Local, local.Port())
			}
			space := scratch[i*2*maxDatagram : i*2*maxDatagram : (i+1)*2*maxDatagram]
			if answer := u.server.udp.datagram(u, local, unmap(m.Remote), m.Data, space); len(answer) > 0 {
				answers = append(answers, mmsg.Message{Data: answer, Remote: m.Remote, Local: m.Local})
			}
		}
		u.write(u.writer, answers)
	}
}

// write sends datagrams. What cannot be sent is lost, as datagrams may be.
func (u *udpSocket) write(w *mmsg.Writer, datagrams []mmsg.Message) {
	if err := w.Write(datagrams); err != nil {
		u.server.log.Debug().Err(err).Stringer("local", u.local).Msg("a datagram was not sent")
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
	return s.fitDatagram(s.authenticate(u, peer, mechanism, h, data, answer, now), len(b))
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
