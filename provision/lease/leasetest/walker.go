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
		if !slices.ContainsFunc(out, func(o lease.Holder) bool { return sameHolder(o, h) }) { // what another one's end is moved to would change the reason
			out = append(out, h)
		}
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
