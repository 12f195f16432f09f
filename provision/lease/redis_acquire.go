// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Acquire implements Store.
func (r *Redis) Acquire(ctx context.Context, req Request) (Lease, error) {
	p, err := r.pool(req.Pool)
	if err == nil {
		err = check(p.Pool, r.plain(), req)
	}
	if err != nil {
		return Lease{}, requestError(req, err)
	}
	req.Data = bytes.Clone(req.Data)
	l, err := r.acquire(ctx, p, req)
	if errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
		if l, ok := r.renewHere(p, req); ok {
			return l, nil
		}
	}
	if err != nil && !errors.Is(err, ErrHeld) {
		l = Lease{}
	}
	if err != nil {
		return l, requestError(req, err)
	}
	return l, nil
}

// acquire is Acquire without what is looked at here. Who yields looks in the other pools before and, as one pool's script sees no
// other pool, once more when the lease is his: of two that ask in different pools at once each has taken before it looks, so
// one at least sees the other, and gives back. It may be both.
func (r *Redis) acquire(ctx context.Context, p *sharedPool, req Request) (Lease, error) {
	if l, err := r.elsewhere(ctx, p, req); err != nil {
		return l, err
	}
	l, err := r.acquireIn(ctx, p, req)
	if err != nil {
		return l, err
	}
	other, err := r.elsewhere(ctx, p, req)
	if err == nil {
		return l, nil
	}
	r.served.drop(p, l.Index, l.Session) // should Redis be away now, it is not his to renew
	if errors.Is(err, ErrHeld) {
		_ = r.Release(ctx, Holder{Pool: l.Pool, Index: l.Index, Session: l.Session}) // else it ends when its time is over
	}
	return other, err
}

// acquireIn gets a lease of one pool, in the owner's turn. The claim to a foreign prefix is made once it is sure that there is an index, since other
// claims may have to give way to it.
func (r *Redis) acquireIn(ctx context.Context, p *sharedPool, req Request) (l Lease, err error) {
	give, err := r.turns.take(ctx, req.Owner)
	if err != nil {
		return Lease{}, err
	}
	defer give()
	if !req.Foreign.IsValid() {
		return r.take(ctx, p, req, "")
	}
	wanted := req.Index
	for range tries {
		a, err := r.ask(ctx, p, req, true)
		if err != nil {
			return heldLease(p, a), err
		}
		epoch, undo, err := r.claim(ctx, p, req, tenure{})
		if err != nil {
			return Lease{}, err
		}
		req.Index = uint32(a.number(0))
		l, err = r.take(ctx, p, req, epoch)
		if err == nil || errors.Is(err, ErrUnavailable) { // then it may have got it, and asks again
			return l, err
		}
		if err := errors.Join(err, undo(ctx)); wanted != 0 || !errors.Is(err, ErrTaken) {
			return l, err
		}
		req.Index = 0 // somebody was faster
	}
	return Lease{}, fmt.Errorf("%d times somebody was faster: %w", tries, ErrUnavailable)
}

// ask runs the script; try only looks whether the index would be given.
func (r *Redis) ask(ctx context.Context, p *sharedPool, req Request, try bool) (answer, error) {
	s := scriptAcquire
	if try || req.Tentative {
		s = scriptTentative
	}
	a, err := r.run(ctx, s, p, req.Owner, req.Session, req.Node, req.TTL.Milliseconds(), req.Index, textOf(req.Foreign),
		flag(req.Forget), req.Data, flag(try), flag(req.Yield), req.Over)
	if err == nil {
		err = refusal(a.status)
	}
	return a, err
}

// elsewhere looks in the other pools for a session that a request has to yield to.
func (r *Redis) elsewhere(ctx context.Context, p *sharedPool, req Request) (Lease, error) {
	if !req.Yield {
		return Lease{}, nil
	}
	for _, other := range r.pools {
		if other == p {
			continue
		}
		a, err := r.run(ctx, scriptHolder, other, req.Owner, req.Session, req.Over)
		if err == nil {
			err = refusal(a.status)
		}
		if err != nil {
			return heldLease(other, a), err
		}
	}
	return Lease{}, nil
}

// heldLease is the lease that an answer names as held, if it does.
func heldLease(p *sharedPool, a answer) Lease {
	if a.status != "HELD" || len(a.rest) == 0 {
		return Lease{}
	}
	values, _ := a.rest[0].([]any)
	l, _ := readListed(p.Pool, answer{rest: values})
	return l
}

