// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"net/netip"
	"sync"
	"time"
)

// requestKey tells a retransmission from a new request (RFC 5176 section 2.3).
type requestKey struct {
	from          netip.AddrPort
	id            byte
	authenticator [16]byte
}

const (
	cacheSize = 4096
	cacheTime = time.Minute
)

// replyCache remembers the requests of the last minute and what they were answered.
type replyCache struct {
	mu      sync.Mutex
	entries map[requestKey][]byte // nil while it is being acted on
	order   []cached              // oldest first
}

type cached struct {
	key  requestKey
	time time.Time
}

// begin tells whether the request is known, and its reply if there is one already; an unknown one is noted.
func (c *replyCache) begin(key requestKey, now time.Time) (reply []byte, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.order) > 0 && (len(c.order) >= cacheSize || now.Sub(c.order[0].time) > cacheTime) {
		delete(c.entries, c.order[0].key)
		c.order = c.order[1:]
	}
	if reply, known = c.entries[key]; known {
		return reply, true
	}
	c.entries[key] = nil
	c.order = append(c.order, cached{key, now})
	return nil, false
}

func (c *replyCache) end(key requestKey, reply []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; ok {
		c.entries[key] = reply
	}
}

// forget lets the same request be tried again.
func (c *replyCache) forget(key requestKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}
