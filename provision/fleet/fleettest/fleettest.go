// SPDX-License-Identifier: GPL-2.0-or-later

// Package fleettest is what every fleet.Board has to pass.
package fleettest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/fleet"
)

// patience is how long a state is awaited, on a busy machine.
const patience = 30 * time.Second

// long is a time that a test does not see the end of.
const long = time.Hour

// Run runs the suite. open gives two views of one empty board, as two servers have them.
func Run(t *testing.T, open func(t *testing.T) (a, b fleet.Board)) {
	for name, test := range map[string]func(*testing.T, fleet.Board, fleet.Board){
		"Nodes":    nodes,
		"Sessions": sessions,
		"Many":     many,
		"Expiry":   expiry,
		"Prune":    prune,
		"Claim":    claim,
		"Events":   events,
		"Commands": commands,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := open(t)
			test(t, a, b)
		})
	}
}

// Session makes the n-th session, in all that a Board keeps of one.
func Session(n int) fleet.Session {
	since := time.Date(2026, 3, 1, 12, 0, 0, int(123*time.Millisecond), time.UTC)
	return fleet.Session{Session: provision.Session{
		ID: fmt.Sprintf("%024x", n), State: provision.Active, Pool: "homes",
		Subscriber: aaa.Subscriber{
			Name: fmt.Sprintf("user %d ü", n), Class: [][]byte{{0, 1, ','}, []byte("gold")}, Rate: aaa.Rate{Up: 1e6, Down: 1e7},
		},
		Encap: datapath.V6UDPV4, Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 4000),
		Local: netip.MustParseAddrPort("192.0.2.1:3653"), Endpoint: netip.MustParseAddr("2001:db8:f000:1::5"),
		Prefix: netip.MustParsePrefix("2001:db8:1000:500::/56"),
		Routes: datapath.PrefixesOf(netip.MustParsePrefix("2001:db8:8001::/48"), netip.MustParsePrefix("2001:db8:8000::5/128")), Since: since, Seen: since.Add(time.Duration(n) * time.Second),
		Traffic: datapath.Counters{RxPackets: 1, RxBytes: 1 << 40, TxPackets: 3, TxBytes: 1<<64 - 1},
	}}
}

// same wants two values to be equal.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b datapath.Prefixes) bool { return a == b })); diff != "" {
		t.Errorf("%s: expected (-), got (+):\n%s", what, diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until awaits a state.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !reached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not reached: %s", what)
		}
	}
}

// claim: one server at a time, until it yields or its time is over.
func claim(t *testing.T, a, b fleet.Board) {
	ask := func(at fleet.Board, node, by string, keep time.Duration, want string) {
		t.Helper()
		holder, err := at.Claim(t.Context(), node, by, keep)
		must(t, err)
		if holder != want {
			t.Errorf("%s claims %s for %v: it is %s's, expected %s", by, node, keep, holder, want)
		}
	}
	ask(a, "dead", "ts1", long, "ts1")
	ask(b, "dead", "ts2", long, "ts1")
	ask(b, "dead", "ts2", 0, "ts1") // yields nothing
	ask(b, "other", "ts2", long, "ts2")
	ask(a, "dead", "ts1", long, "ts1")
	ask(a, "dead", "ts1", 0, "ts1")
	ask(b, "dead", "ts2", 10*time.Millisecond, "ts2")
	until(t, "the time of the claim is over", func() bool {
		holder, err := a.Claim(t.Context(), "dead", "ts1", long)
		must(t, err)
		return holder == "ts1"
	})
	ask(b, "dead", "ts2", long, "ts1")
}

func nodes(t *testing.T, a, b fleet.Board) {
	ctx := t.Context()
	none, err := b.Nodes(ctx)
	must(t, err)
	same(t, "nobody", none, []fleet.Node(nil))
	one := fleet.Node{
		Name: "ts1", Address: netip.MustParseAddr("192.0.2.1"), Epoch: time.UnixMilli(1772366400123).UTC(), Sessions: 12, Capacity: 65535,
		Version: "1.2.3", State: fleet.Serving,
	}
	two := one
	two.Name, two.Address, two.State = "ts2", netip.MustParseAddr("2001:db8::2"), fleet.Draining
	announce(t, b, two, long, false)
	announce(t, a, one, 50*time.Millisecond, false)
	until(t, "ts1 has been forgotten", func() bool {
		nodes, err := b.Nodes(ctx)
		must(t, err)
		return nodes[0].State == fleet.Gone
	})
	announce(t, a, one, long, false)
	announce(t, a, one, long, true)
	got, err := b.Nodes(ctx)
	must(t, err)
	for i := range got {
		if since := time.Since(got[i].Seen); since < -patience || since > patience {
			t.Errorf("%s was seen at %v", got[i].Name, got[i].Seen)
		}
		got[i].Seen = time.Time{}
	}
	same(t, "servers", got, []fleet.Node{one, two})
	announce(t, a, one, time.Millisecond, true)
	until(t, "ts1 is gone, ts2 is not", func() bool {
		got, err = b.Nodes(ctx)
		must(t, err)
		return len(got) == 2 && got[0].State == fleet.Gone && got[1].State == fleet.Draining
	})
	announce(t, a, one, long, false)
	got, err = b.Nodes(ctx)
	must(t, err)
	if got[0].State != fleet.Serving {
		t.Errorf("ts1 came back, its state is %s", got[0].State)
	}
}