// textOf is a prefix for a script, "" for none.
func textOf(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// take gets the lease. claimed is the epoch in which its foreign prefix was claimed.
func (r *Redis) take(ctx context.Context, p *sharedPool, req Request, claimed string) (Lease, error) {
	began := r.clock()
	a, err := r.ask(ctx, p, req, false)
	if err != nil {
		return heldLease(p, a), err
	}
	index := uint32(a.number(0))
	t := tenure{
		owner: req.Owner, session: req.Session, node: req.Node, foreign: req.Foreign, forget: req.Forget, data: req.Data,
		since: a.time(1), end: began.Add(req.TTL), ttl: req.TTL, epoch: a.epoch, claimed: claimed,
	}
	r.served.put(p, index, t)
	l := t.lease(p.Pool, index)
	l.Expires = a.time(2)
	return l, r.unclaim(ctx, p, a.rest[3:])
}

// lease is how the world sees a tenure.
func (t tenure) lease(p Pool, index uint32) Lease {
	l := Lease{
		Pool: p.Name, Index: index, ID: p.ID(index), Endpoint: p.Endpoint(index), Prefix: p.Prefix(index), Owner: t.owner,
		Session: t.session, Node: t.node, State: Active, Since: t.since, Expires: t.end, Data: t.data,
	}
	if t.foreign.IsValid() {
		l.Prefix, l.Foreign = t.foreign, true
	}
	return l
}

// deadline is until when a lease may be served here without word from Redis. A foreign prefix goes to another as soon as the
// lease is over, so the sessions that have one end before.
func (r *Redis) deadline(t tenure) time.Time {
	if t.foreign.IsValid() {
		return t.end.Add(-t.ttl / 8)
	}
	return t.end.Add(r.options.Quarantine / 2)
}

// renewHere gives an owner the lease he has here, while Redis is away. It is asserted later.
func (r *Redis) renewHere(p *sharedPool, req Request) (Lease, bool) {
	index := r.served.of(p, req.Owner)
	t, ok := r.served.get(p, index)
	now := r.clock()
	if !ok || t.owner != req.Owner || !r.deadline(t).After(now) || req.Index != 0 && req.Index != index || req.Foreign != t.foreign {
		return Lease{}, false
	}
	if t.session != req.Session {
		// Later than the session before by Redis's clock too, which may be ahead of this one.
		t.session, t.since = req.Session, t.since.Add(time.Millisecond)
		if at := now.Truncate(time.Millisecond); at.After(t.since) {
			t.since = at
		}
	}
	t.node, t.forget, t.data, t.epoch, t.claimed = req.Node, req.Forget, req.Data, "", ""
	r.served.put(p, index, t)
	r.metrics.renewed.Inc()
	return t.lease(p.Pool, index), true
}

// Reserve implements Store.
func (r *Redis) Reserve(ctx context.Context, pool string, index uint32, owner string, on bool) error {
	p, err := r.pool(pool)
	if err != nil {
		return err
	}
	if err := checkReserve(p.Pool, index, owner); err != nil {
		return err
	}
	a, err := r.run(ctx, scriptReserve, p, index, owner, flag(on))
	if err == nil {
		err = refusal(a.status)
	}
	if err != nil {
		return fmt.Errorf("pool %q index %d for %q: %w", pool, index, owner, err)
	}
	return r.unclaim(ctx, p, a.rest)
}

// plain are the pools by themselves.
func (r *Redis) plain() []Pool {
	var out []Pool
	for _, p := range r.pools {
		out = append(out, p.Pool)
	}
	return out
}

// claim has a session claim its foreign prefix, and ends the leases whose claims gave way. t is the lease that it has, zero if it has
// none yet. epoch is that of the claims; undo is for a claim that no lease came of.
func (r *Redis) claim(ctx context.Context, p *sharedPool, req Request, t tenure) (epoch string, undo func(context.Context) error, err error) {
	left, has, name := any(req.TTL.Milliseconds()), !t.since.IsZero(), rand.Text()
	if has {
		left = until(t.end)
	}
	a, err := r.run(ctx, scriptClaim, r.foreign, p.Name, req.Owner, req.Session, left, req.Foreign.String(), rangeOf(req.Foreign),
		flag(has), req.Node, name)
	if err == nil {
		err = refusal(a.status)
	}
	if err != nil {
		return "", nil, fmt.Errorf("foreign prefix %v: %w", req.Foreign, err)
	}
	for over := range slices.Chunk(a.rest, 4) {
		o := answer{rest: over}
		if other := r.byName[o.text(0)]; other != nil {
			if _, err := r.run(ctx, scriptYield, other, o.text(1), o.text(2), o.text(3), req.Node, req.Owner); err != nil {
				return "", nil, err
			}
		}
	}
	return a.epoch, func(ctx context.Context) error {
		if r.claims(p, req.Owner, req.Session, req.Foreign) { // what it had before
			return nil
		}
		_, err := r.run(ctx, scriptUnclaim, r.foreign, p.Name, req.Owner, req.Session, req.Foreign.String(), name)
		return err
	}, nil
}

// claims tells whether a session that is served here has a foreign prefix.
func (r *Redis) claims(p *sharedPool, owner, session string, prefix netip.Prefix) bool {
	t, ok := r.served.get(p, r.served.of(p, owner))
	return ok && t.session == session && t.foreign == prefix
}

// unclaim gives back claims of a pool: owner, session and prefix of each.
func (r *Redis) unclaim(ctx context.Context, p *sharedPool, dropped []any) error {
	if len(dropped) == 0 {
		return nil
	}
	var args []any
	for d := range slices.Chunk(dropped, 3) {
		args = append(append(append(args, p.Name), d...), "")
	}
	_, err := r.run(ctx, scriptUnclaim, r.foreign, args...)
	return err
}

// rangeOf is the upper half of the addresses of a prefix, in hex, so that texts stand in the order of addresses.
func rangeOf(prefix netip.Prefix) string {
	s := spanOf(prefix)
	return fmt.Sprintf("%016x-%016x", s.first.hi, s.last.hi)
}
