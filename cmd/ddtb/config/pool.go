// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"net/netip"
	"strings"

	"ddtb/provision/lease"
)

// Pool is one [[pool]]: a range of endpoint addresses and, beside it, a range of prefixes of the same size.
type Pool struct {
	Name         string       `toml:"name"`
	Endpoints    netip.Prefix `toml:"endpoints"`
	Prefixes     netip.Prefix `toml:"prefixes"`
	PrefixLength int          `toml:"prefix_length"`
	Size         uint32       `toml:"size"`
}

// Bounds of the pools.
const (
	maxPools        = 8       // the datapath compares an address with each pool in turn
	maxIndices      = 1 << 24 // of all pools together
	defaultPoolSize = 1 << 16 // where the ranges would hold more
)

// complete fills in what follows from the ranges.
func (c *Pool) complete(doc *document, path string) {
	if c.Prefixes.IsValid() && !doc.has(path+".prefix_length") {
		c.PrefixLength = 56
		if c.Prefixes.Bits() >= 56 {
			c.PrefixLength = 64
		}
	}
	if !doc.has(path + ".size") {
		c.Size = min(c.room(), defaultPoolSize)
	}
}

// room is how many indices both ranges hold, at most maxIndices+1.
func (c *Pool) room() uint32 {
	room := rangeSize(c.Endpoints, 128)
	if c.Prefixes.IsValid() {
		room = min(room, rangeSize(c.Prefixes, c.PrefixLength))
	}
	return room
}

// rangeSize counts the prefixes of the given length in a range, at most maxIndices+1.
func rangeSize(prefix netip.Prefix, length int) uint32 {
	bits := length - prefix.Bits()
	switch {
	case !prefix.IsValid() || bits < 0:
		return 0
	case bits > 24:
		return maxIndices + 1
	default:
		return 1 << bits
	}
}

// Leases gives the pools as the lease store and the datapath know them: ids follow each other in the order of the file.
func Leases(pools []Pool) []lease.Pool {
	out := make([]lease.Pool, len(pools))
	first := uint32(0)
	for i, c := range pools {
		out[i] = lease.Pool{Name: c.Name, First: first, Size: c.Size, EndpointBase: c.Endpoints.Addr()}
		if c.Prefixes.IsValid() {
			out[i].PrefixBase, out[i].PrefixLen = c.Prefixes.Addr(), c.PrefixLength
		}
		first += c.Size
	}
	return out
}

func validatePools(doc *document, pools []Pool, server netip.Addr) {
	if len(pools) == 0 {
		doc.reject("pool", "missing: expected at least one [[pool]] to give addresses from")
	}
	if len(pools) > maxPools {
		doc.reject(fmt.Sprintf("pool[%d]", maxPools), "there are %d: expected at most %d pools", len(pools), maxPools)
	}
	before, indices := len(doc.problems), uint64(0)
	for i := range pools {
		pools[i].validate(doc, fmt.Sprintf("pool[%d]", i))
		indices += uint64(pools[i].Size)
	}
	if len(doc.problems) > before {
		return
	}
	for i := range pools {
		path := fmt.Sprintf("pool[%d]", i)
		for j := range i {
			pools[i].validateBeside(doc, path, &pools[j])
		}
	}
	if indices > maxIndices {
		doc.reject(fmt.Sprintf("pool[%d]", len(pools)-1), "the pools have %d indices together: expected at most %d; set size", indices, maxIndices)
	}
	for i, pool := range Leases(pools) {
		pools[i].validateServer(doc, pool, server)
	}
}

// validate looks at one pool alone.
func (c *Pool) validate(doc *document, path string) {
	if !isPoolName(c.Name) {
		doc.reject(path+".name", `%q: expected 1 to 32 of a-z, 0-9, "-" and "_"`, c.Name)
	}
	if !isRange(c.Endpoints) || c.Endpoints.Bits() < 64 || c.Endpoints.Bits() > 127 {
		doc.reject(path+".endpoints", `%s: expected a range of IPv6 addresses from /64 to /127, host bits zero, such as "2001:db8:f000:1::/112"`,
			orMissing(c.Endpoints))
		return
	}
	if c.Prefixes.IsValid() {
		if !c.validatePrefixes(doc, path) {
			return
		}
	} else if doc.has(path + ".prefix_length") {
		doc.reject(path+".prefix_length", "%d of what range: expected the key prefixes beside it", c.PrefixLength)
	}
	if room := c.room(); c.Size > room && room <= maxIndices {
		doc.reject(path+".size", "%d: endpoints and prefixes hold %d", c.Size, room)
	} else if c.Size < 2 {
		doc.reject(path+".size", "%d: expected 2 or more, since index 0 is never given out", c.Size)
	}
}

func (c *Pool) validatePrefixes(doc *document, path string) bool {
	switch {
	case !isRange(c.Prefixes) || c.Prefixes.Bits() < 16 || c.Prefixes.Bits() > 63:
		doc.reject(path+".prefixes", `%s: expected a range of IPv6 prefixes from /16 to /63, host bits zero, such as "2001:db8:1000::/40"`, c.Prefixes)
	case c.PrefixLength <= c.Prefixes.Bits() || c.PrefixLength > 64:
		doc.reject(path+".prefix_length", "%d: expected %d to 64, the length of one subscriber's prefix out of %s",
			c.PrefixLength, c.Prefixes.Bits()+1, c.Prefixes)
	case c.Prefixes.Overlaps(c.Endpoints):
		doc.reject(path+".prefixes", "%s overlaps the pool's endpoints %s: expected two ranges apart, since a client uses the first address of its prefix itself",
			c.Prefixes, c.Endpoints)
	default:
		return true
	}
	return false
}

// validateBeside compares with an earlier pool.
func (c *Pool) validateBeside(doc *document, path string, other *Pool) {
	if c.Name == other.Name {
		doc.reject(path+".name", "%q: there is another pool of that name", c.Name)
	}
	ranges := func(c *Pool) [2]netip.Prefix { return [2]netip.Prefix{c.Endpoints, c.Prefixes} }
	keys := [2]string{"endpoints", "prefixes"}
	for i, mine := range ranges(c) {
		for j, theirs := range ranges(other) {
			if mine.IsValid() && theirs.IsValid() && mine.Overlaps(theirs) {
				doc.reject(path+"."+keys[i], "%s overlaps the %s of pool %q, %s", mine, keys[j], other.Name, theirs)
			}
		}
	}
}

// validateServer sees that no subscriber can be given the server's own address.
func (c *Pool) validateServer(doc *document, pool lease.Pool, server netip.Addr) {
	if _, among := pool.EndpointIndex(server); among {
		doc.reject("server.ipv6", "%s is one of the endpoints of pool %q, %s to %s: expected an address outside",
			server, c.Name, pool.EndpointBase, pool.Endpoint(pool.Size-1))
	} else if _, within := pool.Index(server); within {
		doc.reject("server.ipv6", "%s lies in the prefixes of pool %q, %s: expected an address outside", server, c.Name, c.Prefixes)
	}
}

func isRange(p netip.Prefix) bool {
	return p.IsValid() && isGlobalIPv6(p.Addr()) && p == p.Masked()
}

func isPoolName(name string) bool {
	ok := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' }
	return len(name) >= 1 && len(name) <= 32 && strings.IndexFunc(name, func(r rune) bool { return !ok(r) }) < 0
}

func orMissing(p netip.Prefix) string {
	if !p.IsValid() {
		return "missing"
	}
	return p.String()
}
