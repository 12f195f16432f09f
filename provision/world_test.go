// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// clock is a time that goes on when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a Broker with everything around it in memory, which outlives the Broker.
type world struct {
	testing.TB
	*Broker
	clock    *clock
	config   Config
	store    lease.Store
	path     *datapath.Null
	records  *aaatest.Recorder
	registry *prometheus.Registry

	// What the Broker gets in the place of store, path and records, if set.
	otherStore lease.Store
	otherPath  datapath.Datapath
	accountant aaa.Accountant
	oracle     *oracle // asked again about sessions, if set
	peers      Peers   // of a server that shares its lease store, if set
}

var (
	local      = netip.MustParseAddrPort("192.0.2.1:3653")
	testServer = netip.MustParseAddr("2001:db8:f000::1")
)

func testPools() []lease.Pool {
	return []lease.Pool{
		{
			Name: "main", First: 1000, Size: 1 << 16, PrefixLen: 56,
			EndpointBase: netip.MustParseAddr("2001:db8:f000:1::"), PrefixBase: netip.MustParseAddr("2001:db8:1000::"),
		},
		{Name: "guest", First: 100000, Size: 256, EndpointBase: netip.MustParseAddr("2001:db8:f000:2::")},
		{
			Name: "gold", First: 200000, Size: 1 << 10, PrefixLen: 48,
			EndpointBase: netip.MustParseAddr("2001:db8:f000:3::"), PrefixBase: netip.MustParseAddr("2001:db9::"),
		},
	}
}

func testConfig() Config {
	return Config{
		Node: "test", Server: testServer, Pools: testPools(), AnonymousPool: "guest",
		Keepalive: Keepalive{Min: 10 * time.Second, Default: 30 * time.Second, Max: 5 * time.Minute},
	}
}

