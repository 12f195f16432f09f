// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// maxPolls bounds how often a client asks for the rest of one reply.
const maxPolls = 8

// udpTransport is a dialogue over datagrams: each message is repeated until it is answered (RFC 5572 section 4.4.1.2, by the
// algorithm of Stevens, UNIX Network Programming 3rd ed. section 22.5).
type udpTransport struct {
	client   *Client
	socket   net.Conn
	epoch    time.Time // timestamps count from here
	sequence uint32
	buffer   []byte
	out      []byte
	data     []byte        // of the last answer, not yet read
	answered bool          // the server is there
	probe    int           // times a VERSION is sent at most, MinRTO apart; 0: like any other message
	sent     time.Time     // the newest copy of the message
	rtt      time.Duration // of the last exchange
	srtt     time.Duration
	rttvar   time.Duration
	rto      time.Duration
}

// newUDPTransport starts at a sequence nobody can guess, so that nobody off the path can answer in the server's place.
func newUDPTransport(c *Client, socket net.Conn) (*udpTransport, error) {
	var first [4]byte
	if _, err := io.ReadFull(c.Rand, first[:]); err != nil {
		return nil, fmt.Errorf("first sequence: %w", err)
	}
	return &udpTransport{client: c, socket: socket, epoch: c.Now(), rto: c.MinRTO, sequence: binary.BigEndian.Uint32(first[:]) & sequenceMask,
		buffer: make([]byte, headerLen+maxDatagram)}, nil
}

func (t *udpTransport) ask(ctx context.Context, message []byte) (err error) {
	t.data, err = t.exchange(ctx, message)
	return err
}

func (t *udpTransport) waiting() bool { return len(t.data) > 0 }

func (t *udpTransport) text(ctx context.Context) ([]byte, error) {
	if err := t.poll(ctx); err != nil {
		return nil, err
	}
	data := t.data
	t.data = nil
	return data, nil
}