// announce makes a server known, which has to be known already or not.
func announce(t *testing.T, b fleet.Board, node fleet.Node, alive time.Duration, want bool) {
	t.Helper()
	known, err := b.Announce(t.Context(), node, alive)
	must(t, err)
	if known != want {
		t.Errorf("%s was known: %v", node.Name, known)
	}
}

// list gives the sessions of a server by id.
func list(t *testing.T, b fleet.Board, node string) []fleet.Session {
	t.Helper()
	var out []fleet.Session
	for s, err := range b.Sessions(t.Context(), node) {
		must(t, err)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b fleet.Session) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func sessions(t *testing.T, a, b fleet.Board) {
	ctx := t.Context()
	plain := Session(3)
	plain.Subscriber, plain.Prefix, plain.Encap = aaa.Subscriber{Anonymous: true}, netip.Prefix{}, datapath.V6V4
	first, second := Session(1), Session(2)
	must(t, a.Write(ctx, "ts1", fleet.Batch{Put: []fleet.Session{first, plain}, Keep: long}))
	must(t, b.Write(ctx, "ts2", fleet.Batch{Put: []fleet.Session{second}, Keep: long}))
	first.Node, plain.Node, second.Node = "ts1", "ts1", "ts2"
	same(t, "sessions of ts1", list(t, b, "ts1"), []fleet.Session{first, plain})
	same(t, "sessions of ts2", list(t, a, "ts2"), []fleet.Session{second})
	same(t, "sessions of nobody", list(t, a, "ts3"), []fleet.Session(nil))
	got, err := b.Session(ctx, first.ID)
	must(t, err)
	same(t, "a session", got, first)

	first.Seen, first.Traffic.RxBytes = first.Seen.Add(time.Minute), first.Traffic.RxBytes+100
	must(t, a.Write(ctx, "ts1", fleet.Batch{Put: []fleet.Session{first}, Drop: []string{plain.ID, "unknown"}, Keep: long}))
	same(t, "sessions of ts1", list(t, b, "ts1"), []fleet.Session{first})
	if _, err := b.Session(ctx, plain.ID); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("a session that was dropped: %v", err)
	}
	must(t, a.Write(ctx, "ts1", fleet.Batch{}))
}

// many are more than one page of anything.
func many(t *testing.T, a, b fleet.Board) {
	const n = 1500
	var batch fleet.Batch
	for i := range n {
		batch.Put = append(batch.Put, Session(i))
	}
	batch.Keep = long
	must(t, a.Write(t.Context(), "ts1", batch))
	seen := map[string]bool{}
	for s, err := range b.Sessions(t.Context(), "ts1") {
		must(t, err)
		seen[s.ID] = true
	}
	if len(seen) != n {
		t.Errorf("%d sessions, expected %d", len(seen), n)
	}
	for _, err := range b.Sessions(t.Context(), "ts1") {
		must(t, err)
		break // a reader may leave
	}
	batch = fleet.Batch{}
	for i := range n - 1 {
		batch.Drop = append(batch.Drop, Session(i).ID)
	}
	must(t, a.Write(t.Context(), "ts1", batch))
	if left := list(t, b, "ts1"); len(left) != 1 {
		t.Errorf("%d sessions are left, expected 1", len(left))
	}
}

// What is not put again goes by itself.
func expiry(t *testing.T, a, b fleet.Board) {
	must(t, a.Write(t.Context(), "ts1", fleet.Batch{Put: []fleet.Session{Session(1)}, Keep: time.Millisecond}))
	must(t, a.Write(t.Context(), "ts1", fleet.Batch{Put: []fleet.Session{Session(2)}, Keep: long}))
	until(t, "only the second is left", func() bool {
		left := list(t, b, "ts1")
		return len(left) == 1 && left[0].ID == Session(2).ID
	})
	if _, err := b.Session(t.Context(), Session(1).ID); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("a session that went: %v", err)
	}
}

