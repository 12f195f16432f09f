// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// perScript is how many leases one script works on: it holds everybody else up meanwhile.
const perScript = 64

// Extend implements Store.
func (r *Redis) Extend(ctx context.Context, ttl time.Duration, holders ...Holder) (lost []Lost, err error) {
	if err := checkExtend(ttl, holders); err != nil {
		return nil, err
	}
	for p, some := range r.batches(holders) {
		if p == nil {
			for _, h := range some {
				lost = append(lost, Lost{Holder: h})
			}
			continue
		}
		missed, err := r.extend(ctx, p, ttl, some)
		lost = append(lost, missed...)
		if err != nil {
			r.keepData(holders)
			return inOrder(holders, append(lost, r.over(holders)...)), err
		}
	}
	return inOrder(holders, lost), nil
}

// inOrder gives lost in the order of holders, each once.
func inOrder(holders []Holder, lost []Lost) (out []Lost) {
	type name struct {
		pool    string
		index   uint32
		session string
	}
	of := func(h Holder) name { return name{h.Pool, h.Index, h.Session} }
	gone := make(map[name]Lost, len(lost))
	for _, l := range slices.Backward(lost) { // what was told first counts
		gone[of(l.Holder)] = l
	}
	for _, h := range holders {
		if l, ok := gone[of(h)]; ok {
			out = append(out, l)
		}
	}
	return out
}

// batches yields holders by pool, as many as one script takes; those of no pool, or of no index, with nil.
func (r *Redis) batches(holders []Holder) iter.Seq2[*sharedPool, []Holder] {
	return func(yield func(*sharedPool, []Holder) bool) {
		byPool := make(map[*sharedPool][]Holder)
		for _, h := range holders {
			p := r.byName[h.Pool]
			if p != nil && (h.Index == 0 || h.Index >= p.Size) {
				p = nil
			}
			byPool[p] = append(byPool[p], h)
		}
		for _, p := range append([]*sharedPool{nil}, r.pools...) {
			for some := range slices.Chunk(byPool[p], perScript) {
				if !yield(p, some) {
					return
				}
			}
		}
	}
}

// extend extends the leases of one pool, and asserts those that Redis knows nothing of since a new epoch.
func (r *Redis) extend(ctx context.Context, p *sharedPool, ttl time.Duration, holders []Holder) (lost []Lost, err error) {
	give, err := r.turns.take(ctx, r.claimants(p, holders)...)
	if err != nil {
		return nil, err
	}
	defer give()
	args, before := []any{ttl.Milliseconds()}, make([]string, len(holders))
	for i, h := range holders {
		args = append(args, extension(h)...)
		t, _ := r.served.get(p, h.Index)
		before[i] = t.epoch // watch may assert it while the script is on its way
	}
	began := r.clock()
	a, err := r.run(ctx, scriptExtend, p, args...)
	if err != nil {
		return nil, err
	}
	var claims []claimed
	for i, h := range holders {
		result := a.text(i)
		if notHeld(result) && before[i] != a.epoch { // Redis may have lost it
			if result, err = r.regain(ctx, p, h, began, ttl, result); err != nil {
				return lost, err
			}
		}
		// One that was forgotten here, past its deadline, is over: nobody would end it if Redis went away again.
		if notHeld(result) || !r.served.change(p, h.Index, h.Session, func(t *tenure) { t.extend(began, ttl, h.Data); t.epoch = a.epoch }) {
			r.served.drop(p, h.Index, h.Session)
			lost = append(lost, Lost{Holder: h, Preempted: result == resultPreempted})
			continue
		}
		if prefix, owner, ok := strings.Cut(result, " "); ok {
			claims = append(claims, claimed{h, owner, prefix})
		}
	}
	missed, err := r.reclaim(ctx, p, ttl, claims)
	return append(lost, missed...), err
}

// What scripts say of leases that sessions do not hold any more.
const (
	resultLost      = "LOST"
	resultPreempted = "PREEMPTED"
)

func notHeld(result string) bool {
	return result == "" || result == resultLost || result == resultPreempted
}

// extension are the arguments of extend.lua for one lease.
func extension(h Holder) []any {
	return []any{h.Index, h.Session, h.Owner, flag(h.Data != nil), h.Data}
}

// regain asserts a lease that Redis has not confirmed since an epoch began, as it is, and extends it, also if watch was faster with the
// former. It gives what is said of it then, or before if there is nothing to assert.
func (r *Redis) regain(ctx context.Context, p *sharedPool, h Holder, began time.Time, ttl time.Duration, before string) (string, error) {
	if result := r.served.refutedBy(p, h.Index, h.Session); result != "" { // not, what an older one's lease says that a failover brought back
		return result, nil
	}
	t, ok := r.served.get(p, h.Index)
	if !ok || t.session != h.Session || !r.deadline(t).After(began) {
		return before, nil
	}
	if result, err := r.assert(ctx, p, h.Index, t); err != nil || notHeld(result) {
		return result, err
	}
	a, err := r.run(ctx, scriptExtend, p, append([]any{ttl.Milliseconds()}, extension(h)...)...)
	return a.text(0), err
}

