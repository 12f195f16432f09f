// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
)

func TestStatusHealthAndConfig(t *testing.T) {
	var sick error
	w := start(t, func(d *Deps) { d.Health = func() error { return sick } })
	w.login("alice", 1)
	status := must[Status](t)(w.Status(t.Context()))
	if status.Node != "test" || status.Version != "1.2.3" || status.Datapath != "null" || !status.Ready || status.Server != tunnelServer ||
		status.Sessions["v6udpv4"] != 1 || status.Sessions["v6v4"] != 0 || status.Logins != 1 || status.MaxSession != 1_000_000 {
		t.Errorf("status is %+v", status)
	}
	if health := must[Health](t)(w.Health(t.Context())); !health.Ready {
		t.Errorf("health is %+v", health)
	}
	sick = errors.New("the spool is full")
	if health := must[Health](t)(w.Health(t.Context())); health.Ready || health.Why != "the spool is full" {
		t.Errorf("health is %+v", health)
	}
	if status := must[Status](t)(w.Status(t.Context())); status.Ready {
		t.Error("it says it is ready")
	}
	sick = nil
	if err := w.broker.Shutdown(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if health := must[Health](t)(w.Health(t.Context())); health.Ready || health.Why == "" {
		t.Errorf("health is %+v", health)
	}
	config := must[Config](t)(w.Config(t.Context()))
	if string(config) != `{"server":{"name":"test"}}` {
		t.Errorf("configuration is %s", config)
	}
}

func TestSessions(t *testing.T) {
	w := start(t, nil)
	alice, bob := w.login("alice", 1), w.login("bob", 2)
	got := must[Session](t)(w.Session(t.Context(), alice.ID))
	if got.User != "alice" || got.State != "active" || got.Encap != "v6udpv4" || got.Endpoint != alice.Endpoint || *got.Prefix != alice.Prefix ||
		got.Client != alice.Client || got.Local != localEnd || time.Duration(got.Keepalive) != time.Minute || !got.Since.Equal(alice.Since) ||
		!got.Expires.Equal(alice.Since.Add(alice.Lifetime)) || got.TunnelID != alice.TunnelID || got.Pool != "main" || got.Backend != "local" {
		t.Errorf("session is %+v, expected %+v", got, alice)
	}
	for name, c := range map[string]struct {
		filter SessionFilter
		want   []provision.Session
	}{
		"all":     {SessionFilter{}, []provision.Session{alice, bob}},
		"user":    {SessionFilter{User: "bob"}, []provision.Session{bob}},
		"address": {SessionFilter{Address: alice.Prefix.Addr().Next()}, []provision.Session{alice}},
		"prefix":  {SessionFilter{Prefix: bob.Prefix}, []provision.Session{bob}},
		"client":  {SessionFilter{Client: alice.Client.Addr()}, []provision.Session{alice}},
		"encap":   {SessionFilter{Encap: "v6v4"}, nil},
		"state":   {SessionFilter{State: "active", User: "alice"}, []provision.Session{alice}},
	} {
		var want []Session
		for _, s := range c.want {
			want = append(want, sessionOf(s))
		}
		found := collect(t, w.Sessions(t.Context(), c.filter))
		slices.SortFunc(found, func(a, b Session) int { return strings.Compare(a.User, b.User) })
		if ids(found) != ids(want) {
			t.Errorf("%s: found %v, expected %v", name, ids(found), ids(want))
		}
	}
	for _, filter := range []SessionFilter{{Encap: "gre"}, {State: "dead"}} {
		for _, err := range w.Sessions(t.Context(), filter) {
			refused(t, err, http.StatusBadRequest)
		}
	}
	_, err := w.Session(t.Context(), "no such")
	refused(t, err, http.StatusNotFound)
}

func TestKick(t *testing.T) {
	w := start(t, nil)
	alice, bob := w.login("alice", 1), w.login("bob", 2)
	if got := must[Kicked](t)(w.Kick(t.Context(), alice.ID)); !slices.Equal(got.Sessions, []string{alice.ID}) {
		t.Errorf("kicked %+v", got)
	}
	_, err := w.Kick(t.Context(), alice.ID)
	refused(t, err, http.StatusNotFound)
	if got := must[Kicked](t)(w.KickUser(t.Context(), "bob")); !slices.Equal(got.Sessions, []string{bob.ID}) {
		t.Errorf("kicked %+v", got)
	}
	if got := must[Kicked](t)(w.KickUser(t.Context(), "nobody")); got.Sessions == nil || len(got.Sessions) != 0 {
		t.Errorf("kicked %+v", got)
	}
	_, err = w.KickUser(t.Context(), "")
	refused(t, err, http.StatusBadRequest)
	if all := collect(t, w.Sessions(t.Context(), SessionFilter{})); len(all) != 0 {
		t.Errorf("left are %+v", all)
	}
}

func TestEvents(t *testing.T) {
	w := start(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next, stop := iter.Pull2(w.Events(ctx))
	defer stop()
	events := make(chan Event)
	go func() {
		defer close(events)
		for {
			event, err, ok := next()
			if !ok || err != nil {
				return
			}
			events <- event
		}
	}()
	for must[Status](t)(w.Status(ctx)).Watchers == 0 {
		if ctx.Err() != nil {
			t.Fatal("nobody watches")
		}
	}
	alice := w.login("alice", 1)
	if e := <-events; e.Kind != "login" || e.Session.ID != alice.ID || e.Session.User != "alice" || e.Cause != "" {
		t.Errorf("event is %+v", e)
	}
	must[Kicked](t)(w.Kick(ctx, alice.ID))
	if e := <-events; e.Kind != "kick" || e.Session.ID != alice.ID || e.Cause != "Admin-Reset" {
		t.Errorf("event is %+v", e)
	}
	w.end() // a watcher does not keep the daemon from ending
	if e, ok := <-events; ok {
		t.Errorf("event is %+v", e)
	}
}

func TestDrops(t *testing.T) {
	w := start(t, nil)
	if drops := must[[]Drop](t)(w.Drops(t.Context())); len(drops) != 0 {
		t.Errorf("drops are %+v", drops)
	}
	alice := w.login("alice", 1)
	packet := make([]byte, 48) // an IPv6 packet of alice's, from somebody else's outer address
	packet[0], packet[5], packet[6], packet[7] = 0x60, 8, 17, 64
	copy(packet[8:], alice.Endpoint.AsSlice())
	copy(packet[24:], netip.MustParseAddr("2001:db8:1::1").AsSlice())
	w.path.Inject(datapath.V6UDPV4, localEnd, netip.MustParseAddrPort("203.0.113.9:1"), packet)
	drops := must[[]Drop](t)(w.Drops(t.Context()))
	if len(drops) != 1 || drops[0].Reason != "outer_source" || drops[0].Packets != 1 || drops[0].Session != alice.ID ||
		drops[0].Inner != alice.Endpoint || drops[0].Remote.Addr() != netip.MustParseAddr("203.0.113.9") {
		t.Errorf("drops are %+v", drops)
	}
	w.login("bob", 2)
	want := TunnelDrop{
		Tunnel: alice.TunnelID, Reason: "outer_source", Packets: 1, Session: alice.ID, User: "alice", Endpoint: alice.Endpoint,
	}
	for _, test := range []struct {
		filter TunnelDropFilter
		want   []TunnelDrop
	}{
		{TunnelDropFilter{}, []TunnelDrop{want}},
		{TunnelDropFilter{Tunnel: alice.TunnelID, User: "alice", Reason: "outer_source"}, []TunnelDrop{want}},
		{TunnelDropFilter{Tunnel: alice.TunnelID + 1}, nil},
		{TunnelDropFilter{User: "bob"}, nil},
		{TunnelDropFilter{User: "nobody"}, nil},
		{TunnelDropFilter{Reason: "rate"}, nil},
	} {
		var got []TunnelDrop
		for d, err := range w.TunnelDrops(t.Context(), test.filter) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, d)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: drops are %+v, want %+v", test.filter, got, test.want)
		}
	}
	for _, err := range w.TunnelDrops(t.Context(), TunnelDropFilter{Reason: "weather"}) {
		if err == nil {
			t.Error("there is such a reason")
		}
	}
}

func TestEventOfLoss(t *testing.T) {
	e := eventOf(provision.Event{Kind: provision.EventLost, Lost: 7})
	if e.Session != nil || e.Lost != 7 || e.Kind != "lost" {
		t.Errorf("event is %+v", e)
	}
	if e := eventOf(provision.Event{Kind: provision.EventLogout, Cause: aaa.CauseLostCarrier}); e.Cause != "Lost-Carrier" {
		t.Errorf("event is %+v", e)
	}
}

// BenchmarkList is a list of 50,000 sessions from the broker to the client's hands.
func BenchmarkList(b *testing.B) {
	const n = 50_000
	w := start(b, nil)
	for i := range n {
		w.login(fmt.Sprint("subscriber", i), i+1)
	}
	b.Run("client", func(b *testing.B) {
		for b.Loop() {
			if got := len(collect(b, w.Sessions(context.Background(), SessionFilter{}))); got != n {
				b.Fatal(got)
			}
		}
	})
	b.Run("server", func(b *testing.B) {
		for b.Loop() {
			response, err := w.send(context.Background(), http.MethodGet, "/v1/sessions", nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			lines := 0
			for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
				lines++
			}
			if response.Body.Close(); lines != n {
				b.Fatal(lines)
			}
		}
	})
}
