// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"errors"
	"slices"
	"time"
)

// watch looks at every pool ten times in a grace, and at once when an answer told of a new epoch.
func (r *Redis) watch(ctx context.Context) {
	ticker := time.NewTicker(max(r.options.Grace/10, 10*time.Millisecond))
	defer ticker.Stop()
	for {
		err := r.look(ctx)
		r.served.copy.mend()
		if was := r.away.Swap(err != nil); ctx.Err() == nil && was != (err != nil) {
			if err != nil {
				r.options.Logger.Error().Err(err).Msg("lease store away: tunnels go on, nobody new gets a lease")
			} else {
				r.options.Logger.Info().Msg("lease store there again")
			}
		}
		select {
		case <-ticker.C:
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// look tells Redis that this node is there, asserts what has to be, and takes over the counts.
func (r *Redis) look(ctx context.Context) (first error) {
	for _, p := range append(slices.Clone(r.pools), r.foreign) {
		if err := r.lookAt(ctx, p); first == nil {
			first = err // the others say the same
		}
	}
	if r.served.refutes() {
		r.refute()
	}
	return first
}

func (r *Redis) lookAt(ctx context.Context, p *sharedPool) error {
	p.mu.Lock()
	asserted, args := p.asserted, []any{r.options.Node, p.asserted, p.last}
	for _, node := range p.nodes {
		args = append(args, node)
	}
	p.mu.Unlock()
	if !r.loaded.Load() || !r.confirmed(p, asserted) {
		args[1] = "" // tunnels may be in force that are not known yet
	}
	a, err := r.run(ctx, scriptCheck, p, args...)
	if err != nil {
		return err
	}
	active, static, idle, reserved := uint32(a.number(0)), uint32(a.number(1)), uint32(a.number(2)), uint32(a.number(3))
	u := Usage{Pool: p.Name, Size: p.Size, Active: active + static, Idle: idle, Reserved: reserved - min(reserved, static)}
	u.Unused = p.Size - 1 - min(p.Size-1, u.Active+u.Idle+u.Reserved)
	p.mu.Lock()
	p.usage, p.last, p.nodes = u, uint32(a.number(5)), nil
	for i := 6; i < len(a.rest); i++ {
		p.nodes = append(p.nodes, a.text(i))
	}
	p.mu.Unlock()
	if p == r.foreign {
		err = r.claimAll(ctx, a.epoch)
	} else {
		err = r.assertAll(ctx, p, a.epoch)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.asserted = a.epoch
	p.mu.Unlock()
	return nil
}

// confirmed tells whether all leases that are served here were confirmed in an epoch; of the claims, all foreign prefixes.
// Nobody may have those of sessions that are to end before they have.
func (r *Redis) confirmed(p *sharedPool, epoch string) bool {
	if r.served.refutes() {
		return false
	}
	if p == r.foreign {
		return len(r.served.unclaimed(epoch)) == 0
	}
	return len(r.served.unconfirmed(p, epoch)) == 0
}

// claimAll claims the foreign prefixes of leases that are served here and that were not claimed in an epoch. Those past their
// end, perhaps since a clock jumped while the daemon was not there, wait for their broker to extend or release them.
func (r *Redis) claimAll(ctx context.Context, epoch string) error {
	for _, at := range r.served.unclaimed(epoch) {
		if t, ok := r.served.get(at.pool, at.index); ok && t.end.After(r.clock()) {
			if _, err := r.claimAgain(ctx, at.pool, at.index, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// note takes the epoch of an answer. A new one wakes watch.
func (r *Redis) note(p *sharedPool, epoch string) {
	p.mu.Lock()
	before := p.epoch
	p.epoch = epoch
	p.mu.Unlock()
	if before == epoch {
		return
	}
	if before != "" {
		r.metrics.epochs.Inc()
		r.options.Logger.Warn().Str("pool", p.Name).Str("epoch", epoch).
			Msg("Redis failed over, was restarted or its clock jumped: leases that are served here are asserted")
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// assertAll asserts what is served here and was not confirmed in an epoch.
func (r *Redis) assertAll(ctx context.Context, p *sharedPool, epoch string) error {
	for some := range slices.Chunk(r.served.unconfirmed(p, epoch), perScript) {
		if err := r.assertSome(ctx, p, some); err != nil {
			return err
		}
	}
	return nil
}

func (r *Redis) assertSome(ctx context.Context, p *sharedPool, indices []uint32) error {
	var args []any
	var of []uint32
	var tenures []tenure
	now := r.clock()
	for _, index := range indices {
		t, ok := r.served.get(p, index)
		if !ok {
			continue
		}
		if !r.deadline(t).After(now) {
			r.served.drop(p, index, t.session)
			continue
		}
		claimed, err := r.claimAgain(ctx, p, index, t)
		if err != nil {
			return err
		}
		if claimed {
			args, of, tenures = append(args, assertion(index, t)...), append(of, index), append(tenures, t)
		}
	}
	if len(of) == 0 {
		return nil
	}
	a, err := r.run(ctx, scriptAssert, p, args...)
	if err != nil {
		return err
	}
	if err := r.unclaim(ctx, p, a.rest[len(of):]); err != nil {
		return err
	}
	var gone []Holder
	for i, index := range of {
		if notHeld(a.text(i)) {
			r.lose(p, index, tenures[i], a.text(i))
			continue
		}
		r.metrics.asserted.Inc()
		if !r.served.change(p, index, tenures[i].session, func(t *tenure) { t.epoch = a.epoch }) {
			gone = append(gone, Holder{Pool: p.Name, Index: index, Session: tenures[i].session})
		}
	}
	return r.Release(ctx, gone...) // ended or replaced just now
}

// assert asserts one lease as it is in t, in its owner's turn, and gives what assert.lua says of it.
func (r *Redis) assert(ctx context.Context, p *sharedPool, index uint32, t tenure) (string, error) {
	epoch, ok, err := r.claimNow(ctx, p, index, t)
	if !ok || err != nil {
		return resultLost, err
	}
	t.claimed = epoch
	a, err := r.run(ctx, scriptAssert, p, assertion(index, t)...)
	if err != nil || notHeld(a.text(0)) {
		return a.text(0), err
	}
	r.metrics.asserted.Inc()
	t.epoch = a.epoch
	r.served.change(p, index, t.session, func(kept *tenure) { *kept = t })
	return a.text(0), r.unclaim(ctx, p, a.rest[1:])
}

// claimAgain claims the foreign prefix of a lease again, if it has one, in its owner's turn. false: it is another's, the lease is
// lost; or its owner has another lease by now, or another prefix.
func (r *Redis) claimAgain(ctx context.Context, p *sharedPool, index uint32, t tenure) (bool, error) {
	if !t.foreign.IsValid() {
		return true, nil
	}
	give, err := r.turns.take(ctx, t.owner)
	if err != nil {
		return false, err
	}
	defer give()
	now, ok := r.served.get(p, index)
	if !ok || now.owner != t.owner || now.session != t.session || now.foreign != t.foreign {
		return false, nil
	}
	_, ok, err = r.claimNow(ctx, p, index, now)
	return ok, err
}

// claimNow is claimAgain of what is served, or will be, while it is its owner's turn. epoch is that of the claim.
func (r *Redis) claimNow(ctx context.Context, p *sharedPool, index uint32, t tenure) (epoch string, ok bool, err error) {
	if !t.foreign.IsValid() {
		return "", true, nil
	}
	epoch, _, err = r.claim(ctx, p, t.request(p), t)
	if errors.Is(err, ErrTaken) {
		r.lose(p, index, t, resultLost)
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if r.served.change(p, index, t.session, func(t *tenure) { t.claimed = epoch }) {
		return epoch, true, nil
	}
	if !r.claims(p, t.owner, t.session, t.foreign) { // it ended just now, and its claim before this one
		err = r.unclaim(ctx, p, []any{t.owner, t.session, t.foreign.String()})
	}
	return epoch, true, err
}

// lose forgets a lease that is rightly another's, as a script has said.
func (r *Redis) lose(p *sharedPool, index uint32, t tenure, result string) {
	r.metrics.refuted.Inc()
	r.options.Logger.Warn().Str("pool", p.Name).Uint32("index", index).Str("owner", t.owner).Str("session", t.session).
		Msg("a lease that was served here is another's since Redis failed over")
	r.served.refute(p, index, t.session, refuted{t.owner, result})
	r.refute()
}

// refute has Refuted tell.
func (r *Redis) refute() {
	select {
	case r.refuted <- struct{}{}:
	default:
	}
}

// Refuted tells when leases that were served here have turned out to be another's: their sessions are to be ended, by an
// Extend of all.
func (r *Redis) Refuted() <-chan struct{} { return r.refuted }

// assertion are the arguments of assert.lua for one lease.
func assertion(index uint32, t tenure) []any {
	return []any{
		t.owner, t.session, t.node, index, t.since.UnixMilli(), until(t.end), textOf(t.foreign), flag(t.forget), t.data,
	}
}
