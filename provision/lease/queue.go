// SPDX-License-Identifier: GPL-2.0-or-later

package lease

// queue orders indices of a pool by the end of their entries, the earliest first: a binary heap in which each entry
// knows its place.
type queue struct {
	pool  *poolTable
	items []uint32
}

// first is the index with the earliest end, 0 if the queue is empty.
func (q *queue) first() uint32 {
	if len(q.items) == 0 {
		return 0
	}
	return q.items[0]
}

func (q *queue) push(index uint32) {
	q.items = append(q.items, index)
	q.up(len(q.items) - 1)
}

// remove takes out an index that is in the queue.
func (q *queue) remove(index uint32) {
	e := q.pool.at(index)
	at, last := int(e.slot)-1, len(q.items)-1
	e.slot = 0
	moved := q.items[last]
	q.items = q.items[:last]
	if at != last {
		q.set(at, moved)
		q.fix(moved)
	}
}

// fix moves an index whose end has changed.
func (q *queue) fix(index uint32) {
	at := int(q.pool.at(index).slot) - 1
	if !q.down(at) {
		q.up(at)
	}
}

func (q *queue) set(at int, index uint32) {
	q.items[at] = index
	q.pool.at(index).slot = uint32(at) + 1
}

// before orders by end; among equals the lower index comes first, so that the order is one.
func (q *queue) before(a, b uint32) bool {
	x, y := q.pool.at(a).end, q.pool.at(b).end
	return x < y || x == y && a < b
}

func (q *queue) up(at int) {
	index := q.items[at]
	for at > 0 {
		parent := (at - 1) / 2
		if !q.before(index, q.items[parent]) {
			break
		}
		q.set(at, q.items[parent])
		at = parent
	}
	q.set(at, index)
}

func (q *queue) down(at int) (moved bool) {
	index, start := q.items[at], at
	for {
		child := 2*at + 1
		if child >= len(q.items) {
			break
		}
		if right := child + 1; right < len(q.items) && q.before(q.items[right], q.items[child]) {
			child = right
		}
		if !q.before(q.items[child], index) {
			break
		}
		q.set(at, q.items[child])
		at = child
	}
	q.set(at, index)
	return at != start
}
