// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

func TestFilters(t *testing.T) {
	w := start(t, testConfig())
	alice := w.login(request("alice", client(1, 1)))
	bob := w.login(v6v4(request("bob", client(2, 1))))
	guest := w.login(anonymous(client(1, 2)))
	offer := w.offer(request("carol", client(3, 1)))
	inner := alice.Prefix.Addr().Next()
	for name, c := range map[string]struct {
		filter Filter
		want   []Session
	}{
		"all":            {Filter{}, []Session{alice, bob, guest, offer}},
		"user":           {Filter{User: "alice"}, []Session{alice}},
		"endpoint":       {Filter{Address: bob.Endpoint}, []Session{bob}},
		"within prefix":  {Filter{Address: inner}, []Session{alice}},
		"prefix":         {Filter{Prefix: alice.Prefix}, []Session{alice}},
		"larger prefix":  {Filter{Prefix: netip.MustParsePrefix("2001:db8:1000::/40")}, []Session{alice, bob, offer}},
		"smaller prefix": {Filter{Prefix: netip.PrefixFrom(inner, 64)}, []Session{alice}},
		"of endpoints":   {Filter{Prefix: netip.MustParsePrefix("2001:db8:f000:2::/64")}, []Session{guest}},
		"client":         {Filter{Client: client(1, 0).Addr()}, []Session{alice, guest}},
		"mapped client":  {Filter{Client: netip.AddrFrom16(client(2, 0).Addr().As16())}, []Session{bob}},
		"encapsulation":  {Filter{Encap: datapath.V6V4}, []Session{bob}},
		"state":          {Filter{State: Offered}, []Session{offer}},
		"two":            {Filter{State: Active, User: "carol"}, nil},
		"nobody":         {Filter{Address: netip.MustParseAddr("2001:db8::1")}, nil},
	} {
		var want, got []string
		for _, s := range c.want {
			want = append(want, s.ID)
		}
		for s := range w.Sessions(c.filter) {
			got = append(got, s.ID)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: found %v, expected %v", name, got, want)
		}
	}
	if s, ok := w.Tunnel(bob.TunnelID); !ok || s.ID != bob.ID {
		t.Errorf("tunnel %d is %+v", bob.TunnelID, s)
	}
	if _, ok := w.Tunnel(offer.TunnelID); ok {
		t.Error("an offer has a tunnel")
	}
}

