// SPDX-License-Identifier: GPL-2.0-or-later

package leasetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ddtb/provision/lease"
)

// model is the contract of a Store written down as plainly as can be: every question is answered by looking at every
// entry.
type model struct {
	now     time.Time
	pools   []lease.Pool
	entries map[string][]modelEntry // by pool, then index
	owed    map[modelOwed]bool      // sessions that lost their leases to reservations, where several servers share a store
	shared  bool
}

// modelOwed is a session that is displaced.
type modelOwed struct{ pool, session string }

type modelEntry struct {
	used, held, reserved, forget bool

	owner, session, node, data string
	foreign                    netip.Prefix
	since, end                 time.Time
}

func newModel(pools []lease.Pool, now time.Time, shared bool) *model {
	m := &model{now: now, pools: pools, entries: make(map[string][]modelEntry), owed: make(map[modelOwed]bool), shared: shared}
	for _, p := range pools {
		m.entries[p.Name] = make([]modelEntry, p.Size)
		for i := range m.entries[p.Name] {
			m.entries[p.Name][i].end = time.Unix(0, 0) // long ago
		}
	}
	return m
}

func (e *modelEntry) finish(at time.Time) {
	if e.forget && !e.reserved {
		e.owner = ""
	}
	*e = modelEntry{used: true, reserved: e.reserved, owner: e.owner, end: at}
}

func (m *model) rested(e modelEntry) bool { return !e.end.Add(Quarantine).After(m.now) }

// choices are the indices that a store may give for req, or the error it must give.
func (m *model) choices(req lease.Request) ([]uint32, error) {
	entries := m.entries[req.Pool]
	if req.Index != 0 {
		e := entries[req.Index]
		if e.used && e.owner != req.Owner && (e.reserved || !m.rested(e)) {
			return nil, lease.ErrTaken
		}
		return []uint32{req.Index}, nil
	}
	var mine, unused, idle, expired []uint32
	longest := func(set []uint32, index uint32) []uint32 {
		if len(set) > 0 && entries[index].end.Before(entries[set[0]].end) {
			set = nil
		}
		if len(set) == 0 || entries[index].end.Equal(entries[set[0]].end) {
			set = append(set, index)
		}
		return set
	}
	for i, e := range entries[1:] {
		index := uint32(i + 1)
		switch {
		case e.owner == req.Owner && e.reserved:
			return []uint32{index}, nil
		case e.owner == req.Owner && e.used:
			mine = append(mine, index)
		case !e.used:
			unused = append(unused, index)
		case e.reserved || !m.rested(e):
		case e.held:
			expired = longest(expired, index)
		default:
			idle = longest(idle, index)
		}
	}
	for _, set := range [][]uint32{mine, unused, idle, expired} {
		if len(set) > 0 {
			return set, nil
		}
	}
	return nil, lease.ErrFull
}

// inTheWay are the leases of others that hold a part of the wanted foreign prefix; ok is false if one of them is in force.
func (m *model) inTheWay(req lease.Request) (over []*modelEntry, ok bool) {
	for pool, entries := range m.entries {
		for i := range entries {
			e := &entries[i]
			if !e.held || !e.foreign.IsValid() || !e.foreign.Overlaps(req.Foreign) || pool == req.Pool && e.owner == req.Owner {
				continue
			}
			if e.end.After(m.now) {
				return nil, false
			}
			over = append(over, e)
		}
	}
	return over, true
}

// acquire is Store.Acquire; index is what the store under test chose.
func (m *model) acquire(req lease.Request, index uint32, err error) error {
	choices, want := m.choices(req)
	var over []*modelEntry
	if want == nil && req.Foreign.IsValid() {
		var ok bool
		if over, ok = m.inTheWay(req); !ok {
			want = lease.ErrTaken
		}
	}
	if want != nil || err != nil {
		if !errors.Is(err, want) || want == nil {
			return fmt.Errorf("error %w, want %w", err, want)
		}
		return nil
	}
	if !slices.Contains(choices, index) {
		return fmt.Errorf("index %d, want one of %v", index, choices)
	}
	for _, e := range over {
		e.finish(e.end)
	}
	delete(m.owed, modelOwed{req.Pool, req.Session})
	entries := m.entries[req.Pool]
	for i := range entries {
		e := &entries[i]
		if e.owner != req.Owner || uint32(i) == index || !e.used {
			continue
		}
		if e.held {
			e.finish(m.now)
		}
		if !e.reserved {
			e.owner = ""
		}
	}
	e := &entries[index]
	since := m.now
	if e.held && e.owner == req.Owner && e.session == req.Session {
		since = e.since
	}
	*e = modelEntry{
		used: true, held: true, reserved: e.reserved, forget: req.Forget, owner: req.Owner, session: req.Session, node: req.Node,
		data: string(req.Data), foreign: req.Foreign, since: since, end: m.now.Add(req.TTL),
	}
	return nil
}

