// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"strconv"
	"strings"
	"sync"
)

// Owner is the name under which a subscriber holds the lease of one of his sessions: his own for slot 1, with "#2", "#3"
// behind it for the further ones. A '#' within the name is doubled, so that no name can stand for another's slot.
func Owner(name string, slot int) string {
	name = strings.ReplaceAll(name, "#", "##")
	if slot <= 1 {
		return name
	}
	return name + "#" + strconv.Itoa(slot)
}

// anonymousOwner is the owner of an anonymous session's lease; no name gives the same.
func anonymousOwner(id sid) string { return "#" + id.String() }

// locks serializes what is done for one subscriber while the store and the datapath are waited for. A lock exists only
// as long as somebody holds or wants it.
type locks struct {
	mu   sync.Mutex
	keys map[string]*keyLock
}

type keyLock struct {
	users int           // holder and waiters
	free  chan struct{} // made by the first who waits; a token in it is the lock
}

func newLocks() *locks { return &locks{keys: make(map[string]*keyLock)} }

// lock waits for the key until ctx is done. The caller calls unlock when it returned nil.
func (l *locks) lock(ctx context.Context, key string) error {
	l.mu.Lock()
	k := l.keys[key]
	if k == nil {
		l.keys[key] = &keyLock{users: 1}
		l.mu.Unlock()
		return nil
	}
	k.users++
	if k.free == nil {
		k.free = make(chan struct{}, 1)
	}
	l.mu.Unlock()
	select {
	case <-k.free:
		return nil
	case <-ctx.Done():
		l.leave(key, false)
		return ctx.Err()
	}
}

// tryLock takes the key if nobody has it.
func (l *locks) tryLock(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys[key] != nil {
		return false
	}
	l.keys[key] = &keyLock{users: 1}
	return true
}

func (l *locks) unlock(key string) { l.leave(key, true) }

// leave gives up holding (held) or waiting for the key.
func (l *locks) leave(key string, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	k.users--
	if k.users == 0 {
		delete(l.keys, key)
		return
	}
	if held {
		k.free <- struct{}{}
	}
}
