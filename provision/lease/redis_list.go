// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"strconv"
	"time"
)

// perPage is how many indices are looked at by one script of All.
const perPage = 256

// The fields of a lease in list.lua's answer: common.lua's FIELDS behind the index.
const (
	atIndex = iota
	atUser
	atSession
	atNode
	atState
	atSince
	atExpires
	atReserved
	atForget
	atForeign
	atEpoch
	atData
	atBusy
	listed // how many
)

// The fields of a session in owed.lua's answer: common.lua's OWED behind its id.
const (
	owedSession = iota
	owedIndex
	owedUser
	owedTaker
	owedNode
	owedSince
	owedEnded
	owedForeign
	owedData
	owed // how many
)

// All implements Store. It reads page by page. Leases of this node that it meets are served here from then on.
func (r *Redis) All(ctx context.Context) iter.Seq2[Lease, error] {
	return func(yield func(Lease, error) bool) {
		if r.apart && !r.loaded.Load() { // what happened here since Redis went away is told first
			if err := r.look(ctx); err != nil {
				yield(Lease{}, err)
				return
			}
		}
		for _, p := range r.pools {
			for from := int64(1); from != 0; {
				began := r.clock()
				a, err := r.run(ctx, scriptList, p, from, perPage)
				if err == nil {
					err = refusal(a.status)
				}
				if err != nil {
					yield(Lease{}, fmt.Errorf("list pool %q: %w", p.Name, err))
					return
				}
				from = a.number(0)
				for _, l := range r.page(p, a, began) {
					if !yield(l, nil) {
						return
					}
				}
			}
			if !r.displaced(ctx, p, yield) {
				return
			}
		}
		if !r.loaded.Swap(true) {
			r.served.copy.settle()
		}
	}
}

// displaced yields what sessions of a pool have left that lost their leases, and tells whether to go on.
func (r *Redis) displaced(ctx context.Context, p *sharedPool, yield func(Lease, error) bool) bool {
	for cursor := "0"; ; {
		a, err := r.run(ctx, scriptOwed, p, cursor)
		if err == nil {
			err = refusal(a.status)
		}
		if err != nil {
			yield(Lease{}, fmt.Errorf("list what is displaced in pool %q: %w", p.Name, err))
			return false
		}
		var values []any
		if len(a.rest) > 1 {
			values, _ = a.rest[1].([]any)
		}
		for ; len(values) >= owed; values = values[owed:] {
			if !yield(readOwed(p.Pool, answer{rest: values}), nil) {
				return false
			}
		}
		if cursor = a.text(0); cursor == "0" || cursor == "" {
			return true
		}
	}
}

// readOwed reads what one session has left.
func readOwed(p Pool, v answer) Lease {
	index, _ := strconv.ParseUint(v.text(owedIndex), 10, 32)
	t := tenure{
		owner: v.text(owedUser), session: v.text(owedSession), node: v.text(owedNode), data: []byte(v.text(owedData)),
		since: v.time(owedSince), end: v.time(owedEnded),
	}
	t.foreign, _ = netip.ParsePrefix(v.text(owedForeign))
	l := t.lease(p, uint32(index))
	l.State, l.Taker = Displaced, v.text(owedTaker)
	return l
}

// page reads an answer of list.lua, asked for at a time of this node's clock.
func (r *Redis) page(p *sharedPool, a answer, began time.Time) (out []Lease) {
	var values []any
	if len(a.rest) > 1 {
		values, _ = a.rest[1].([]any)
	}
	for ; len(values) >= listed; values = values[listed:] {
		v := answer{rest: values}
		l, t := readListed(p.Pool, v)
		t.epoch = a.epoch
		if l.State == Active && l.Node == r.options.Node {
			if _, known := r.served.get(p, l.Index); !known {
				t.end = began.Add(l.Expires.Sub(a.time(2)))
				r.served.put(p, l.Index, t)
			}
		}
		out = append(out, l)
	}
	return out
}

// readListed reads one lease.
func readListed(p Pool, v answer) (Lease, tenure) {
	index, _ := strconv.ParseUint(v.text(atIndex), 10, 32)
	t := tenure{
		owner: v.text(atUser), session: v.text(atSession), node: v.text(atNode), forget: v.text(atForget) != "",
		data: []byte(v.text(atData)), since: v.time(atSince), end: v.time(atExpires),
	}
	t.foreign, _ = netip.ParsePrefix(v.text(atForeign))
	l := t.lease(p, uint32(index))
	switch v.text(atState) {
	case "active":
	case "reserved":
		l = Lease{Pool: l.Pool, Index: l.Index, ID: l.ID, Endpoint: l.Endpoint, Prefix: l.Prefix, Owner: l.Owner, State: Reserved}
	default:
		l = Lease{Pool: l.Pool, Index: l.Index, ID: l.ID, Endpoint: l.Endpoint, Prefix: l.Prefix, Owner: l.Owner, State: Idle, Expires: l.Expires}
	}
	return l, t
}
