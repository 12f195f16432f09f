// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/fleet"
)

// other is a tunnel server that does what it is asked to, in words only.
type other struct {
	board   fleet.Board
	session fleet.Session
}

// startFleet makes a world of a fleet of two: "test", whose broker is real, and "other".
func startFleet(t *testing.T) (*world, *other) {
	board := fleet.NewMemory(nil)
	o := &other{board: board, session: fleet.Session{Session: provision.Session{
		ID: "0123456789abcdef01234567", State: provision.Active, Subscriber: aaa.Subscriber{Name: "zoe"}, Pool: "main", Encap: datapath.V6V4,
		Client: netip.MustParseAddrPort("203.0.113.9:0"), Local: netip.MustParseAddrPort("192.0.2.2:0"),
		Endpoint: netip.MustParseAddr("2001:db8:f000:1::77"), Prefix: netip.MustParsePrefix("2001:db9:0:7700::/56"),
	}}}
	w := start(t, func(d *Deps) {
		agent, err := fleet.New(d.Broker, board, fleet.Options{Name: "test", Address: localEnd.Addr(), Heartbeat: 10 * time.Millisecond, Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		d.Fleet = agent
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 2)
		ready := make(chan struct{})
		go func() { ended <- agent.Run(ctx) }()
		go func() {
			ended <- board.Follow(ctx, "other", fleet.Follower{Ready: func() { close(ready) }, Event: func(fleet.Event) {}, Command: o.obey})
		}()
		<-ready
		t.Cleanup(func() {
			cancel()
			for range 2 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
	})
	o.announce(fleet.Serving)
	if err := board.Write(t.Context(), "other", fleet.Batch{Put: []fleet.Session{o.session}, Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	return w, o
}

func (o *other) announce(state fleet.NodeState) {
	node := fleet.Node{Name: "other", Address: netip.MustParseAddr("192.0.2.2"), Epoch: time.Now(), Sessions: 1, Capacity: 10, Version: "2", State: state}
	_, _ = o.board.Announce(context.Background(), node, time.Hour) // in memory, where nothing fails
}

func (o *other) obey(c fleet.Command) {
	switch c.Verb {
	case fleet.Kick:
		_ = o.board.Write(context.Background(), "other", fleet.Batch{Drop: []string{c.Session}})
	case fleet.Drain:
		o.announce(fleet.Draining)
	case fleet.Undrain:
		o.announce(fleet.Serving)
	}
}

func TestNodes(t *testing.T) {
	w, _ := startFleet(t)
	w.login("alice", 1)
	states := func() map[string]string {
		out := map[string]string{}
		for _, n := range must[[]Node](t)(w.Nodes(t.Context())) {
			out[n.Name] = n.State
		}
		return out
	}
	if got := states(); len(got) != 2 || got["test"] != "serving" || got["other"] != "serving" {
		t.Errorf("servers are %v", got)
	}
	for _, n := range must[[]Node](t)(w.Nodes(t.Context())) {
		if n.Name == "test" && (n.Sessions != 1 || n.Capacity < 1000 || n.Address != localEnd.Addr() || n.Started == nil) {
			t.Errorf("this server is %+v", n)
		}
	}
	if err := w.Drain(t.Context(), "other", true); err != nil {
		t.Fatal(err)
	}
	if got := states(); got["other"] != "draining" {
		t.Errorf("servers are %v", got)
	}
	refused(t, w.Drain(t.Context(), "", true), http.StatusConflict)
	if err := w.Drain(t.Context(), "other", false); err != nil {
		t.Fatal(err)
	}
	if err := w.Drain(t.Context(), "", true); err != nil {
		t.Fatal(err)
	}
	if got := states()["test"]; got != "draining" && got != "drained" {
		t.Errorf("this server is %s", got)
	}
	refused(t, w.Drain(t.Context(), "nobody", true), http.StatusNotFound)
}

func TestSessionsOfAllNodes(t *testing.T) {
	w, o := startFleet(t)
	alice := w.login("alice", 1)
	all := func(f SessionFilter) []Session {
		f.All = true
		return collect(t, w.Sessions(t.Context(), f))
	}
	for _, s := range all(SessionFilter{}) {
		switch {
		case s.Node == "test" && s.ID == alice.ID && s.Expires != nil:
		case s.Node == "other" && s.ID == o.session.ID && s.User == "zoe" && s.Prefix != nil && *s.Prefix == o.session.Prefix && s.Expires == nil:
		default:
			t.Errorf("session %+v", s)
		}
	}
	for _, test := range []struct {
		filter SessionFilter
		want   int
	}{
		{SessionFilter{}, 2},
		{SessionFilter{State: "active"}, 2},
		{SessionFilter{User: "zoe"}, 1},
		{SessionFilter{User: "nobody"}, 0},
		{SessionFilter{Encap: "v6v4"}, 1},
		{SessionFilter{Client: netip.MustParseAddr("203.0.113.9")}, 1},
		{SessionFilter{Address: o.session.Endpoint}, 1},
		{SessionFilter{Address: netip.MustParseAddr("2001:db9:0:7711::1")}, 1},
		{SessionFilter{Prefix: netip.MustParsePrefix("2001:db9:0:7711::/64")}, 1},
		{SessionFilter{Prefix: netip.MustParsePrefix("2001:db8:f000:1::/112")}, 2},
		{SessionFilter{Prefix: netip.MustParsePrefix("2001:dba::/32")}, 0},
	} {
		if got := all(test.filter); len(got) != test.want {
			t.Errorf("%+v: %d sessions, expected %d", test.filter, len(got), test.want)
		}
	}
	if got := collect(t, w.Sessions(t.Context(), SessionFilter{})); len(got) != 1 {
		t.Errorf("%d sessions here", len(got))
	}
	for _, err := range w.Sessions(t.Context(), SessionFilter{All: true, State: "offered"}) {
		refused(t, err, http.StatusBadRequest)
	}
	if s := must[Session](t)(w.Session(t.Context(), o.session.ID)); s.Node != "other" || s.User != "zoe" {
		t.Errorf("session %+v", s)
	}
	if kicked := must[Kicked](t)(w.Kick(t.Context(), o.session.ID)); len(kicked.Sessions) != 1 {
		t.Errorf("kicked %+v", kicked)
	}
	_, err := w.Kick(t.Context(), o.session.ID)
	refused(t, err, http.StatusNotFound)
	if got := all(SessionFilter{}); len(got) != 1 {
		t.Errorf("%d sessions are left", len(got))
	}
}

// A daemon that knows of no others says so, or answers for itself.
func TestNoFleet(t *testing.T) {
	w := start(t, nil)
	w.login("alice", 1)
	_, err := w.Nodes(t.Context())
	refused(t, err, http.StatusNotFound)
	refused(t, w.Drain(t.Context(), "", true), http.StatusNotFound)
	if got := collect(t, w.Sessions(t.Context(), SessionFilter{All: true})); len(got) != 1 {
		t.Errorf("%d sessions", len(got))
	}
}