// Whoever lists may stop, and may act on what he lists.
func TestListingWhileSessionsChange(t *testing.T) {
	w := start(t, testConfig())
	for n := range 3000 {
		w.login(request(fmt.Sprint("user", n), client(n+1, 1)))
	}
	for s := range w.Sessions(Filter{}) {
		if err := w.Release(t.Context(), s.ID, aaa.CauseAdminReset); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count(Filter{}); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	w.login(request("alice", client(1, 1)))
	for range w.Sessions(Filter{}) {
		break
	}
	w.login(request("bob", client(2, 1))) // the table is not locked
}

func TestEvents(t *testing.T) {
	w := start(t, testConfig())
	watcher, err := w.Watch()
	if err != nil {
		t.Fatal(err)
	}
	old := w.login(request("alice", client(1, 1)))
	fresh := w.login(request("alice", client(2, 2)))
	if err := w.Release(t.Context(), fresh.ID, aaa.CauseAdminReset); err != nil {
		t.Fatal(err)
	}
	silent := w.login(request("bob", client(3, 3)))
	w.sweepAfter(2 * time.Minute)
	var got []string
	for len(got) < 6 {
		events, err := watcher.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			got = append(got, fmt.Sprint(e.Kind, " ", e.Session.ID, " ", e.Cause))
		}
	}
	want := []string{
		fmt.Sprint("login ", old.ID, " ", aaa.Cause(0)), fmt.Sprint("takeover ", old.ID, " Port-Preempted"), fmt.Sprint("login ", fresh.ID, " ", aaa.Cause(0)),
		fmt.Sprint("kick ", fresh.ID, " Admin-Reset"), fmt.Sprint("login ", silent.ID, " ", aaa.Cause(0)), fmt.Sprint("logout ", silent.ID, " Lost-Carrier"),
	}
	if !slices.Equal(got, want) {
		t.Errorf("events are\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	watcher.Close()
	watcher.Close()
	w.login(request("alice", client(1, 1)))
	if w.events.watched() || len(watcher.events) != 0 {
		t.Error("a closed watcher goes on collecting")
	}
}

func TestSlowWatcherIsToldWhatItMissed(t *testing.T) {
	var h hub
	w, err := h.watch()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1, 0)
	send := func(n int) {
		for range n {
			h.send(Event{Time: at, Kind: EventLogin})
		}
	}
	send(watcherDepth + 7)
	events, err := w.Next(t.Context())
	if err != nil || len(events) != watcherDepth {
		t.Fatalf("%d events, %v", len(events), err)
	}
	send(3)
	events, err = w.Next(t.Context())
	if err != nil || len(events) != 4 || events[0].Kind != EventLost || events[0].Lost != 7 || events[1].Kind != EventLogin {
		t.Errorf("then %+v, %v", events, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if events, err := w.Next(ctx); err == nil {
		t.Errorf("then %+v", events)
	}
	for range maxWatchers - 1 {
		if _, err := h.watch(); err != nil {
			t.Fatal(err)
		}
	}
	_, err = h.watch()
	fails(t, err, ErrBusy)
	w.Close()
	if _, err := h.watch(); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	w := start(t, testConfig())
	s := w.login(request("alice", client(1, 1)))
	w.login(v6v4(request("bob", client(2, 1))))
	w.offer(request("carol", client(3, 1)))
	w.send(s, 10)
	w.path.Inject(datapath.V6UDPV4, local, client(9, 9), []byte{0x60})
	r := request("dave", client(4, 1))
	r.PrefixLen = 32
	_, err := w.Offer(t.Context(), r)
	fails(t, err, ErrPrefixLength)
	w.sweepAfter(time.Second)
	problems, err := testutil.GatherAndLint(w.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	want := `
# HELP ddtb_dropped_packets_total Packets not forwarded.
# TYPE ddtb_dropped_packets_total counter
ddtb_dropped_packets_total{reason="malformed"} 1
# HELP ddtb_leases Indices of a pool.
# TYPE ddtb_leases gauge
ddtb_leases{pool="gold",state="active"} 0
ddtb_leases{pool="gold",state="idle"} 0
ddtb_leases{pool="gold",state="reserved"} 0
ddtb_leases{pool="gold",state="unused"} 1023
ddtb_leases{pool="guest",state="active"} 0
ddtb_leases{pool="guest",state="idle"} 0
ddtb_leases{pool="guest",state="reserved"} 0
ddtb_leases{pool="guest",state="unused"} 255
ddtb_leases{pool="main",state="active"} 3
ddtb_leases{pool="main",state="idle"} 0
ddtb_leases{pool="main",state="reserved"} 0
ddtb_leases{pool="main",state="unused"} 65532
# HELP ddtb_logins_total Tunnel requests of authenticated subscribers.
# TYPE ddtb_logins_total counter
ddtb_logins_total{result="accepted"} 2
ddtb_logins_total{result="address_in_use"} 0
ddtb_logins_total{result="anonymous_prefix"} 0
ddtb_logins_total{result="busy"} 0
ddtb_logins_total{result="client_address"} 0
ddtb_logins_total{result="denied"} 0
ddtb_logins_total{result="full"} 0
ddtb_logins_total{result="in_progress"} 0
ddtb_logins_total{result="not_found"} 0
ddtb_logins_total{result="other"} 0
ddtb_logins_total{result="prefix_length"} 1
# HELP ddtb_octets_total Octets of inner packets, as of the last sweep.
# TYPE ddtb_octets_total counter
ddtb_octets_total{direction="receive"} 1000
ddtb_octets_total{direction="transmit"} 500
# HELP ddtb_offers Tunnels offered and not yet accepted.
# TYPE ddtb_offers gauge
ddtb_offers 1
# HELP ddtb_packets_total Inner packets, as of the last sweep.
# TYPE ddtb_packets_total counter
ddtb_packets_total{direction="receive"} 10
ddtb_packets_total{direction="transmit"} 5
# HELP ddtb_sessions Tunnels in force.
# TYPE ddtb_sessions gauge
ddtb_sessions{encap="v6udpv4"} 1
ddtb_sessions{encap="v6v4"} 1
# HELP ddtb_sessions_ending Ended sessions whose accounting or lease is still owed.
# TYPE ddtb_sessions_ending gauge
ddtb_sessions_ending 0
`
	err = testutil.GatherAndCompare(w.registry, strings.NewReader(want), "ddtb_dropped_packets_total", "ddtb_leases", "ddtb_logins_total",
		"ddtb_octets_total", "ddtb_offers", "ddtb_packets_total", "ddtb_sessions", "ddtb_sessions_ending")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(w.registry, "ddtb_sweep_duration_seconds"); n != 1 || err != nil {
		t.Errorf("%d histograms of sweeps, %v", n, err)
	}
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	if err := testConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(*Config){
		"node:":                  func(c *Config) { c.Node = "" },
		"server: invalid":        func(c *Config) { c.Server = netip.Addr{} },
		"server: 192.0.2.1":      func(c *Config) { c.Server = local.Addr() },
		"server: 2001:db8:1000:": func(c *Config) { c.Server = c.Pools[0].Prefix(9).Addr() },
		"pools:":                 func(c *Config) { c.Pools = nil },
		"default_pool:":          func(c *Config) { c.DefaultPool = "none" },
		"anonymous_pool:":        func(c *Config) { c.AnonymousPool = "none" },
		"lifetime:":              func(c *Config) { c.Lifetime = time.Second },
		"keepalive.min:":         func(c *Config) { c.Keepalive.Min = -time.Second },
		"keepalive.max:":         func(c *Config) { c.Keepalive.Max = time.Second },
		"keepalive.default:":     func(c *Config) { c.Keepalive.Default = time.Hour },
		"lost_after:":            func(c *Config) { c.LostAfter = -1 },
		"lost_unasked:":          func(c *Config) { c.LostUnasked = time.Second },
		"idle_timeout:":          func(c *Config) { c.IdleTimeout = time.Second },
		"mtu:":                   func(c *Config) { c.MTU = 1000 },
		"sessions:":              func(c *Config) { c.Sessions.Limit = MaxSlots + 1 },
		"max_sessions:":          func(c *Config) { c.MaxSessions = -1 },
		"max_negotiating:":       func(c *Config) { c.MaxNegotiating = -1 },
		"anonymous_per_address:": func(c *Config) { c.AnonymousPerAddress = -1 },
		"offer_timeout:":         func(c *Config) { c.OfferTimeout = time.Millisecond },
		"sweep_interval:":        func(c *Config) { c.SweepInterval = time.Millisecond },
		"lease_ttl:":             func(c *Config) { c.LeaseTTL = time.Second },
		"interim:":               func(c *Config) { c.Interim = time.Second },
	} {
		config := testConfig()
		change(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("expected an error about %q, got %v", key, err)
		}
		if _, err := New(config, Deps{}); err == nil {
			t.Errorf("%s: a Broker was made all the same", key)
		}
	}
	if _, err := New(testConfig(), Deps{}); err == nil {
		t.Error("a Broker was made without store and datapath")
	}
}

func TestReload(t *testing.T) {
	w := start(t, testConfig())
	old := w.login(request("alice", client(1, 1)))
	next := testConfig()
	next.Keepalive.Default, next.Lifetime, next.MaxSessions = 60*time.Second, time.Hour, 1
	if err := w.Reload(next); err != nil {
		t.Fatal(err)
	}
	if s := w.session(old.ID); s.Lifetime != old.Lifetime {
		t.Errorf("a running session was changed to %+v", s)
	}
	_, err := w.Offer(t.Context(), request("bob", client(2, 1)))
	fails(t, err, ErrFull)
	if s := w.login(request("alice", client(1, 1))); s.Lifetime != time.Hour {
		t.Errorf("session is %+v", s)
	}
	for name, change := range map[string]func(*Config){
		"node":    func(c *Config) { c.Node = "other" },
		"server":  func(c *Config) { c.Server = netip.MustParseAddr("2001:db8:f000::2") },
		"pool":    func(c *Config) { c.Pools[0].Size-- },
		"removed": func(c *Config) { c.Pools = c.Pools[:2] },
		"invalid": func(c *Config) { c.MTU = 1 },
	} {
		config := testConfig()
		change(&config)
		if w.Reload(config) == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	if w.Status().Config.MaxSessions != 1 {
		t.Error("a refused configuration left its marks")
	}
}

func TestLocks(t *testing.T) {
	l := newLocks()
	if err := l.lock(t.Context(), "a"); err != nil || l.tryLock("a") || !l.tryLock("b") {
		t.Fatal("a is not locked, or b is", err)
	}
	l.unlock("b")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l.lock(ctx, "a") == nil {
		t.Error("locked twice")
	}
	const workers, rounds = 8, 500
	count := 0
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for range rounds {
				if err := l.lock(t.Context(), "a"); err != nil {
					t.Error(err)
					return
				}
				count++
				l.unlock("a")
			}
		})
	}
	l.unlock("a")
	wait.Wait()
	if count != workers*rounds || len(l.keys) != 0 {
		t.Errorf("%d of %d, %d locks left", count, workers*rounds, len(l.keys))
	}
}

// Waiters that give up at the moment they are let in leave the lock to the others.
func TestLocksOfImpatientWaiters(t *testing.T) {
	l := newLocks()
	var wait sync.WaitGroup
	for n := range 8 {
		wait.Go(func() {
			for i := range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+n)%3 == 0 {
					go cancel()
				}
				if l.lock(ctx, "a") == nil {
					l.unlock("a")
				}
				cancel()
			}
		})
	}
	wait.Wait()
	if len(l.keys) != 0 {
		t.Errorf("%d locks left", len(l.keys))
	}
}