func (m *model) holding(h lease.Holder) *modelEntry {
	if e := &m.entries[h.Pool][h.Index]; e.held && e.session == h.Session {
		return e
	}
	return nil
}

func (m *model) extend(ttl time.Duration, holders []lease.Holder) (lost []lease.Lost) {
	for _, h := range holders {
		if e := m.holding(h); e != nil {
			e.end = m.now.Add(ttl)
			if h.Data != nil {
				e.data = string(h.Data)
			}
		} else {
			lost = append(lost, lease.Lost{Holder: h, Preempted: slices.ContainsFunc(m.entries[h.Pool], func(e modelEntry) bool {
				return h.Index != 0 && e.held && e.end.After(m.now) && e.owner == h.Owner && e.session != h.Session
			}) && !m.owed[modelOwed{h.Pool, h.Session}]})
		}
	}
	return lost
}

func (m *model) release(holders []lease.Holder) {
	for _, h := range holders {
		if h.Index != 0 {
			delete(m.owed, modelOwed{h.Pool, h.Session})
		}
		if e := m.holding(h); e != nil {
			e.finish(m.now)
		}
	}
}

func (m *model) reserve(pool string, index uint32, owner string, on bool) error {
	entries := m.entries[pool]
	e := &entries[index]
	if e.owner != owner && (e.reserved || on && e.used && !m.rested(*e)) {
		return lease.ErrTaken
	}
	if e.reserved == on {
		return nil
	}
	others := false
	for i := range entries {
		if o := &entries[i]; o.used && o.owner == owner && uint32(i) != index {
			if o.reserved && on {
				return lease.ErrTaken
			}
			others = true
		}
	}
	if !on {
		e.reserved = false
		if !e.held || e.end.Before(m.now) {
			e.end = m.now
		}
		if others && !e.held {
			e.owner = ""
		}
		return nil
	}
	for i := range entries {
		if o := &entries[i]; o.owner == owner && uint32(i) != index && !o.held {
			o.owner = ""
		}
	}
	if e.owner != owner {
		if e.held && m.shared {
			m.owed[modelOwed{pool, e.session}] = true
		}
		*e = modelEntry{end: e.end, owner: owner}
	}
	e.used, e.reserved = true, true
	return nil
}

// all is Store.All, sorted by id.
func (m *model) all() []lease.Lease {
	var out []lease.Lease
	for _, p := range m.pools {
		for i, e := range m.entries[p.Name] {
			index := uint32(i)
			l := lease.Lease{
				Pool: p.Name, Index: index, ID: p.ID(index), Endpoint: p.Endpoint(index), Prefix: p.Prefix(index), Owner: e.owner,
				State: lease.Idle, Expires: e.end.Add(Quarantine),
			}
			switch {
			case e.held:
				l.State, l.Session, l.Node, l.Data, l.Since, l.Expires = lease.Active, e.session, e.node, []byte(e.data), e.since, e.end
				if e.foreign.IsValid() {
					l.Prefix, l.Foreign = e.foreign, true
				}
			case e.reserved:
				l.State, l.Expires = lease.Reserved, time.Time{}
			case !e.used || e.owner == "" && m.rested(e):
				continue
			}
			out = append(out, l)
		}
	}
	return out
}

// modelRound is how many steps are taken with a store; then an empty one begins, with the next seed.
const modelRound = 600

// testModel does things at random to a store and to the model, and compares. DDTB_STEPS sets how many steps are taken,
// DDTB_SEED where chance begins.
func testModel(t *testing.T, open Open) {
	steps, seed := 4*modelRound, uint64(time.Now().UnixNano())
	if n, err := strconv.Atoi(os.Getenv("DDTB_STEPS")); err == nil {
		steps = n
	}
	if n, err := strconv.ParseUint(os.Getenv("DDTB_SEED"), 10, 64); err == nil {
		seed = n
	}
	for ; steps > 0; seed, steps = seed+1, steps-modelRound {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := start(t, open, 8)
			w := &walker{tester: s, rand: rand.New(rand.NewPCG(seed, 0))}
			first := s.acquire(ask("first"))
			w.model = newModel(Pools(8), first.Since, !s.Alone)
			if err := w.model.acquire(ask("first"), first.Index, nil); err != nil {
				t.Fatal(err)
			}
			for step := range min(steps, modelRound) {
				w.step(step)
			}
		})
		if !ok {
			return
		}
	}
}

