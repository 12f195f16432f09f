// SPDX-License-Identifier: GPL-2.0-or-later

package route_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
	"ddtb/provision/route"
	"ddtb/provision/route/routetest"
)

func TestMemory(t *testing.T) { routetest.Run(t, &route.Memory{}) }

var local = netip.MustParseAddrPort("192.0.2.1:3653")

// newBroker makes a broker that has recovered what is in store.
func newBroker(t *testing.T, store lease.Store, path datapath.Datapath) *provision.Broker {
	t.Helper()
	config := provision.Config{Node: "ts1", Server: netip.MustParseAddr("2001:db8:f000::1"), Pools: pools()}
	broker, err := provision.New(config, provision.Deps{Store: store, Datapath: path, Logger: zerolog.Nop()})
	if err == nil {
		err = broker.Recover(t.Context())
	}
	must(t, err)
	return broker
}

func pools() []lease.Pool {
	return []lease.Pool{{
		Name: "homes", Size: 1 << 12, PrefixLen: 56,
		EndpointBase: netip.MustParseAddr("2001:db8:f000:1::"), PrefixBase: netip.MustParseAddr("2001:db8:1000::"),
	}}
}

func newPath(t *testing.T) *datapath.Null {
	t.Helper()
	path := datapath.NewNull(time.Now)
	c := datapath.Config{Device: "test0", Local: []netip.AddrPort{local}, Server: netip.MustParseAddr("2001:db8:f000::1"), MTU: 1280}
	c.Pools = []datapath.Pool{datapath.Pool(pools()[0])}
	must(t, path.Configure(t.Context(), c))
	return path
}

func login(t *testing.T, broker *provision.Broker, user string, client byte, router bool, routes ...string) provision.Session {
	t.Helper()
	sub := aaa.Subscriber{Name: user, Backend: "local"}
	for _, text := range routes {
		route, err := aaa.ParseRoute(text)
		must(t, err)
		sub.Routes = append(sub.Routes, route)
	}
	s, err := broker.Offer(t.Context(), provision.Request{
		Subscriber: sub, Encap: datapath.V6UDPV4, Router: router, Keepalive: time.Minute,
		Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, client}), 4000), Local: local,
	})
	must(t, err)
	must(t, broker.Activate(t.Context(), s.ID))
	return s
}

// export runs an Exporter until the test or stop ends it.
func export(t *testing.T, broker *provision.Broker, table route.Table, every time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- route.New(broker, table, every, zerolog.Nop()).Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually awaits that a table has routes to just what these sessions have.
func eventually(t *testing.T, table route.Table, sessions ...provision.Session) {
	t.Helper()
	var want, got []string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		want, got = nil, nil
		found := map[netip.Prefix]bool{}
		there, err := table.List()
		must(t, err)
		for _, prefix := range there {
			found[prefix] = true
			got = append(got, prefix.String())
		}
		right := true
		for _, s := range sessions {
			for _, prefix := range slices.AppendSeq([]netip.Prefix{netip.PrefixFrom(s.Endpoint, 128), s.Prefix}, s.Routes.All()) {
				if prefix.IsValid() {
					want = append(want, prefix.String())
					right = right && found[prefix]
				}
			}
		}
		if right && len(got) == len(want) {
			return
		}
	}
	t.Fatalf("routes to %v, expected to %v", got, want)
}

func TestExporter(t *testing.T) {
	store, err := lease.NewMemory(pools(), lease.Options{})
	must(t, err)
	path, table := newPath(t), &route.Memory{}
	stray := netip.MustParsePrefix("2001:db8:1000:9900::/56")
	must(t, table.Add(stray))
	broker := newBroker(t, store, path)
	stop := export(t, broker, table, 0)
	eventually(t, table) // the stray is gone
	alice, bob := login(t, broker, "alice", 1, true, "2001:db8:8000::/48 :: 1", "2001:db8:8001::5/128"), login(t, broker, "bob", 2, false)
	eventually(t, table, alice, bob)
	again := login(t, broker, "alice", 3, false, "2001:db8:8001::5/128") // the same endpoint, and no prefix any more, and one route less
	eventually(t, table, again, bob)
	must(t, broker.Release(t.Context(), bob.ID, aaa.CauseUserRequest))
	eventually(t, table, again)

	// The daemon ends; while it is away a route is lost, and another comes.
	stop()
	eventually(t, table, again)
	must(t, table.Delete(netip.PrefixFrom(again.Endpoint, 128)))
	must(t, table.Add(stray))
	broker = newBroker(t, store, path)
	export(t, broker, table, 10*time.Millisecond)
	eventually(t, table, again)
	must(t, table.Add(stray)) // and once in a while all is compared
	eventually(t, table, again)
}

// A session that replaces another of the same addresses does not make their routes go and come.
func TestNoFlap(t *testing.T) {
	store, err := lease.NewMemory(pools(), lease.Options{})
	must(t, err)
	broker := newBroker(t, store, newPath(t))
	table := &counting{}
	export(t, broker, table, 0)
	var last provision.Session
	for i := range byte(50) {
		last = login(t, broker, "alice", i+1, true)
	}
	end := login(t, broker, "bob", 100, true)
	eventually(t, table, last, end)
	if n := table.deleted.Load(); n > 0 {
		t.Errorf("%d routes were deleted", n)
	}
}

// counting counts what is deleted.
type counting struct {
	route.Memory
	deleted atomic.Int32
}

func (c *counting) Delete(prefix netip.Prefix) error {
	c.deleted.Add(1)
	return c.Memory.Delete(prefix)
}

// What the kernel refuses is tried again.
func TestRefused(t *testing.T) {
	store, err := lease.NewMemory(pools(), lease.Options{})
	must(t, err)
	broker := newBroker(t, store, newPath(t))
	table := &refusing{left: 20}
	export(t, broker, table, 5*time.Millisecond)
	var all []provision.Session
	for i := range byte(10) {
		all = append(all, login(t, broker, fmt.Sprint("user", i), i+1, true))
	}
	eventually(t, &table.Memory, all...)
}

// refusing fails a few times.
type refusing struct {
	route.Memory
	left int
}

func (r *refusing) Add(prefix netip.Prefix) error {
	if r.left--; r.left > 0 && r.left%2 == 0 {
		return errors.New("no")
	}
	return r.Memory.Add(prefix)
}
