// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"runtime"
	"sync"

	"ddtb/tsp/mmsg"
)

// outbox takes the answers that workers have for one socket and sends as many as there are with one system call. It holds
// so many and no more: a socket that takes none makes no worker wait.
type outbox struct {
	socket *udpSocket
	writer *mmsg.Writer
	wake   chan struct{} // one slot: there is something to send; closed at the end

	mu      sync.Mutex
	waiting []mmsg.Message
	spare   []mmsg.Message // what was sent last, for its memory
}

func newOutbox(u *udpSocket) (*outbox, error) {
	writer, err := mmsg.NewWriter(u.conn, batch)
	if err != nil {
		return nil, err
	}
	return &outbox{socket: u, writer: writer, wake: make(chan struct{}, 1)}, nil
}

// put leaves a datagram to be sent, in memory that is not written again. One too many is lost; its client asks again.
func (o *outbox) put(m mmsg.Message) {
	o.mu.Lock()
	full := len(o.waiting) >= outboxSize
	if !full {
		o.socket.server.udp.inflight.Add(1)
		o.waiting = append(o.waiting, m)
	}
	o.mu.Unlock()
	if full {
		o.socket.server.metrics.drops.queue.Inc()
		return
	}
	select {
	case o.wake <- struct{}{}:
	default: // it has been told
	}
}

// serve sends until stop was called.
func (o *outbox) serve() {
	for range o.wake {
		runtime.Gosched() // to the workers that are about to have an answer too
		batch := o.take()
		o.socket.write(o.writer, batch)
		o.socket.server.udp.inflight.Add(-int64(len(batch)))
		clear(batch)
	}
}

// take gives all that wait.
func (o *outbox) take() []mmsg.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch := o.waiting
	o.waiting, o.spare = o.spare[:0], batch
	return batch
}

// stop ends serve. Nothing may be put any more.
func (o *outbox) stop() { close(o.wake) }
