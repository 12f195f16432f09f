// SPDX-License-Identifier: GPL-2.0-or-later

package local

// recent is a map that remembers at least limit keys, and at most twice as many: those put in lately, in two
// generations. When the younger is full the older is forgotten.
type recent[K comparable, V any] struct {
	limit      int
	young, old map[K]V
}

func (r *recent[K, V]) get(key K) (V, bool) {
	if v, ok := r.young[key]; ok {
		return v, true
	}
	v, ok := r.old[key]
	return v, ok
}

func (r *recent[K, V]) put(key K, value V) {
	if _, ok := r.young[key]; !ok && len(r.young) >= r.limit {
		r.young, r.old = nil, r.young
	}
	if r.young == nil {
		r.young = make(map[K]V)
	}
	r.young[key] = value
}
