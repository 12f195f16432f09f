// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ddtb/provision/lease"
)

func TestPools(t *testing.T) {
	w := start(t, nil)
	w.login("alice", 1)
	all := must[[]Pool](t)(w.Pools(t.Context()))
	want := []Pool{
		{
			Name: "main", Endpoints: netip.MustParsePrefix("2001:db8:f000:1::/111"), Prefixes: netip.MustParsePrefix("2001:db9::/39"), PrefixLen: 56,
			FirstID: 1 << 20, Size: 1 << 17, Active: 1, Free: 1<<17 - 2,
		},
		{Name: "small", Endpoints: netip.MustParsePrefix("2001:db8:f000:2::/125"), FirstID: 100, Size: 6, Free: 5},
	}
	if !slices.Equal(all, want) {
		t.Errorf("pools are\n%+v, expected\n%+v", all, want)
	}
	if got := must[Pool](t)(w.Pool(t.Context(), "main")); got != want[0] {
		t.Errorf("pool is %+v", got)
	}
	_, err := w.Pool(t.Context(), "none")
	refused(t, err, http.StatusNotFound)
}

// plainStore is a store that does not count.
type plainStore struct{ lease.Store }

func TestPoolsOfStoreThatDoesNotCount(t *testing.T) {
	w := start(t, func(d *Deps) { d.Store = plainStore{d.Store} })
	w.login("alice", 1)
	if err := w.Reserve(t.Context(), "small", 3, "carol", true); err != nil {
		t.Fatal(err)
	}
	all := must[[]Pool](t)(w.Pools(t.Context()))
	if all[0].Active != 1 || all[0].Free != 1<<17-2 || all[1].Reserved != 1 || all[1].Free != 4 {
		t.Errorf("pools are %+v", all)
	}
}

func TestLeases(t *testing.T) {
	w := start(t, nil)
	ctx := t.Context()
	alice, bob := w.login("alice", 1), w.login("bob", 2)
	if err := w.Reserve(ctx, "main", 4711, "carol", true); err != nil {
		t.Fatal(err)
	}
	refused(t, w.Reserve(ctx, "main", 4711, "dave", true), http.StatusConflict)
	refused(t, w.Reserve(ctx, "none", 1, "dave", true), http.StatusNotFound)
	refused(t, w.Reserve(ctx, "main", 5, "", true), http.StatusBadRequest)
	index := alice.TunnelID - 1<<20
	got := must[Lease](t)(w.Lease(ctx, "main", index))
	if got.User != "alice" || got.State != "active" || got.Session != alice.ID || got.Endpoint != alice.Endpoint || *got.Prefix != alice.Prefix ||
		got.Node != "test" || got.TunnelID != alice.TunnelID || got.Since == nil || got.Expires == nil {
		t.Errorf("lease is %+v", got)
	}
	for name, c := range map[string]struct {
		filter LeaseFilter
		want   string
	}{
		"all":     {LeaseFilter{}, "[alice bob carol]"},
		"pool":    {LeaseFilter{Pool: "small"}, "[]"},
		"user":    {LeaseFilter{User: "bob"}, "[bob]"},
		"address": {LeaseFilter{Address: alice.Endpoint}, "[alice]"},
		"within":  {LeaseFilter{Address: bob.Prefix.Addr().Next()}, "[bob]"},
		"state":   {LeaseFilter{State: "reserved"}, "[carol]"},
	} {
		users := []string{}
		for _, l := range collect(t, w.Leases(ctx, c.filter)) {
			users = append(users, l.User)
		}
		slices.Sort(users)
		if fmt.Sprint(users) != c.want {
			t.Errorf("%s: %v, expected %s", name, users, c.want)
		}
	}
	if err := w.ReleaseLease(ctx, "main", index); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.broker.Session(alice.ID); ok {
		t.Error("the session goes on without its lease")
	}
	if got := must[Lease](t)(w.Lease(ctx, "main", index)); got.State != "idle" || got.Since != nil {
		t.Errorf("lease is %+v", got)
	}
	refused(t, w.ReleaseLease(ctx, "main", index), http.StatusConflict)
	refused(t, w.ReleaseLease(ctx, "main", 9999), http.StatusNotFound)
	_, err := w.Lease(ctx, "none", 1)
	refused(t, err, http.StatusNotFound)
	if err := w.Reserve(ctx, "main", 4711, "carol", false); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, w.Leases(ctx, LeaseFilter{State: "reserved"})); len(got) != 0 {
		t.Errorf("still reserved: %+v", got)
	}
	elsewhere, err := w.store.Acquire(ctx, lease.Request{Pool: "small", Owner: "erin", Session: "other", Node: "other", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ReleaseLease(ctx, "small", elsewhere.Index); err != nil {
		t.Error(err)
	}
}

// A store that fails in the middle of a list cuts the answer short, and the client says so.
func TestListThatFailsHalfWay(t *testing.T) {
	for at, status := range map[int]int{0: http.StatusServiceUnavailable, 2: 0} {
		w := start(t, func(d *Deps) { d.Store = failingStore{d.Store, at} })
		for n := range 5 {
			w.login(fmt.Sprint("user", n), n+1)
		}
		var last error
		for _, err := range w.Leases(t.Context(), LeaseFilter{}) {
			last = err
		}
		if status != 0 {
			refused(t, last, status)
		} else if last == nil {
			t.Error("half a list was taken for the whole")
		}
	}
}

// failingStore fails after so many leases of a list.
type failingStore struct {
	lease.Store
	after int
}

func (f failingStore) All(ctx context.Context) iter.Seq2[lease.Lease, error] {
	return func(yield func(lease.Lease, error) bool) {
		n := 0
		for l, err := range f.Store.All(ctx) {
			if n++; n > f.after {
				yield(lease.Lease{}, lease.ErrUnavailable)
				return
			}
			if !yield(l, err) {
				return
			}
		}
	}
}