// newWorld makes everything but the Broker.
func newWorld(t testing.TB, config Config) *world {
	t.Helper()
	w := &world{TB: t, clock: newClock(), config: config, records: &aaatest.Recorder{}}
	var err error
	if w.store, err = lease.NewMemory(config.Pools, lease.Options{Clock: w.clock.Now}); err != nil {
		t.Fatal(err)
	}
	w.path = datapath.NewNull(w.clock.Now)
	path := datapath.Config{Device: "test0", Local: []netip.AddrPort{local}, Server: config.Server, MTU: 1480}
	for _, pool := range config.Pools {
		path.Pools = append(path.Pools, datapath.Pool(pool))
	}
	if err := w.path.Configure(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return w
}

// start makes a world with a Broker that has recovered.
func start(t testing.TB, config Config) *world {
	t.Helper()
	w := newWorld(t, config)
	w.restart()
	return w
}

// restart puts a new Broker in the place of the last one, as if the process had been killed.
func (w *world) restart() {
	w.Helper()
	w.registry = prometheus.NewRegistry()
	deps := Deps{
		Store: w.store, Datapath: w.path, Accountant: w.records,
		Logger: zerolog.Nop(), Registerer: w.registry, Clock: w.clock.Now,
	}
	if w.otherStore != nil {
		deps.Store = w.otherStore
	}
	if w.otherPath != nil {
		deps.Datapath = w.otherPath
	}
	if w.accountant != nil {
		deps.Accountant = w.accountant
	}
	if w.oracle != nil {
		deps.Backends = w.oracle
	}
	var err error
	if w.Broker, err = New(w.config, deps); err != nil {
		w.Fatal(err)
	}
	if w.peers != nil {
		w.Join(w.peers)
	}
	if err := w.Recover(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// client is an outer address; n is the host, from 1.
func client(n int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), port)
}

func request(name string, from netip.AddrPort) Request {
	return Request{
		Subscriber: aaa.Subscriber{Name: name, Backend: "local", Authentic: aaa.AuthenticLocal},
		Encap:      datapath.V6UDPV4,
		Client:     from,
		Local:      local,
		Router:     true,
		Keepalive:  30 * time.Second,
	}
}

func v6v4(r Request) Request {
	r.Encap = datapath.V6V4
	return r
}

func anonymous(from netip.AddrPort) Request {
	r := request("", from)
	r.Subscriber, r.Router = aaa.Subscriber{Anonymous: true, Backend: "anonymous"}, false
	return r
}

// offer is Offer that has to come through.
func (w *world) offer(r Request) Session {
	w.Helper()
	s, err := w.Offer(w.Context(), r)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// login is Offer and Activate that have to come through.
func (w *world) login(r Request) Session {
	w.Helper()
	s := w.offer(r)
	if err := w.Activate(w.Context(), s.ID); err != nil {
		w.Fatal(err)
	}
	return w.session(s.ID)
}

// session is a session that has to be there.
func (w *world) session(id string) Session {
	w.Helper()
	s, ok := w.Session(id)
	if !ok {
		w.Fatalf("session %s is gone", id)
	}
	return s
}

// sweepAfter lets time go by and sweeps once.
func (w *world) sweepAfter(d time.Duration) {
	w.Helper()
	w.clock.advance(d)
	w.sweep(w.Context())
}

// send lets a session's client send so many packets of 100 octets, and get half as many.
func (w *world) send(s Session, packets uint64) {
	w.Helper()
	traffic := datapath.Counters{RxPackets: packets, RxBytes: 100 * packets, TxPackets: packets / 2, TxBytes: 50 * packets}
	if err := w.path.Count(s.TunnelID, traffic); err != nil {
		w.Fatal(err)
	}
}

// tunnel is the tunnel in force with an id.
func (w *world) tunnel(id uint32) (datapath.State, bool) {
	for state, err := range w.path.All(w.Context()) {
		if err != nil {
			w.Fatal(err)
		}
		if state.ID == id {
			return state, true
		}
	}
	return datapath.State{}, false
}

// forwards wants the tunnel of a session to be in force, to its client.
func (w *world) forwards(s Session) {
	w.Helper()
	id, _ := parseID(s.ID)
	state, ok := w.tunnel(s.TunnelID)
	switch {
	case !ok:
		w.Errorf("tunnel %d of %s is not in force", s.TunnelID, s.ID)
	case state.Session != id.tunnel() || state.Remote != s.Client || state.Endpoint != s.Endpoint || state.Prefix != s.Prefix || state.Routes != s.Routes:
		w.Errorf("tunnel %d is %+v, not that of session %+v", s.TunnelID, state.Tunnel, s)
	}
}

// gone wants a session to be nowhere.
func (w *world) gone(s Session) {
	w.Helper()
	id, _ := parseID(s.ID)
	if _, ok := w.Session(s.ID); ok {
		w.Errorf("session %s is still there", s.ID)
	}
	if state, ok := w.tunnel(s.TunnelID); ok && state.Session == id.tunnel() {
		w.Errorf("tunnel %d of %s is still in force", s.TunnelID, s.ID)
	}
	if l := w.lease(s); l.Session == s.ID {
		w.Errorf("session %s still has lease %d", s.ID, l.Index)
	}
}

// lease is the lease of a session's index.
func (w *world) lease(s Session) lease.Lease {
	w.Helper()
	for l, err := range w.store.All(w.Context()) {
		if err != nil {
			w.Fatal(err)
		}
		if l.ID == s.TunnelID && l.State != lease.Displaced {
			return l
		}
	}
	return lease.Lease{}
}

// billed wants the records of a session to have these statuses, and gives them.
func (w *world) billed(s Session, statuses ...aaa.Status) []aaa.Record {
	w.Helper()
	records := w.records.Session(s.ID)
	var got []aaa.Status
	for _, r := range records {
		got = append(got, r.Status)
	}
	if fmt.Sprint(got) != fmt.Sprint(statuses) {
		w.Fatalf("records of %s have status %v, expected %v", s.ID, got, statuses)
	}
	return records
}

// stopped wants a session to be gone with one Start and one Stop record, the Stop of this cause, and gives that.
func (w *world) stopped(s Session, cause aaa.Cause) aaa.Record {
	w.Helper()
	w.gone(s)
	records := w.billed(s, aaa.StatusStart, aaa.StatusStop)
	if records[1].Cause != cause {
		w.Errorf("session %s stopped for cause %d, expected %d", s.ID, records[1].Cause, cause)
	}
	return records[1]
}

// fails wants an error that is target.
func fails(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error is %v, expected %v", err, target)
	}
}

// count is how many sessions match a filter.
func (w *world) count(f Filter) (n int) {
	for range w.Sessions(f) {
		n++
	}
	return n
}

// failing is an accountant that refuses some records.
type failing struct {
	aaa.Accountant
	refuse func(aaa.Record) bool
}

func (f failing) Account(ctx context.Context, r aaa.Record) error {
	if f.refuse(r) {
		return errors.New("the disk is full")
	}
	return f.Accountant.Account(ctx, r)
}
