// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
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
}

// raw speaks HTTP to the socket without the Client.
func (w *world) raw(method, path, body string) (int, string) {
	w.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", w.socket) }}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(w.Context(), method, "http://ddtb"+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// Whatever is asked, the answer is JSON with a status that fits.
func TestWrongRequests(t *testing.T) {
	w := start(t, nil)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/", "", 404},
		{"GET", "/v1/nothing", "", 404},
		{"GET", "/v2/status", "", 404},
		{"PUT", "/v1/status", "", 404},
		{"GET", "/v1/sessions?address=nonsense", "", 400},
		{"GET", "/v1/sessions?prefix=2001:db8::", "", 400},
		{"GET", "/v1/sessions?colour=red", "", 400},
		{"DELETE", "/v1/sessions", "", 400},
		{"DELETE", "/v1/sessions?user=a&client=b", "", 400},
		{"GET", "/v1/leases/main/x", "", 400},
		{"GET", "/v1/leases/main/99999999999", "", 400},
		{"PUT", "/v1/leases/main/1/reservation", "", 400},
		{"PUT", "/v1/leases/main/1/reservation", `{"user":"a"}{"user":"b"}`, 400},
		{"PUT", "/v1/leases/main/1/reservation", `{"person":"a"}`, 400},
		{"PUT", "/v1/leases/main/0/reservation", `{"user":"a"}`, 400},
		{"POST", "/v1/users", `[1,2`, 400},
		{"POST", "/v1/users", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, 413},
		{"PATCH", "/v1/users/a", `{"endpoint":"nonsense"}`, 400},
	} {
		status, body := w.raw(c.method, c.path, c.body)
		var e Error
		if err := json.Unmarshal([]byte(body), &e); status != c.status || err != nil || e.Message == "" {
			t.Errorf("%s %s: %d %s, expected %d", c.method, c.path, status, body, c.status)
		}
	}
}

// Who sends half a request, or nothing, is not waited for for ever, and does not keep the daemon from ending.
func TestSlowClients(t *testing.T) {
	w := start(t, nil)
	for _, begin := range []string{"", "GET /v1/st", "POST /v1/users HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"} {
		conn, err := net.Dial("unix", w.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(begin)); err != nil {
			t.Fatal(err)
		}
	}
	must[Status](t)(w.Status(t.Context()))
	w.server.grace = time.Millisecond
	w.end()
	if _, err := w.Status(t.Context()); err == nil {
		t.Error("it answers after its end")
	}
}

func TestTooManyRequests(t *testing.T) {
	w := start(t, nil)
	for range maxRequests {
		w.server.slots <- struct{}{}
	}
	_, err := w.Status(t.Context())
	refused(t, err, http.StatusServiceUnavailable)
	<-w.server.slots
	must[Status](t)(w.Status(t.Context()))
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

func TestListen(t *testing.T) {
	w := start(t, nil)
	info, err := os.Stat(w.socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if l, err := Listen(w.socket); err == nil {
		l.Close()
		t.Error("two serve one socket")
	}
	stale := filepath.Join(filepath.Dir(w.socket), "stale")
	addr := &net.UnixAddr{Name: stale, Net: "unix"}
	old, err := net.ListenUnix("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close() // as after a kill: the file stays
	l, err := Listen(stale)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	file := filepath.Join(filepath.Dir(w.socket), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(file); err == nil {
		l.Close()
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Error("the file is gone")
	}
}

func TestClientWithoutDaemon(t *testing.T) {
	c := NewClient("/nonexistent/socket")
	_, err := c.Status(t.Context())
	var answered *Error
	if err == nil || errors.As(err, &answered) || !strings.Contains(err.Error(), "/nonexistent/socket") || strings.Contains(err.Error(), "http://") {
		t.Errorf("error is %v", err)
	}
	for _, err := range c.Sessions(t.Context(), SessionFilter{}) {
		if err == nil {
			t.Error("there are sessions without a daemon")
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
