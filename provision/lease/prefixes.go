// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"net/netip"
	"slices"
	"sort"
)

// chunkSize bounds the runs of a prefixSet: what an insertion has to move.
const chunkSize = 512

// prefixSet holds prefixes no two of which overlap, in order, and who holds them: runs of up to chunkSize, none empty.
type prefixSet struct {
	chunks [][]heldPrefix
}

type heldPrefix struct {
	span
	pool  *poolTable
	index uint32
}

// seek returns where the first prefix stands that does not lie wholly before a: chunk and place in it, one past the end
// if there is none.
func (s *prefixSet) seek(a wide) (chunk, at int) {
	chunk = sort.Search(len(s.chunks), func(i int) bool {
		c := s.chunks[i]
		return !c[len(c)-1].last.less(a)
	})
	if chunk == len(s.chunks) {
		return chunk, 0
	}
	c := s.chunks[chunk]
	return chunk, sort.Search(len(c), func(i int) bool { return !c[i].last.less(a) })
}

// overlapping returns those that share an address with prefix.
func (s *prefixSet) overlapping(prefix netip.Prefix) []heldPrefix {
	want := spanOf(prefix)
	var out []heldPrefix
	for chunk, at := s.seek(want.first); chunk < len(s.chunks); chunk, at = chunk+1, 0 {
		for _, h := range s.chunks[chunk][at:] {
			if !h.overlaps(want) {
				return out
			}
			out = append(out, h)
		}
	}
	return out
}

// add puts in a prefix that overlaps none.
func (s *prefixSet) add(prefix netip.Prefix, pool *poolTable, index uint32) {
	h := heldPrefix{spanOf(prefix), pool, index}
	chunk, at := s.seek(h.first)
	if chunk == len(s.chunks) {
		if chunk == 0 {
			s.chunks = [][]heldPrefix{{h}}
			return
		}
		chunk--
		at = len(s.chunks[chunk])
	}
	c := slices.Insert(s.chunks[chunk], at, h)
	s.chunks[chunk] = c
	if len(c) > chunkSize {
		half := slices.Clone(c[chunkSize/2:])
		s.chunks[chunk] = slices.Clip(c[:chunkSize/2])
		s.chunks = slices.Insert(s.chunks, chunk+1, half)
	}
}

// remove takes out a prefix that is in.
func (s *prefixSet) remove(prefix netip.Prefix) {
	want := spanOf(prefix)
	chunk, at := s.seek(want.first)
	if chunk == len(s.chunks) || s.chunks[chunk][at].span != want {
		panic("lease: a foreign prefix is not where it was put")
	}
	s.chunks[chunk] = slices.Delete(s.chunks[chunk], at, at+1)
	if len(s.chunks[chunk]) == 0 {
		s.chunks = slices.Delete(s.chunks, chunk, chunk+1)
	}
}
