// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"sync"

	"ddtb/provision/datapath"
)

// table holds the sessions, with every index they are looked up by. mu is held for moments only, never while the store,
// the datapath or the accountant is waited for.
type table struct {
	mu      sync.Mutex
	byID    map[uint64]*entry    // all, by sid.tunnel
	tunnels map[uint32]*entry    // Active, by tunnel id
	clients map[clientKey]*entry // Active, by outer address
	owners  map[string]*entry    // Active and Ending, by lease owner; without the anonymous ones, which nobody looks for
	offers  map[string]*entry    // Offered, by lease owner
	endings map[*entry]struct{}  // Ending
	fresh   []*entry             // Active, and the lease does not yet tell that they have started
	guests  map[[4]byte]int      // anonymous sessions, Offered and Active, by IPv4 address
	active  [3]int               // Active, by encapsulation
	claims  claims               // of those that are Active or being activated

	offering int // calls of Offer that were let in and are not yet in offers
}

func newTable() *table {
	return &table{
		byID:    make(map[uint64]*entry),
		tunnels: make(map[uint32]*entry),
		clients: make(map[clientKey]*entry),
		owners:  make(map[string]*entry),
		offers:  make(map[string]*entry),
		endings: make(map[*entry]struct{}),
		guests:  make(map[[4]byte]int),
	}
}

// The methods below are called with mu held.

// find gives the entry with an id.
func (t *table) find(id sid) *entry {
	if e := t.byID[id.tunnel()]; e != nil && e.id == id {
		return e
	}
	return nil
}

// addOffer puts an offer in, and gives the one whose place it takes.
func (t *table) addOffer(e *entry) (replaced *entry) {
	owner := e.owner()
	if replaced = t.offers[owner]; replaced != nil {
		t.dropOffer(replaced)
	}
	e.state = Offered
	t.offers[owner] = e
	t.byID[e.id.tunnel()] = e
	t.countGuest(e, 1)
	return replaced
}

func (t *table) dropOffer(e *entry) {
	delete(t.offers, e.owner())
	delete(t.byID, e.id.tunnel())
	t.countGuest(e, -1)
}

// addActive makes an entry, offered before or not, a session in force. displaced is the session of somebody else at the
// same outer address, which is stale now.
func (t *table) addActive(e *entry) (displaced *entry) {
	if e.state == Offered {
		t.dropOffer(e)
	}
	e.state = Active
	terms, from := e.terms.Value(), e.from()
	displaced = t.clients[from]
	t.byID[e.id.tunnel()] = e
	t.tunnels[e.tunnelID] = e
	t.clients[from] = e
	if !terms.anonymous {
		t.owners[e.owner()] = e
	}
	t.active[terms.encap]++
	t.countGuest(e, 1)
	return displaced
}

// end makes an Active entry an Ending one, with its last counters: it is found by id and owner only.
func (t *table) end(e *entry, end *ending, last datapath.Counters) {
	t.leave(e)
	e.state = Ending
	e.raw = last
	e.more().end = end
	t.endings[e] = struct{}{}
}

// remove forgets an Active or Ending entry.
func (t *table) remove(e *entry) {
	if e.state == Active {
		t.leave(e)
	}
	delete(t.endings, e)
	delete(t.byID, e.id.tunnel())
	if !e.terms.Value().anonymous {
		if owner := e.owner(); t.owners[owner] == e {
			delete(t.owners, owner)
		}
	}
}

// leave takes an Active entry out of what only Active ones are in.
func (t *table) leave(e *entry) {
	if t.tunnels[e.tunnelID] == e {
		delete(t.tunnels, e.tunnelID)
	}
	if from := e.from(); t.clients[from] == e {
		delete(t.clients, from)
	}
	t.active[e.terms.Value().encap]--
	t.claims.remove(e)
	t.countGuest(e, -1)
}

func (t *table) countGuest(e *entry, n int) {
	if !e.terms.Value().anonymous {
		return
	}
	t.guests[e.client] += n
	if t.guests[e.client] == 0 {
		delete(t.guests, e.client)
	}
}

// sessions counts the Active ones.
func (t *table) sessions() int { return t.active[datapath.V6UDPV4] + t.active[datapath.V6V4] }
