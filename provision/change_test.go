// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

func to[T any](v T) *T { return &v }

// A change is in force at once, stays over a restart, and leaves what it does not name.
func TestChange(t *testing.T) {
	w := start(t, testConfig())
	r := request("alice", client(1, 4000))
	r.Subscriber.Class, r.Subscriber.CUI = [][]byte{{1}}, []byte("cui")
	r.Subscriber.SessionTimeout, r.Subscriber.Filter = 2*time.Hour, "gold"
	s := w.login(r)
	w.send(s, 10)
	w.clock.advance(time.Hour)
	if err := w.Change(t.Context(), s.ID, Change{
		Rate: &aaa.Rate{Up: 1e6, Down: 5e6}, SessionTimeout: to(3 * time.Hour), IdleTimeout: to(time.Minute),
		InterimInterval: to(10 * time.Minute), Class: [][]byte{{2}, {3}},
	}); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at once", "after a restart"} {
		got := w.session(s.ID)
		sub := got.Subscriber
		if sub.Rate != (aaa.Rate{Up: 1e6, Down: 5e6}) || got.Lifetime != 4*time.Hour || sub.IdleTimeout != time.Minute ||
			sub.InterimInterval != 10*time.Minute || fmt.Sprint(sub.Class) != "[[2] [3]]" || string(sub.CUI) != "cui" || sub.Filter != "gold" {
			t.Errorf("%s: session is %+v", when, got)
		}
		if state, _ := w.tunnel(s.TunnelID); state.Rate != (datapath.Rate{Rx: 1e6, Tx: 5e6}) || state.RxPackets != 10 {
			t.Errorf("%s: tunnel is %+v", when, state)
		}
		w.restart()
	}
	w.send(s, 10)
	w.sweepAfter(11 * time.Minute)
	w.stopped(s, aaa.CauseIdleTimeout)
	records := w.records.Session(s.ID)
	if before, after := records[0].Subscriber, records[1].Subscriber; fmt.Sprint(before.Class) != "[[1]]" || fmt.Sprint(after.Class) != "[[2] [3]]" ||
		!bytes.Equal(after.CUI, []byte("cui")) {
		t.Errorf("Start has class %v, Stop %v and user identity %q", before.Class, after.Class, after.CUI)
	}
	if got := records[1].Octets.Input; got != 2000 {
		t.Errorf("Stop record counts %d octets, 2000 were sent", got)
	}
}

// The Session-Timeout of a change counts from the change; the server's own lifetime stays the end of all.
func TestChangeSessionTimeout(t *testing.T) {
	config := testConfig()
	config.Lifetime = 24 * time.Hour
	for _, tt := range []struct{ timeout, ends time.Duration }{
		{10 * time.Minute, time.Hour + 10*time.Minute},
		{0, 24 * time.Hour},
		{100 * time.Hour, 24 * time.Hour},
	} {
		w := start(t, config)
		r := request("alice", client(1, 4000))
		r.Subscriber.SessionTimeout = 2 * time.Hour
		s := w.login(r)
		w.clock.advance(time.Hour)
		if err := w.Change(t.Context(), s.ID, Change{SessionTimeout: &tt.timeout}); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(tt.ends - time.Hour - time.Second)
		w.send(s, 1)
		w.sweep(t.Context())
		w.forwards(s)
		w.send(s, 1)
		w.sweepAfter(2 * time.Second)
		w.stopped(s, aaa.CauseSessionTimeout)
	}
}

