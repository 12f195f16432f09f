// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"sync"
)

// cacheSize is how many verified passwords are remembered at least.
const cacheSize = 1 << 16

// cache remembers passwords that argon2id verified, so that a subscriber who comes back need not wait for it again. It
// holds HMACs under a key of this process. A changed password changes the argon2id hash, and with it the HMAC.
type cache struct {
	key [sha256.Size]byte

	mu   sync.Mutex
	sums recent[[sha256.Size]byte, struct{}]
}

func newCache(random io.Reader) (*cache, error) {
	c := &cache{sums: recent[[sha256.Size]byte, struct{}]{limit: cacheSize}}
	_, err := io.ReadFull(random, c.key[:])
	return c, err
}

func (c *cache) sum(parts ...string) (out [sha256.Size]byte) {
	mac := hmac.New(sha256.New, c.key[:])
	for _, p := range parts {
		mac.Write(binary.AppendUvarint(nil, uint64(len(p))))
		mac.Write([]byte(p))
	}
	mac.Sum(out[:0])
	return out
}

// has tells whether remember was called with the same.
func (c *cache) has(name, hash, password string) bool {
	sum := c.sum(name, hash, password)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.sums.get(sum)
	if ok {
		c.sums.put(sum, struct{}{}) // used is as good as new
	}
	return ok
}

func (c *cache) remember(name, hash, password string) {
	sum := c.sum(name, hash, password)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sums.put(sum, struct{}{})
}