// poll asks until there is something.
func (t *udpTransport) poll(ctx context.Context) error {
	for range maxPolls {
		if len(t.data) > 0 {
			return nil
		}
		if err := t.ask(ctx, nil); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: nothing but headers", ErrProtocol)
}

func (t *udpTransport) frame(ctx context.Context, last bool) ([]byte, error) {
	if last && !t.waiting() {
		return nil, nil
	}
	var whole []byte
	for range maxPolls {
		if err := t.poll(ctx); err != nil {
			return nil, err
		}
		whole = append(whole, t.data...)
		t.data = nil
		body, _, err := parseFrame(whole, maxReply)
		switch {
		case err == nil:
			return body, nil
		case !errors.Is(err, errShort) || len(whole) > maxReply:
			return unframed(whole, err)
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrProtocol, errShort)
}

// unframed takes a status line without Content-length for an answer.
func unframed(b []byte, framing error) ([]byte, error) {
	if _, _, _, err := parseStatus(b); err != nil {
		return nil, fmt.Errorf("%w: %w in %.40q", ErrProtocol, framing, b)
	}
	return b, nil
}

// exchange sends one message until it is answered and gives the answer's data, which stays good until the next exchange.
func (t *udpTransport) exchange(ctx context.Context, message []byte) ([]byte, error) {
	t.sequence = (t.sequence + 1) & sequenceMask
	t.rtt = 0
	tries := t.client.Tries
	if t.probe > 0 {
		tries = t.probe
	}
	for range tries {
		t.sent = t.client.Now()
		h := header{sequence: t.sequence, timestamp: t.clock(t.sent)}
		t.out = append(h.append(t.out[:0]), message...)
		if _, err := t.socket.Write(t.out); err != nil && t.fatal(err) {
			return nil, err
		}
		data, err := t.await(ctx)
		if err == nil {
			t.answered, t.probe = true, 0
			return data, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		if t.probe == 0 {
			t.rto = min(2*t.rto, t.client.MaxRTO)
		}
	}
	return nil, fmt.Errorf("%w: sent %d times", ErrTimeout, tries)
}

// await reads until the answer comes or the retransmission timeout is over.
func (t *udpTransport) await(ctx context.Context) ([]byte, error) {
	if err := t.socket.SetReadDeadline(time.Now().Add(t.rto)); err != nil { // the kernel's clock, whatever ours is
		return nil, err
	}
	for {
		if ctx.Err() != nil { // the deadline just set may have replaced the one that ends the wait
			return nil, ctx.Err()
		}
		n, err := t.socket.Read(t.buffer)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if errors.Is(err, os.ErrDeadlineExceeded) || t.fatal(err) {
				return nil, err
			}
			continue
		}
		h, data, ok := parseHeader(t.buffer[:n])
		if !ok || h.sequence != t.sequence {
			continue // a tunnel's packet, or the answer to an earlier message
		}
		t.measured(h.timestamp, t.client.Now())
		return data, nil
	}
}

// fatal tells whether waiting is useless. A server that refuses was never there; one that did answer may be restarting.
func (t *udpTransport) fatal(err error) bool {
	return !errors.Is(err, syscall.ECONNREFUSED) || !t.answered
}

// clock is the timestamp of a time, milliseconds.
func (t *udpTransport) clock(at time.Time) uint32 { return uint32(at.Sub(t.epoch).Milliseconds()) }

// measured smooths the round-trip time (Jacobson). The echoed timestamp tells which copy was answered, so every sample counts.
func (t *udpTransport) measured(timestamp uint32, now time.Time) {
	if t.rtt = now.Sub(t.sent); timestamp != t.clock(t.sent) {
		t.rtt = time.Duration(t.clock(now)-timestamp) * time.Millisecond
	}
	if t.rtt > time.Minute {
		return // not a timestamp of ours
	}
	delta := t.rtt - t.srtt
	t.srtt += delta / 8
	t.rttvar += (delta.Abs() - t.rttvar) / 4
	t.rto = min(max(t.srtt+4*t.rttvar, t.client.MinRTO), t.client.MaxRTO)
}

// tcpTransport is a dialogue over a stream.
type tcpTransport struct {
	socket net.Conn
	buffer []byte // read and not yet taken
}

// grace is how long a client waits for the answer to accept, which not every server gives over TCP.
const grace = 2 * time.Second

func (t *tcpTransport) ask(ctx context.Context, message []byte) error {
	_, err := t.socket.Write(message)
	return t.cause(ctx, err)
}

func (t *tcpTransport) waiting() bool { return false }

func (t *tcpTransport) text(ctx context.Context) ([]byte, error) {
	for {
		line, rest, ok := cutLine(t.buffer)
		if !ok {
			if err := t.read(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if code, _, _, err := parseStatus(line); err == nil && code >= brokerListFollows {
			return t.list(ctx)
		}
		t.buffer = rest
		return line, nil
	}
}

// list reads a status with its list of brokers, which nothing but its own end delimits.
func (t *tcpTransport) list(ctx context.Context) ([]byte, error) {
	const end = "</tunnel>"
	for {
		if i := bytes.Index(t.buffer, []byte(end)); i >= 0 {
			list := t.buffer[:i+len(end)]
			t.buffer = t.buffer[i+len(end):]
			return list, nil
		}
		if err := t.read(ctx); err != nil {
			return nil, err
		}
	}
}

func (t *tcpTransport) frame(ctx context.Context, last bool) ([]byte, error) {
	if last {
		if err := t.socket.SetReadDeadline(time.Now().Add(grace)); err != nil {
			return nil, err
		}
	}
	for {
		body, rest, err := parseFrame(t.buffer, maxReply)
		if err == nil {
			t.buffer = rest
			return body, nil
		}
		if !errors.Is(err, errShort) {
			return unframed(t.buffer, err)
		}
		err = t.read(ctx)
		if last && len(t.buffer) == 0 && ctx.Err() == nil && err != nil {
			return nil, nil // silence, or the end of the stream
		}
		if err != nil {
			return nil, err
		}
	}
}

// read waits for more.
func (t *tcpTransport) read(ctx context.Context) error {
	if len(t.buffer) > maxReply+maxLengthLine {
		return fmt.Errorf("%w: a message of more than %d octets", ErrProtocol, maxReply)
	}
	chunk := make([]byte, maxDatagram)
	n, err := t.socket.Read(chunk)
	t.buffer = append(t.buffer, chunk[:n]...)
	if n > 0 {
		return nil
	}
	return t.cause(ctx, err)
}

// cause says why a socket failed.
func (t *tcpTransport) cause(ctx context.Context, err error) error {
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimeout
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the server closed the connection", ErrProtocol)
	}
	return err
}
