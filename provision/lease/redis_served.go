// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// served is what this node holds leases for: what it asserts after a failover, and goes by while Redis is away.
type served struct {
	mu     *sync.Mutex
	leases map[indexOf]*tenure
	owners map[ownerOf]uint32
	counts map[epochOf]int // leases by the epoch they were confirmed in, so that nobody looks through all to find that none is left
	claims map[string]int  // those with a foreign prefix, by tenure.claimed

	refuted map[refutation]refuted // leases that are another's, and whose sessions have not ended yet

	copy *localCopy // of leases, nil: none
}

type refutation struct {
	indexOf
	session string
}

// refuted is whose such a lease was, and what the script has said of it.
type refuted struct{ owner, result string }

type indexOf struct {
	pool  *sharedPool
	index uint32
}

type epochOf struct {
	pool  *sharedPool
	epoch string
}

type ownerOf struct {
	pool  *sharedPool
	owner string
}

// tenure is one lease that is served here.
type tenure struct {
	owner, session, node string
	foreign              netip.Prefix
	forget               bool
	data                 []byte
	since                time.Time
	end                  time.Time // by this node's clock
	ttl                  time.Duration
	epoch                string // in which Redis confirmed it; "": not yet
	claimed              string // the same of the claim to the foreign prefix, whose epochs are others
}

func newServed() served {
	return served{mu: new(sync.Mutex), leases: make(map[indexOf]*tenure), owners: make(map[ownerOf]uint32), counts: make(map[epochOf]int), claims: make(map[string]int), refuted: make(map[refutation]refuted)}
}

// put keeps a lease in the place of what its owner had.
func (s served) put(p *sharedPool, index uint32, t tenure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if had := s.owners[ownerOf{p, t.owner}]; had != 0 && had != index {
		s.remove(p, had)
	}
	s.take(p, index)
	for at, lost := range s.refuted { // his session before this one ends
		if at.pool == p && lost.owner == t.owner {
			delete(s.refuted, at)
		}
	}
	s.leases[indexOf{p, index}] = &t
	s.owners[ownerOf{p, t.owner}] = index
	s.count(p, t, 1)
	s.copy.put(p, index, &t)
}

// count notes that a lease was added to those of its epochs, or taken from them. mu is held.
func (s served) count(p *sharedPool, t tenure, n int) {
	at := epochOf{p, t.epoch}
	if s.counts[at] += n; s.counts[at] == 0 {
		delete(s.counts, at)
	}
	if !t.foreign.IsValid() {
		return
	}
	if s.claims[t.claimed] += n; s.claims[t.claimed] == 0 {
		delete(s.claims, t.claimed)
	}
}

// remove forgets a lease. mu is held.
func (s served) remove(p *sharedPool, index uint32) {
	s.take(p, index)
	s.copy.drop(p, index)
}

// take takes a lease out. mu is held.
func (s served) take(p *sharedPool, index uint32) {
	if t := s.leases[indexOf{p, index}]; t != nil {
		delete(s.leases, indexOf{p, index})
		delete(s.owners, ownerOf{p, t.owner})
		s.count(p, *t, -1)
	}
}

// refute forgets the lease of a session that has to end, but not that.
func (s served) refute(p *sharedPool, index uint32, session string, why refuted) {
	s.drop(p, index, session)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuted[refutation{indexOf{p, index}, session}] = why
}

// refutedBy is what a script has said of the lease of a session that has to end, "" if it has not.
func (s served) refutedBy(p *sharedPool, index uint32, session string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuted[refutation{indexOf{p, index}, session}].result
}

// refutes tells whether a session has to end that has not.
func (s served) refutes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.refuted) > 0
}

// drop forgets the lease of a session that ends.
func (s served) drop(p *sharedPool, index uint32, session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refuted, refutation{indexOf{p, index}, session})
	if t := s.leases[indexOf{p, index}]; t != nil && t.session == session {
		s.remove(p, index)
	}
}

// get is the lease of an index.
func (s served) get(p *sharedPool, index uint32) (tenure, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.leases[indexOf{p, index}]; t != nil {
		return *t, true
	}
	return tenure{}, false
}

// of is the index that an owner has, 0: none.
func (s served) of(p *sharedPool, owner string) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owners[ownerOf{p, owner}]
}

// change calls fn with the lease of a session and returns true, if it is served here.
func (s served) change(p *sharedPool, index uint32, session string, fn func(*tenure)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.leases[indexOf{p, index}]
	if t == nil || t.session != session {
		return false
	}
	before := *t
	s.count(p, *t, -1)
	fn(t)
	s.count(p, *t, 1)
	s.copy.change(p, index, before, t)
	return true
}

// doubtful tells whether a pool has leases that Redis has not confirmed in an epoch. mu is held.
func (s served) doubtful(p *sharedPool, epoch string) bool {
	for at := range s.counts { // one or two
		if at.pool == p && at.epoch != epoch {
			return true
		}
	}
	return false
}

// copied is what the copy tells of the last daemon's leases, and has not been looked for in Redis.
func (s served) copied() map[indexOf]tenure {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[indexOf]tenure)
	if s.copy == nil {
		return out
	}
	for at, t := range s.copy.found {
		out[at] = *t
	}
	return out
}

// unconfirmed gives the indices of a pool whose leases Redis has not confirmed in an epoch, in order.
func (s served) unconfirmed(p *sharedPool, epoch string) []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []uint32
	if !s.doubtful(p, epoch) {
		return nil
	}
	for at, t := range s.leases {
		if at.pool == p && t.epoch != epoch {
			out = append(out, at.index)
		}
	}
	slices.Sort(out)
	return out
}

// unclaimed gives the leases whose foreign prefixes are not known to be claimed in an epoch of the claims, in order.
func (s served) unclaimed(epoch string) []indexOf {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.claims) == 0 || len(s.claims) == 1 && s.claims[epoch] > 0 {
		return nil
	}
	var out []indexOf
	for at, t := range s.leases {
		if t.foreign.IsValid() && t.claimed != epoch {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, func(a, b indexOf) int {
		return cmp.Or(cmp.Compare(a.pool.Name, b.pool.Name), cmp.Compare(a.index, b.index))
	})
	return out
}
