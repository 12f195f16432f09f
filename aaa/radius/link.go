// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"layeh.com/radius"
)

// identifiers is how many requests can be outstanding on one link (RFC 2865 section 3: one octet).
const identifiers = 256

// pending is one request waiting for its reply.
type pending struct {
	wire []byte      // as it was sent
	done chan result // takes one

	doubt atomic.Pointer[error] // why the first reply with its identifier was not believed; nil: there was none
}

// result is what ends a wait: a verified reply, or why the link cannot give one.
type result struct {
	wire []byte
	err  error
}

// errLinkDown: the link is gone; what was pending on it may be sent on another.
var errLinkDown = errors.New("connection lost")

// link is a way to one server with 256 identifiers of its own.
type link struct {
	send  func(wire []byte) error
	close func() error

	mu    sync.Mutex
	table [identifiers]*pending
	free  [identifiers]byte // ring, first in first out, so that an identifier rests as long as possible
	head  int
	n     int
	down  bool
}

func newLink(send func([]byte) error, closer func() error) *link {
	l := &link{send: send, close: closer, n: identifiers}
	start := rand.IntN(identifiers) // #nosec G404 -- an identifier is no secret, it only ought not to begin the same each time
	for i := range l.free {
		l.free[i] = byte(i + start)
	}
	return l
}

// take gives p an identifier; ok is false when all are in use or the link is down.
func (l *link) take(p *pending) (id byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == 0 || l.down {
		return 0, false
	}
	id = l.free[l.head]
	l.head = (l.head + 1) % identifiers
	l.n--
	l.table[id] = p
	return id, true
}

// give frees an identifier.
func (l *link) give(id byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.table[id] == nil {
		return
	}
	l.table[id] = nil
	l.free[(l.head+l.n)%identifiers] = id
	l.n++
}

// arm makes the wire form of the request with this identifier known, before it is sent.
func (l *link) arm(p *pending, wire []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.wire = wire
}

// deliver hands a trimmed reply to whom it answers, once it is verified.
func (l *link) deliver(reply []byte, s *server) error {
	l.mu.Lock()
	p := l.table[reply[1]]
	var request []byte
	if p != nil {
		request = p.wire
	}
	l.mu.Unlock()
	if request == nil {
		return errUnasked
	}
	code := radius.Code(request[0])
	if !mayAnswer(radius.Code(reply[0]), code) {
		return errUnasked
	}
	signed, err := verifyReply(reply, request, s.Secret, s.signer, code == radius.CodeAccessRequest && s.requiresMA())
	if err != nil {
		p.doubt.CompareAndSwap(nil, &err)
		return err
	}
	s.heard(signed && code == radius.CodeAccessRequest)
	select {
	case p.done <- result{wire: append([]byte(nil), reply...)}:
	default: // a duplicate
	}
	return nil
}

var errUnasked = errors.New("reply to nothing that was asked")

// fail ends the link and every wait on it; err says why, nil if it is no longer needed.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return
	}
	l.down = true
	_ = l.close()
	down := errLinkDown
	if err != nil {
		down = fmt.Errorf("%w: %w", errLinkDown, err) // RadSec: also why the server refuses us, which comes after the handshake
	}
	for _, p := range l.table {
		if p == nil {
			continue
		}
		select {
		case p.done <- result{err: down}:
		default:
		}
	}
}

// refuse tells every wait that the server's port is closed; the link stays.
func (l *link) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.table {
		if p == nil {
			continue
		}
		select {
		case p.done <- result{err: errRefused}:
		default:
		}
	}
}

func (l *link) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}
