// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import "hash/maphash"

// owners finds indices by a hash of their owner: open addressing with linear probing, 8 octets a place, since a Go map
// with the names as keys would cost as much as all the rest of an idle lease. Who asks compares the names himself.
type owners struct {
	seed   maphash.Seed
	places []place // a power of two of them, or none
	count  int
}

// place holds an index and the hash of its owner; index 0, which is never leased, stands for nothing.
type place struct{ hash, index uint32 }

func newOwners() owners { return owners{seed: maphash.MakeSeed()} }

func (o *owners) hash(owner string) uint32 { return uint32(maphash.String(o.seed, owner)) }

// each calls fn with every index whose owner has this hash.
func (o *owners) each(hash uint32, fn func(index uint32)) {
	if len(o.places) == 0 {
		return
	}
	mask := uint32(len(o.places) - 1)
	for at := hash & mask; o.places[at].index != 0; at = (at + 1) & mask {
		if o.places[at].hash == hash {
			fn(o.places[at].index)
		}
	}
}

func (o *owners) add(hash, index uint32) {
	if 4*(o.count+1) > 3*len(o.places) {
		o.grow()
	}
	o.put(place{hash, index})
	o.count++
}

func (o *owners) put(p place) {
	mask := uint32(len(o.places) - 1)
	at := p.hash & mask
	for o.places[at].index != 0 {
		at = (at + 1) & mask
	}
	o.places[at] = p
}

func (o *owners) grow() {
	old := o.places
	o.places = make([]place, max(16, 2*len(old)))
	for _, p := range old {
		if p.index != 0 {
			o.put(p)
		}
	}
}

// remove takes out an index that was added with this hash.
func (o *owners) remove(hash, index uint32) {
	mask := uint32(len(o.places) - 1)
	at := hash & mask
	for o.places[at] != (place{hash, index}) {
		if o.places[at].index == 0 {
			panic("lease: an owner's index is not where it was put")
		}
		at = (at + 1) & mask
	}
	// Whoever was pushed past this place moves up, so that no search ends at the gap before it finds him.
	for next := (at + 1) & mask; o.places[next].index != 0; next = (next + 1) & mask {
		home := o.places[next].hash & mask
		if (next-home)&mask >= (next-at)&mask {
			o.places[at] = o.places[next]
			at = next
		}
	}
	o.places[at] = place{}
	o.count--
}