// walker takes the random steps.
type walker struct {
	tester
	model *model
	rand  *rand.Rand
}

func (w *walker) step(step int) {
	w.Helper()
	what := ""
	switch n := w.rand.IntN(100); {
	case n < 45:
		what = w.acquireSome()
	case n < 60:
		what = w.extendSome()
	case n < 75:
		what = w.releaseSome()
	case n < 85:
		what = w.reserveSome()
	case n < 97:
		// Milliseconds that no two ends have in common, or a store may order equals as it likes.
		d := time.Duration(w.rand.IntN(int(Quarantine.Milliseconds()))) * time.Millisecond
		w.Advance(d)
		w.model.now = w.model.now.Add(d)
		what = fmt.Sprintf("advance %v", d)
	default:
		if w.Reopen != nil {
			w.Store = w.Reopen(w.T)
			what = "reopen"
		}
	}
	if want, got := w.model.all(), w.all(); !slices.EqualFunc(want, got, equal) {
		w.Fatalf("step %d, %s: %s", step, what, cmp.Diff(want, got, cmp.Comparer(equal)))
	}
}

func (w *walker) pool() lease.Pool { return w.model.pools[w.rand.IntN(2)] }

func (w *walker) acquireSome() string {
	prefixes := []string{"2001:db8:f000::/48", "2001:db8:f000:1::/64", "2001:db8:f001::/48", "2001:db8:f000::/47"}
	p := w.pool()
	req := ask(fmt.Sprint("owner", w.rand.IntN(int(p.Size))), session(fmt.Sprint("s", w.rand.IntN(3))))
	req.Pool = p.Name
	req.TTL = time.Duration(1+w.rand.IntN(3600_000)) * time.Millisecond
	req.Forget = w.rand.IntN(4) == 0
	req.Data = []byte(fmt.Sprint(w.rand.Uint32()))
	if w.rand.IntN(4) == 0 {
		req.Foreign = netip.MustParsePrefix(prefixes[w.rand.IntN(len(prefixes))])
	}
	if w.rand.IntN(5) == 0 {
		req.Index = uint32(w.rand.IntN(int(p.Size)))
	}
	l, err := w.Store.Acquire(w.Context(), req)
	if wrong := w.model.acquire(req, l.Index, err); wrong != nil {
		w.Fatalf("Acquire %+v: %v", req, wrong)
	}
	return fmt.Sprintf("Acquire %+v: index %d, %v", req, l.Index, err)
}

// holders are some that hold leases and some that do not.
func (w *walker) holders() []lease.Holder {
	var out []lease.Holder
	for range w.rand.IntN(6) {
		p := w.pool()
		index, number := w.rand.IntN(int(p.Size)), w.rand.IntN(3)
		h := lease.Holder{Pool: p.Name, Index: uint32(index), Session: fmt.Sprint("s", number), Owner: fmt.Sprint("owner", (index+number)%int(p.Size))}
		if w.rand.IntN(3) == 0 {
			h.Data = []byte(fmt.Sprint("extended ", w.rand.Uint32()))
		}
		out = append(out, h)
	}
	return out
}

func (w *walker) extendSome() string {
	holders, d := w.holders(), time.Duration(1+w.rand.IntN(3600_000))*time.Millisecond
	lost, err := w.Store.Extend(w.Context(), d, holders...)
	want := w.model.extend(d, holders)
	if err != nil || !slices.EqualFunc(lost, want, sameLost) {
		w.Fatalf("Extend %v: lost %v, %v, want %v", holders, lost, err, want)
	}
	return fmt.Sprintf("Extend %v by %v: lost %v", holders, d, lost)
}

func (w *walker) releaseSome() string {
	holders := w.holders()
	if err := w.Store.Release(w.Context(), holders...); err != nil {
		w.Fatalf("Release %v: %v", holders, err)
	}
	w.model.release(holders)
	return fmt.Sprintf("Release %v", holders)
}

func (w *walker) reserveSome() string {
	p, on := w.pool(), w.rand.IntN(2) == 0
	i, owner := uint32(1+w.rand.IntN(int(p.Size)-1)), fmt.Sprint("owner", w.rand.IntN(int(p.Size)))
	err := w.Store.Reserve(w.Context(), p.Name, i, owner, on)
	if want := w.model.reserve(p.Name, i, owner, on); !errors.Is(err, want) || err != nil && want == nil {
		w.Fatalf("Reserve(%q, %d, %q, %v): %v, want %v", p.Name, i, owner, on, err, want)
	}
	return fmt.Sprintf("Reserve(%q, %d, %q, %v): %v", p.Name, i, owner, on, err)
}
