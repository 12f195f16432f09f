// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// tcpServer is all TCP connections of a Server. Each has a goroutine, which is why there are fewer of them than of UDP
// dialogues; it ends with the dialogue, the tunnel needs none.
type tcpServer struct {
	*Server
	listeners   []net.Listener
	connections sync.WaitGroup
	table       *table
	open        map[*tcpConn]struct{} // under table.mu
}

func newTCPServer(s *Server, listeners []net.Listener) *tcpServer {
	l := s.limits.Load()
	return &tcpServer{Server: s, listeners: listeners, open: map[*tcpConn]struct{}{}, table: newTable(l.Connections, l.PerSource, lifetimes(*l))}
}

// serve accepts connections until the listener is closed.
func (s *tcpServer) serve(ctx context.Context, listener net.Listener) error {
	pause := time.Millisecond
	for {
		conn, err := listener.Accept()
		switch {
		case err == nil:
			pause = time.Millisecond
			s.accept(ctx, conn)
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		default: // out of descriptors, or the peer is gone already: both pass
			s.log.Warn().Err(err).Stringer("local", listener.Addr()).Msg("TCP connection not accepted")
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, time.Second)
		}
	}
}

// tcpConn is one connection and its dialogue.
type tcpConn struct {
	dialogue
	entry
	tcp    *tcpServer
	conn   net.Conn
	buffer []byte // read and not yet taken
}

// evicted implements evictee: the goroutine then ends by itself.
func (c *tcpConn) evicted() { _ = c.conn.Close() }

// accept takes a connection in if there is room for it.
func (s *tcpServer) accept(ctx context.Context, conn net.Conn) {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	remote, ok2 := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		_ = conn.Close()
		return
	}
	c := &tcpConn{tcp: s, conn: conn, dialogue: dialogue{server: s.Server, peer: Peer{Local: unmap(local.AddrPort()),
		Remote: unmap(remote.AddrPort()), Network: "tcp"}}}
	now, src := s.now(), sourceOf(c.peer.Remote.Addr())
	if !s.limiter.allow(src, now) {
		s.metrics.drops.rate.Inc()
		_ = conn.Close()
		return
	}
	s.table.mu.Lock()
	result := s.table.add(&c.entry, src, c, now)
	if result <= addedByEviction {
		s.open[c] = struct{}{}
	}
	s.table.mu.Unlock()
	switch result {
	case added:
	case sourceFull:
		s.metrics.drops.source.Inc()
		_ = conn.Close()
		return
	case tableFull:
		s.metrics.drops.table.Inc()
		_ = conn.Close()
		return
	case addedByEviction:
		s.metrics.evicted.Inc()
	}
	s.connections.Go(func() { c.serve(ctx) })
}