// An Interim interval that is set while a session runs is kept from then on.
func TestChangeInterim(t *testing.T) {
	w := start(t, testConfig())
	s := w.login(request("alice", client(1, 4000)))
	if err := w.Change(t.Context(), s.ID, Change{InterimInterval: to(2 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.clock.advance(2 * time.Minute)
		w.send(s, 1)
		w.sweep(t.Context())
	}
	w.billed(s, aaa.StatusStart, aaa.StatusInterim, aaa.StatusInterim, aaa.StatusInterim)
	if err := w.Change(t.Context(), s.ID, Change{InterimInterval: to(time.Duration(0))}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * time.Minute)
	w.send(s, 1)
	w.sweep(t.Context())
	w.billed(s, aaa.StatusStart, aaa.StatusInterim, aaa.StatusInterim, aaa.StatusInterim)
}

// What cannot be kept is not put in force.
func TestChangeFails(t *testing.T) {
	w := newWorld(t, testConfig())
	away := &away{Store: w.store}
	w.otherStore = away
	w.restart()
	s := w.login(request("alice", client(1, 4000)))
	offered := w.offer(request("bob", client(2, 4000)))
	rate := Change{Rate: &aaa.Rate{Up: 1}}
	fails(t, w.Change(t.Context(), offered.ID, rate), ErrNotFound)
	fails(t, w.Change(t.Context(), "0123456789abcdef01234567", rate), ErrNotFound)
	fails(t, w.Change(t.Context(), s.ID, Change{Class: [][]byte{make([]byte, maxOpaque)}}), ErrInvalid)
	away.gone = true
	fails(t, w.Change(t.Context(), s.ID, rate), ErrInProgress)
	if got := w.session(s.ID); got.Subscriber.Rate != (aaa.Rate{}) || got.Subscriber.Class != nil {
		t.Errorf("session is %+v after changes that failed", got)
	}
	if state, _ := w.tunnel(s.TunnelID); state.Rate != (datapath.Rate{}) {
		t.Errorf("tunnel is %+v after changes that failed", state)
	}
	w.forwards(s)
}

// away is a store that does not answer.
type away struct {
	lease.Store
	gone bool
}

func (a *away) Extend(ctx context.Context, ttl time.Duration, holders ...lease.Holder) ([]lease.Lost, error) {
	if a.gone {
		return nil, lease.ErrUnavailable
	}
	return a.Store.Extend(ctx, ttl, holders...)
}

// oracle is a backend that is asked again.
type oracle struct {
	asked []aaa.Renewal
	grant aaa.Subscriber
	err   error
}

func (o *oracle) Reauthorize(_ context.Context, r aaa.Renewal) (aaa.Subscriber, error) {
	o.asked = append(o.asked, r)
	return o.grant, o.err
}

// due lets time go by, in which all clients are heard of, looks once and authorizes again whoever is due.
func (w *world) due(d time.Duration) {
	w.Helper()
	w.clock.advance(d)
	for s := range w.Sessions(Filter{State: Active}) {
		w.send(s, 1)
	}
	found, err := w.look(w.Context(), w.settings.Load())
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range found.renew {
		if err := w.reauthorize(w.Context(), e); err != nil && !errors.Is(err, aaa.ErrUnavailable) {
			w.Error(err)
		}
	}
}

func TestReauthorize(t *testing.T) {
	w := newWorld(t, testConfig())
	w.oracle = &oracle{}
	w.restart()
	r := request("alice", client(1, 4000))
	r.Subscriber.SessionTimeout, r.Subscriber.Reauthorize = time.Hour, []byte("state 1")
	r.Subscriber.Class, r.Subscriber.Rate = [][]byte{{1}}, aaa.Rate{Down: 1e6}
	s := w.login(r)
	if s.Lifetime != 7*24*time.Hour {
		t.Errorf("lifetime %v: the client is told one that its backend may well extend", s.Lifetime)
	}
	w.sweep(t.Context())
	w.restart() // the State is not forgotten
	w.due(time.Hour - time.Second)
	if len(w.oracle.asked) != 0 {
		t.Error("asked again before the time")
	}
	w.oracle.err = aaa.ErrUnavailable
	w.due(2 * time.Second)
	w.forwards(s)

	w.oracle.err, w.oracle.grant = nil, aaa.Subscriber{
		Name: "alice", SessionTimeout: 30 * time.Minute, Reauthorize: []byte("state 2"), Rate: aaa.Rate{Down: 2e6},
	}
	w.due(time.Second)
	asked := w.oracle.asked
	if len(asked) != 2 || string(asked[1].Subscriber.Reauthorize) != "state 1" || asked[1].Session != s.ID || asked[1].Client != s.Client {
		t.Fatalf("asked %+v", asked)
	}
	if got := w.session(s.ID); got.Subscriber.Rate != (aaa.Rate{Down: 2e6}) || fmt.Sprint(got.Subscriber.Class) != "[[1]]" {
		t.Errorf("session is %+v", got)
	}
	w.due(29 * time.Minute)
	if len(w.oracle.asked) != 2 {
		t.Error("asked again before the time")
	}
	w.oracle.grant = aaa.Subscriber{Name: "alice", SessionTimeout: 10 * time.Minute}
	w.due(2 * time.Minute)
	if n := len(w.oracle.asked); n != 3 || string(w.oracle.asked[2].Subscriber.Reauthorize) != "state 2" {
		t.Fatalf("asked %+v", w.oracle.asked)
	}
	w.due(9 * time.Minute) // now it simply ends
	w.forwards(s)
	w.send(s, 1)
	w.sweepAfter(2 * time.Minute)
	w.stopped(s, aaa.CauseSessionTimeout)
}

// A session whose backend does not let it go on, or gives it other addresses, ends.
func TestReauthorizeEnds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		grant aaa.Subscriber
		err   error
		cause aaa.Cause
	}{
		{"rejected", aaa.Subscriber{}, fmt.Errorf("server: %w", aaa.ErrRejected), aaa.CauseReauthentication},
		{"nobody to ask", aaa.Subscriber{}, aaa.ErrUnknown, aaa.CauseSessionTimeout},
		{"another pool", aaa.Subscriber{Name: "alice", Pool: "gold"}, nil, aaa.CauseNASRequest},
		{"other routes", aaa.Subscriber{Name: "alice", Routes: []aaa.Route{{Prefix: netip.MustParsePrefix("2001:dba:1::/48")}}}, nil, aaa.CauseNASRequest},
		{"another prefix", aaa.Subscriber{Name: "alice", Prefix: netip.MustParsePrefix("2001:db8:1000:ff00::/56")}, nil, aaa.CauseNASRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, testConfig())
			w.oracle = &oracle{grant: tt.grant, err: tt.err}
			w.restart()
			r := request("alice", client(1, 4000))
			r.Subscriber.SessionTimeout, r.Subscriber.Reauthorize = time.Hour, []byte("state")
			s := w.login(r)
			w.due(time.Hour)
			w.stopped(s, tt.cause)
		})
	}
}
