// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// samePools tells whether a table is of these pools.
func samePools(t *table, pools []Pool) bool {
	return slices.EqualFunc(t.pools, pools, func(p *poolTable, q Pool) bool { return p.Pool == q })
}

// migrate makes a table of other pools from one that was read, neither of them built.
func (e *Embedded) migrate(found *table, pools []Pool, opts Options) (*table, error) {
	t, now := newTable(pools, opts), e.clock()
	var refused []string
	for _, old := range found.pools {
		loss := t.takeOver(old, now)
		if loss == (losses{}) {
			continue
		}
		if (loss.active > 0 || loss.reserved > 0) && !opts.Drop {
			refused = append(refused, fmt.Sprintf("pool %q has changed: %s", old.Name, loss))
			continue
		}
		e.logger.Warn().Str("pool", old.Name).Int("active", loss.active).Int("reserved", loss.reserved).
			Int("remembered", loss.idle).Msg("the pool has changed: leases dropped")
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("%s; nothing was changed: restore the pools as they were, or allow leases to be dropped",
			strings.Join(refused, "; "))
	}
	return t, nil
}

// losses counts what does not fit any more.
type losses struct{ active, reserved, idle int }

func (l losses) String() string {
	return fmt.Sprintf("%d active leases and %d reservations do not fit it any more", l.active, l.reserved)
}

func (l *losses) count(e entry) {
	switch {
	case e.is(held):
		l.active++
	case e.is(kept):
		l.reserved++
	default:
		l.idle++
	}
}

// takeOver takes the entries of a pool of another table into the pool of the same name, as far as they fit.
func (t *table) takeOver(old *poolTable, now time.Time) (loss losses) {
	p := t.byName[old.Name]
	for index, e := range old.all() {
		switch {
		case p == nil || index >= p.Size:
			loss.count(e)
			continue
		case e.is(held) && (renumbered(old.Pool, p.Pool) || t.inPools(e)):
			loss.count(e)
			e = e.ended(now.UnixNano())
		}
		*p.place(index) = e
	}
	return loss
}

// renumbered tells whether the same index means something else in another definition of a pool.
func renumbered(p, q Pool) bool {
	p.Size = q.Size
	return p != q
}

// inPools tells whether the foreign prefix of a held entry lies in a pool.
func (t *table) inPools(e entry) bool {
	prefix := e.fields().foreign
	return prefix.IsValid() && slices.ContainsFunc(t.pools, func(p *poolTable) bool { return p.Overlaps(prefix) })
}

// build makes the orders and indices of a table whose entries were put in place one by one. An error says that they
// contradict each other.
func (t *table) build() error {
	for _, p := range t.pools {
		for index, e := range p.all() {
			if err := t.fits(p, index, e); err != nil {
				return fmt.Errorf("pool %q index %d: %w: the journal contradicts itself, restore it from a backup", p.Name, index, err)
			}
			t.attach(p, index, e)
		}
	}
	return nil
}

// fits says what an entry about to be attached contradicts.
func (t *table) fits(p *poolTable, index uint32, e entry) error {
	if owner := e.owner(); owner != "" {
		other, reserved := p.find(owner)
		if e.is(kept) {
			other = reserved
		}
		if other != 0 {
			return fmt.Errorf("%q has index %d too", owner, other)
		}
	}
	if e.is(foreign) {
		if prefix := e.fields().foreign; t.inPools(e) || len(t.prefixes.overlapping(prefix)) > 0 {
			return fmt.Errorf("foreign prefix %v is another's too", prefix)
		}
	}
	return nil
}