func prune(t *testing.T, a, b fleet.Board) {
	ctx := t.Context()
	for i := range 3 {
		must(t, a.Write(ctx, "ts1", fleet.Batch{Put: []fleet.Session{Session(i)}, Keep: long}))
	}
	must(t, b.Write(ctx, "ts2", fleet.Batch{Put: []fleet.Session{Session(9)}, Keep: long}))
	kept := Session(1)
	kept.Node = "ts1"
	must(t, a.Prune(ctx, "ts1", func(id string) bool { return id == kept.ID }))
	same(t, "sessions of ts1", list(t, b, "ts1"), []fleet.Session{kept})
	if _, err := b.Session(ctx, Session(0).ID); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("a session that was pruned: %v", err)
	}
	if left := list(t, a, "ts2"); len(left) != 1 {
		t.Errorf("ts2 has %d sessions", len(left))
	}
}

// follow follows for a server; stop ends that and wants no error.
func follow(t *testing.T, b fleet.Board, node string) (events chan fleet.Event, commands chan fleet.Command, stop func()) {
	t.Helper()
	events, commands = make(chan fleet.Event, 100), make(chan fleet.Command, 100)
	ready, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- b.Follow(ctx, node, fleet.Follower{
			Ready:   func() { close(ready) },
			Event:   func(e fleet.Event) { events <- e },
			Command: func(c fleet.Command) { commands <- c },
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("follow: %v", err)
	case <-time.After(patience):
		t.Fatal("follow is not ready")
	}
	return events, commands, func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("follow ended with %v", err)
		}
	}
}

func next[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func events(t *testing.T, a, b fleet.Board) {
	ctx := t.Context()
	old := fleet.Event{Time: time.Now().UTC().Truncate(time.Millisecond), Kind: provision.EventLogin, Session: Session(1)}
	must(t, a.Write(ctx, "ts1", fleet.Batch{Events: []fleet.Event{old}}))
	mine, _, stopMine := follow(t, a, "ts1")
	others, _, stopOthers := follow(t, b, "ts2")
	var want []fleet.Event
	for i, kind := range []provision.EventKind{
		provision.EventLogin, provision.EventTakeover, provision.EventKick, provision.EventLogout, fleet.EventFailover,
	} {
		e := fleet.Event{Time: old.Time.Add(time.Duration(i) * time.Second), Kind: kind}
		if kind != fleet.EventFailover {
			s := Session(i)
			s.Owner = s.Subscriber.Name + "#2"
			e.Session = s
		}
		want = append(want, e)
	}
	must(t, a.Write(ctx, "ts1", fleet.Batch{Events: want[:2]}))
	must(t, a.Write(ctx, "ts1", fleet.Batch{Events: want[2:]}))
	for _, from := range []chan fleet.Event{mine, others} {
		for _, expected := range want {
			got := next(t, from)
			if got.Kind != expected.Kind || !got.Time.Equal(expected.Time) || got.Node != "ts1" {
				t.Fatalf("event is %+v, expected %+v", got, expected)
			}
			g, e := got.Session, expected.Session
			if g.ID != e.ID || g.Owner != e.Owner || g.Pool != e.Pool || g.Endpoint != e.Endpoint || !g.Since.Equal(e.Since) || g.Client != e.Client || g.Routes != e.Routes {
				t.Errorf("event's session is %+v, expected %+v", g, e)
			}
		}
	}
	stopMine()
	stopOthers()
}

func commands(t *testing.T, a, b fleet.Board) {
	ctx := t.Context()
	must(t, a.Ask(ctx, "ts2", fleet.Command{Verb: fleet.Kick, Session: "old", By: "ts1"}))
	_, mine, stopMine := follow(t, a, "ts1")
	_, others, stopOthers := follow(t, b, "ts2")
	want := []fleet.Command{
		{Verb: fleet.Kick, Session: Session(1).ID, By: "ts1"}, {Verb: fleet.Drain, By: "ts1"}, {Verb: fleet.Undrain, By: "ts1"},
	}
	for _, c := range want {
		must(t, a.Ask(ctx, "ts2", c))
	}
	for _, c := range want {
		same(t, "command", next(t, others), c)
	}
	back := fleet.Command{Verb: fleet.Drain, By: "ts2"}
	must(t, b.Ask(ctx, "ts1", back))
	same(t, "command", next(t, mine), back)
	if len(mine)+len(others) > 0 {
		t.Error("a server got a command that was not for it")
	}
	stopMine()
	stopOthers()
}