// extend is Extend of one lease, at a time.
func (t *tenure) extend(at time.Time, ttl time.Duration, data []byte) {
	t.end, t.ttl = at.Add(ttl), ttl
	if data != nil {
		t.data = slices.Clone(data)
	}
}

// claimed is a lease with a foreign prefix.
type claimed struct {
	Holder
	owner, prefix string
}

// reclaim extends claims. A lease whose claim is another's by now is lost.
func (r *Redis) reclaim(ctx context.Context, p *sharedPool, ttl time.Duration, claims []claimed) (lost []Lost, err error) {
	if len(claims) == 0 {
		return nil, nil
	}
	args := []any{ttl.Milliseconds()}
	for _, c := range claims {
		args = append(args, p.Name, c.owner, c.Session, c.prefix)
	}
	a, err := r.run(ctx, scriptReclaim, r.foreign, args...)
	if err != nil {
		return nil, err
	}
	for i, c := range claims {
		if a.text(i) != "" {
			r.served.change(p, c.Index, c.Session, func(t *tenure) { t.claimed = a.epoch })
			continue
		}
		// Lost with a failover, perhaps, and nobody else's: then he claims it again.
		if t, ok := r.served.get(p, c.Index); ok && t.session == c.Session && t.foreign.IsValid() {
			if epoch, _, err := r.claim(ctx, p, t.request(p), t); err == nil {
				r.served.change(p, c.Index, c.Session, func(t *tenure) { t.claimed = epoch })
				continue
			}
		}
		if err := r.releaseNow(ctx, p, []Holder{c.Holder}); err != nil {
			return lost, err
		}
		lost = append(lost, Lost{Holder: c.Holder})
	}
	return lost, nil
}

// request is what has got a tenure, but for its time.
func (t tenure) request(p *sharedPool) Request {
	return Request{
		Pool: p.Name, Owner: t.owner, Session: t.session, Node: t.node, Foreign: t.foreign, Forget: t.forget, Data: t.data,
	}
}

// keepData notes data that Redis did not take, for a daemon that is started before it has: it brings it there (begin).
func (r *Redis) keepData(holders []Holder) {
	if r.served.copy == nil {
		return
	}
	for _, h := range holders {
		if p := r.byName[h.Pool]; p != nil && h.Data != nil {
			r.served.change(p, h.Index, h.Session, func(t *tenure) { t.data, t.epoch = slices.Clone(h.Data), "" })
		}
	}
}

// over gives those of holders whose leases may not be served any longer without word from Redis.
func (r *Redis) over(holders []Holder) (out []Lost) {
	now := r.clock()
	for _, h := range holders {
		p := r.byName[h.Pool]
		if p == nil {
			continue
		}
		if t, ok := r.served.get(p, h.Index); !ok || t.session != h.Session || !r.deadline(t).After(now) {
			out = append(out, Lost{Holder: h, Preempted: r.served.refutedBy(p, h.Index, h.Session) == resultPreempted})
		}
	}
	return out
}

// Release implements Store.
func (r *Redis) Release(ctx context.Context, holders ...Holder) error {
	for p, some := range r.batches(holders) {
		if p == nil {
			continue
		}
		if err := r.release(ctx, p, some); err != nil {
			return err
		}
	}
	return nil
}

// release is Release of leases of one pool.
func (r *Redis) release(ctx context.Context, p *sharedPool, holders []Holder) error {
	give, err := r.turns.take(ctx, r.claimants(p, holders)...)
	if err != nil {
		return err
	}
	defer give()
	return r.releaseNow(ctx, p, holders)
}

// releaseNow is release in the turn of the owners.
func (r *Redis) releaseNow(ctx context.Context, p *sharedPool, holders []Holder) error {
	var args []any
	for _, h := range holders {
		args = append(args, h.Index, h.Session)
		if t, ok := r.served.get(p, h.Index); ok && t.session == h.Session && t.epoch == "" {
			// Redis knows the session before this one.
			if _, err := r.assert(ctx, p, h.Index, t); err != nil {
				return err
			}
		}
	}
	a, err := r.run(ctx, scriptRelease, p, args...)
	if err != nil {
		return fmt.Errorf("release %d leases: %w", len(holders), err)
	}
	for _, h := range holders {
		r.served.drop(p, h.Index, h.Session)
	}
	return r.unclaim(ctx, p, a.rest)
}

// claimants are the owners of those leases that are served here and have foreign prefixes.
func (r *Redis) claimants(p *sharedPool, holders []Holder) (owners []string) {
	for _, h := range holders {
		if t, ok := r.served.get(p, h.Index); ok && t.session == h.Session && t.foreign.IsValid() {
			owners = append(owners, t.owner)
		}
	}
	return owners
}