// close ends all connections.
func (s *tcpServer) close() {
	for _, listener := range s.listeners {
		_ = listener.Close()
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	for c := range s.open {
		_ = c.conn.Close()
	}
}

// serve runs the dialogue and closes the connection.
func (c *tcpConn) serve(ctx context.Context) {
	defer func() {
		_ = c.conn.Close()
		c.tcp.table.mu.Lock()
		c.tcp.table.remove(&c.entry)
		delete(c.tcp.open, c)
		c.tcp.table.mu.Unlock()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		c.end(ending)
		cancel()
	}()
	_ = c.conn.SetDeadline(time.Now().Add(c.server.limits.Load().AuthTimeout)) // the kernel's clock, whatever ours is
	if c.hello() {
		c.talk(ctx)
	}
}

// hello answers lines until one names a mechanism; false if the connection is to be closed.
func (c *tcpConn) hello() bool {
	for range maxCommands {
		line, ok := c.line()
		if !ok {
			return false
		}
		line = bytes.TrimLeft(line, "\x00")
		if reply, end, ok := c.server.greeting(nil, &c.peer, line, noLimit); ok {
			if !c.write(reply) || end {
				return false
			}
			continue
		}
		mechanism, ok := parseAuthenticate(line)
		if !ok {
			c.write(c.server.status(nil, StatusBadRequest))
			return false
		}
		c.server.metrics.requests.authenticate.Inc()
		capability := c.server.backend.Capability(c.peer)
		if !slices.Contains(capability.Mechanisms, mechanism) {
			c.write(c.server.notOffered(nil, &c.peer, line))
			return false
		}
		if c.server.draining.Load() {
			c.write(c.server.status(nil, StatusBusy))
			return false
		}
		c.mechanism = mechanism
		challenge, err := c.begin(capability.Realm)
		if err != nil {
			c.server.log.Error().Err(err).Str("mechanism", string(mechanism)).Msg("mechanism is advertised and cannot be used")
			c.write(c.server.status(nil, StatusServerError))
			return false
		}
		return c.write(challenge)
	}
	return false
}

// talk runs the login and the command phase.
func (c *tcpConn) talk(ctx context.Context) {
	limits := c.server.limits.Load()
	ctx, cancel := context.WithTimeout(ctx, limits.AuthTimeout+limits.Timeout)
	defer cancel()
	for c.phase != phaseOver {
		var message []byte
		if c.credential == nil {
			var ok bool
			if message, ok = c.message(); !ok {
				return
			}
		}
		c.become(known)
		r := c.step(ctx, message)
		if !c.write(r.first) {
			return
		}
		if r.second == nil {
			continue
		}
		select { // the goroutine would only wait for the client meanwhile
		case <-time.After(apart):
		case <-ctx.Done():
			return
		}
		if !c.write(r.second) {
			return
		}
	}
}

// become gives the connection a better standing, and the time that goes with it.
func (c *tcpConn) become(to standing) {
	c.tcp.table.mu.Lock()
	defer c.tcp.table.mu.Unlock()
	if c.standing != to {
		c.tcp.table.move(&c.entry, to, c.server.now())
		_ = c.conn.SetDeadline(time.Now().Add(c.server.limits.Load().Timeout))
	}
}

// write sends one message in one piece.
func (c *tcpConn) write(message []byte) bool {
	if len(message) == 0 {
		return true
	}
	_, err := c.conn.Write(message)
	return err == nil
}

// message reads what belongs in this phase: a line, or a frame with its Content-length. A frame that cannot be read is answered, and ends the
// connection, since nobody knows where the next one would start.
func (c *tcpConn) message() ([]byte, bool) {
	if c.phase == phaseLogin {
		return c.line()
	}
	for {
		_, rest, err := parseFrame(c.buffer, maxBody)
		if err == nil {
			frame := c.buffer[:len(c.buffer)-len(rest)]
			c.buffer = rest
			return frame, c.allowed()
		}
		if !errors.Is(err, errShort) {
			c.write(c.fail(badRequest(fmt.Errorf("frame: %w", err))))
			return nil, false
		}
		if !c.read(maxMessage) {
			return nil, false
		}
	}
}

// line reads one line, without its end. Empty ones mean nothing here: some clients end a line twice.
func (c *tcpConn) line() ([]byte, bool) {
	for {
		if line, rest, ok := cutLine(c.buffer); ok {
			c.buffer = rest
			if allowed := c.allowed(); !allowed || len(bytes.Trim(line, "\x00\r")) > 0 {
				return line, allowed
			}
			continue
		}
		if !c.read(maxLine) {
			return nil, false
		}
	}
}

// read waits for more; false if the connection is over, too slow, or has sent limit octets that make no message.
func (c *tcpConn) read(limit int) bool {
	if len(c.buffer) >= limit {
		c.server.metrics.drops.malformed.Inc()
		return false
	}
	c.buffer = slices.Grow(c.buffer, 512)
	n, err := c.conn.Read(c.buffer[len(c.buffer):cap(c.buffer)])
	c.buffer = c.buffer[:len(c.buffer)+n]
	return n > 0 || err == nil
}

// allowed charges the source for one message.
func (c *tcpConn) allowed() bool {
	if c.server.limiter.allow(c.source, c.server.now()) {
		return true
	}
	c.server.metrics.drops.rate.Inc()
	return false
}
