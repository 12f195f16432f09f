// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ddtb/provision/datapath"
)

// RunModel checks the contract of datapath.Datapath on a driver that is not configured yet. config is one with at least one
// pool that delegates prefixes and has 200 indices.
func RunModel(t *testing.T, config datapath.Config, dp datapath.Datapath) {
	t.Helper()
	m := &model{dp: dp, config: config}
	if err := dp.Set(t.Context(), m.tunnel(1)); err == nil {
		t.Error("a tunnel is taken before Configure")
	}
	if err := dp.Configure(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"set and delete", m.setAndDelete},
		{"change", m.change},
		{"batch", m.batch},
		{"invalid", m.invalid},
		{"taken", m.taken},
		{"routes", m.routes},
		{"all", m.all},
		{"configure", m.configure},
	} {
		t.Run(c.name, c.run)
	}
}

type model struct {
	dp     datapath.Datapath
	config datapath.Config
}

// tunnel is that of an index of the first pool.
func (m *model) tunnel(index uint32) datapath.Tunnel {
	p := m.config.Pools[0]
	return datapath.Tunnel{
		ID: p.First + index, Session: uint64(index), Encap: datapath.V6UDPV4, Local: m.config.Local[0],
		Remote:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(index)}), 40000+uint16(index)),
		Endpoint: plus(p.EndpointBase, 128, index), Prefix: netip.PrefixFrom(plus(p.PrefixBase, p.PrefixLen, index), p.PrefixLen),
	}
}

// inForce are the tunnels in force by id.
func (m *model) inForce(t *testing.T) map[uint32]datapath.State {
	t.Helper()
	states := map[uint32]datapath.State{}
	for state, err := range m.dp.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := states[state.ID]; ok {
			t.Errorf("tunnel %d twice", state.ID)
		}
		states[state.ID] = state
	}
	return states
}

// expect compares the tunnels in force.
func (m *model) expect(t *testing.T, want ...datapath.Tunnel) {
	t.Helper()
	got := []datapath.Tunnel{}
	for _, state := range m.inForce(t) {
		got = append(got, state.Tunnel)
		if age := time.Since(state.LastSeen); age < -time.Minute || age > time.Hour {
			t.Errorf("tunnel %d: last seen %v", state.ID, state.LastSeen)
		}
	}
	byID := func(a, b datapath.Tunnel) int { return int(a.ID) - int(b.ID) }
	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	if diff := cmp.Diff(append([]datapath.Tunnel{}, want...), got, comparers); diff != "" {
		t.Errorf("tunnels in force: %s", diff)
	}
}

var comparers = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b datapath.Prefixes) bool { return a == b }),
}

func (m *model) set(t *testing.T, tunnels ...datapath.Tunnel) {
	t.Helper()
	if err := m.dp.Set(t.Context(), tunnels...); err != nil {
		t.Fatal(err)
	}
}

func (m *model) delete(t *testing.T, tunnels ...datapath.Tunnel) {
	t.Helper()
	for _, tunnel := range tunnels {
		if _, err := m.dp.Delete(t.Context(), tunnel.ID); err != nil {
			t.Error(err)
		}
	}
}

func (m *model) setAndDelete(t *testing.T) {
	m.expect(t)
	plain, sit, bare, foreign, narrow := m.tunnel(1), m.tunnel(2), m.tunnel(3), m.tunnel(4), m.tunnel(5)
	sit.Encap, sit.Local, sit.Remote = datapath.V6V4, netip.AddrPortFrom(sit.Local.Addr(), 0), netip.AddrPortFrom(sit.Remote.Addr(), 0)
	bare.Prefix = netip.Prefix{}
	foreign.Prefix, foreign.Endpoint = netip.MustParsePrefix("2001:db8:f00::/48"), netip.MustParseAddr("2001:db8:f01::1")
	narrow.MTU = 1300
	narrow.Rate = datapath.Rate{Rx: 2e6, Tx: 16e6}
	all := []datapath.Tunnel{plain, sit, bare, foreign, narrow}
	m.set(t, all...)
	m.expect(t, all...)
	m.set(t, all...)
	m.expect(t, all...)
	m.delete(t, sit, foreign)
	m.expect(t, plain, bare, narrow)
	for _, id := range []uint32{sit.ID, 0, 1 << 31} {
		if _, err := m.dp.Delete(t.Context(), id); !errors.Is(err, datapath.ErrNotFound) {
			t.Errorf("delete tunnel %d: %v, expected: %v", id, err, datapath.ErrNotFound)
		}
	}
	m.delete(t, plain, bare, narrow)
	m.expect(t)
}

func (m *model) change(t *testing.T) {
	tunnel := m.tunnel(1)
	m.set(t, tunnel)
	for _, change := range []func(){
		func() { tunnel.Remote = netip.MustParseAddrPort("203.0.113.200:9") },
		func() { tunnel.MTU = 1350 },
		func() { tunnel.MTU = 0 },
		func() { tunnel.Rate = datapath.Rate{Rx: 1e6, Tx: 1} },
		func() { tunnel.Rate.Rx = 0 },
		func() { tunnel.Rate = datapath.Rate{Rx: 1<<64 - 1} },
		func() { tunnel.Rate = datapath.Rate{Tx: 5e6} },
		func() { tunnel.Prefix = netip.Prefix{} },
		func() { tunnel.Prefix = netip.MustParsePrefix("2001:db8:f00::/48") },
		func() { tunnel.Endpoint = netip.MustParseAddr("2001:db8:f01::1") },
		func() { tunnel.Prefix = netip.MustParsePrefix("2001:db8:f02::/48") },
		func() { tunnel.Routes = prefixes("2001:db8:f00::/48", "2001:db8:f03::5/128") },
		func() { tunnel.Prefix = netip.MustParsePrefix("2001:db8:f04::/48") },
		func() { tunnel.Routes = prefixes("2001:db8:f02::/48", "2001:db8:f03::5/128") },
		func() {
			tunnel.Prefix, tunnel.Routes = netip.MustParsePrefix("2001:db8:f02::/48"), prefixes("2001:db8:f04::/48")
		},
		func() { tunnel.Prefix = netip.Prefix{} },
		func() { tunnel.Prefix, tunnel.Endpoint = m.tunnel(1).Prefix, m.tunnel(1).Endpoint },
		func() { tunnel.Routes = datapath.Prefixes{} },
		func() { tunnel.Session++ },
		func() {
			tunnel.Encap, tunnel.Local, tunnel.Remote = datapath.V6V4, netip.AddrPortFrom(tunnel.Local.Addr(), 0), netip.MustParseAddrPort("203.0.113.9:0")
		},
	} {
		change()
		m.set(t, tunnel)
		m.expect(t, tunnel)
	}
	m.delete(t, tunnel)
}

// batch sets many at once, some of them wrong, one twice.
func (m *model) batch(t *testing.T) {
	var good, all []datapath.Tunnel
	for n := range uint32(100) {
		tunnel := m.tunnel(1 + n)
		if n%10 == 3 {
			wrong := tunnel
			wrong.Endpoint = m.tunnel(150).Endpoint
			all = append(all, wrong)
			continue
		}
		good, all = append(good, tunnel), append(all, tunnel)
	}
	again := good[0]
	again.Session, again.Remote = 7, netip.MustParseAddrPort("203.0.113.201:7")
	all = append(all, again)
	good[0] = again
	err := m.dp.Set(t.Context(), all...)
	if !errors.Is(err, datapath.ErrInvalid) {
		t.Errorf("%v, expected: %v", err, datapath.ErrInvalid)
	}
	m.expect(t, good...)
	m.delete(t, good...)
}

func (m *model) invalid(t *testing.T) {
	for name, change := range map[string]func(*datapath.Tunnel){
		"id outside":             func(d *datapath.Tunnel) { d.ID = 1 << 31 },
		"endpoint of another":    func(d *datapath.Tunnel) { d.Endpoint = m.tunnel(2).Endpoint },
		"endpoint is the server": func(d *datapath.Tunnel) { d.Endpoint = m.config.Server },
		"no endpoint":            func(d *datapath.Tunnel) { d.Endpoint = netip.Addr{} },
		"endpoint is IPv4":       func(d *datapath.Tunnel) { d.Endpoint = d.Remote.Addr() },
		"endpoint is link-local": func(d *datapath.Tunnel) { d.Endpoint = netip.MustParseAddr("fe80::1") },
		"prefix of another":      func(d *datapath.Tunnel) { d.Prefix = m.tunnel(2).Prefix },
		"prefix over a pool":     func(d *datapath.Tunnel) { d.Prefix = netip.MustParsePrefix("2001:db8::/32") },
		"prefix with host bits":  func(d *datapath.Tunnel) { d.Prefix = netip.MustParsePrefix("2001:db8:f00::1/48") },
		"prefix is an address":   func(d *datapath.Tunnel) { d.Prefix = netip.MustParsePrefix("2001:db8:f00::1/128") },
		"prefix is IPv4":         func(d *datapath.Tunnel) { d.Prefix = netip.MustParsePrefix("192.0.2.0/24") },
		"route over a pool":      func(d *datapath.Tunnel) { d.Routes = prefixes("2001:db8:f00::/48", "2001:db8::/32") },
		"route in a pool":        func(d *datapath.Tunnel) { d.Routes = datapath.PrefixesOf(m.tunnel(2).Prefix) },
		"route to the server":    func(d *datapath.Tunnel) { d.Routes = datapath.PrefixesOf(netip.PrefixFrom(m.config.Server, 128)) },
		"route for all":          func(d *datapath.Tunnel) { d.Routes = prefixes("::/0") },
		"route to multicast":     func(d *datapath.Tunnel) { d.Routes = prefixes("ff08::/16") },
		"route to link-local":    func(d *datapath.Tunnel) { d.Routes = prefixes("fe80:1::/32") },
		"route twice": func(d *datapath.Tunnel) {
			d.Prefix, d.Routes = netip.MustParsePrefix("2001:db8:f00::/48"), prefixes("2001:db8:f00::/48")
		},
		"too many routes":         func(d *datapath.Tunnel) { d.Routes = datapath.PrefixesOf(many(datapath.MaxRoutes + 1)...) },
		"no encapsulation":        func(d *datapath.Tunnel) { d.Encap = 0 },
		"no remote":               func(d *datapath.Tunnel) { d.Remote = netip.AddrPort{} },
		"remote is IPv6":          func(d *datapath.Tunnel) { d.Remote = netip.MustParseAddrPort("[2001:db8::1]:1") },
		"remote is multicast":     func(d *datapath.Tunnel) { d.Remote = netip.MustParseAddrPort("224.0.0.1:1") },
		"remote without port":     func(d *datapath.Tunnel) { d.Remote = netip.AddrPortFrom(d.Remote.Addr(), 0) },
		"local is another's":      func(d *datapath.Tunnel) { d.Local = netip.MustParseAddrPort("192.0.2.77:3653") },
		"local port":              func(d *datapath.Tunnel) { d.Local = netip.AddrPortFrom(d.Local.Addr(), 1) },
		"protocol 41 with a port": func(d *datapath.Tunnel) { d.Encap = datapath.V6V4 },
		"mtu too small":           func(d *datapath.Tunnel) { d.MTU = 1279 },
		"mtu too large":           func(d *datapath.Tunnel) { d.MTU = 65536 },
		"mtu negative":            func(d *datapath.Tunnel) { d.MTU = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			tunnel := m.tunnel(1)
			change(&tunnel)
			if err := m.dp.Set(t.Context(), tunnel); !errors.Is(err, datapath.ErrInvalid) {
				t.Errorf("%v, expected: %v", err, datapath.ErrInvalid)
			}
			m.expect(t)
		})
	}
}

// taken wants a foreign prefix for two tunnels.
func (m *model) taken(t *testing.T) {
	first, second := m.tunnel(1), m.tunnel(2)
	first.Prefix = netip.MustParsePrefix("2001:db8:f00::/48")
	second.Prefix = first.Prefix
	m.set(t, first)
	if err := m.dp.Set(t.Context(), second); !errors.Is(err, datapath.ErrInvalid) {
		t.Errorf("%v, expected: %v", err, datapath.ErrInvalid)
	}
	m.expect(t, first)
	m.delete(t, first)
	m.set(t, second)
	m.expect(t, second)
	m.delete(t, second)
}

// prefixes makes a set.
func prefixes(texts ...string) datapath.Prefixes {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return datapath.PrefixesOf(all...)
}

// many are n prefixes from outside the pools.
func many(n uint32) (all []netip.Prefix) {
	for i := range n {
		all = append(all, netip.PrefixFrom(plus(netip.MustParseAddr("2001:db8:f00::"), 48, i), 48))
	}
	return all
}

// routes gives tunnels as many prefixes as they may have, and wants one for two.
func (m *model) routes(t *testing.T) {
	full, second, third := m.tunnel(1), m.tunnel(2), m.tunnel(3)
	full.Routes = datapath.PrefixesOf(many(datapath.MaxRoutes)...)
	m.set(t, full)
	m.expect(t, full)
	for _, c := range []func(){
		func() { second.Routes = prefixes("2001:db8:f0f::/48", "2001:db8:fff::/48") },
		func() { second.Routes, second.Prefix = datapath.Prefixes{}, netip.MustParsePrefix("2001:db8:f00::/48") },
	} {
		c()
		if err := m.dp.Set(t.Context(), second); !errors.Is(err, datapath.ErrInvalid) {
			t.Errorf("%v, expected: %v", err, datapath.ErrInvalid)
		}
		m.expect(t, full)
	}
	third.Routes = prefixes("2001:db8:fff::/48") // which the one that was refused does not keep
	m.set(t, third)
	must(t, m.dp.Configure(t.Context(), m.config))
	m.expect(t, full, third)
	m.delete(t, full)
	m.set(t, second)
	m.expect(t, second, third)
	m.delete(t, second, third)
}

// all reads while the reader works with the driver.
func (m *model) all(t *testing.T) {
	tunnels := []datapath.Tunnel{}
	for n := range uint32(150) {
		tunnels = append(tunnels, m.tunnel(n+1))
	}
	m.set(t, tunnels...)
	for state, err := range m.dp.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		m.delete(t, state.Tunnel)
	}
	m.expect(t)
	m.set(t, tunnels...)
	seen := 0
	for _, err := range m.dp.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 10 {
			break
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range m.dp.All(cancelled) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v, expected: %v", err, context.Canceled)
		}
	}
	m.delete(t, tunnels...)
}

// configure takes room away from tunnels, and asks for what cannot be.
func (m *model) configure(t *testing.T) {
	low, high := m.tunnel(1), m.tunnel(199)
	m.set(t, low, high)
	if err := m.dp.Configure(t.Context(), m.config); err != nil {
		t.Fatal(err)
	}
	m.expect(t, low, high)
	smaller := m.config
	smaller.Pools = slices.Clone(m.config.Pools)
	smaller.Pools[0].Size = 100
	if err := m.dp.Configure(t.Context(), smaller); err != nil {
		t.Fatal(err)
	}
	m.expect(t, low)
	if err := m.dp.Set(t.Context(), high); !errors.Is(err, datapath.ErrInvalid) {
		t.Errorf("%v, expected: %v", err, datapath.ErrInvalid)
	}
	for name, change := range map[string]func(*datapath.Config){
		"no pool":       func(c *datapath.Config) { c.Pools = nil },
		"pool overlap":  func(c *datapath.Config) { c.Pools = append(slices.Clone(c.Pools), c.Pools[0]) },
		"no local":      func(c *datapath.Config) { c.Local = nil },
		"local IPv6":    func(c *datapath.Config) { c.Local = []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:3653")} },
		"no port":       func(c *datapath.Config) { c.Local = []netip.AddrPort{netip.AddrPortFrom(c.Local[0].Addr(), 0)} },
		"no server":     func(c *datapath.Config) { c.Server = netip.Addr{} },
		"server a pool": func(c *datapath.Config) { c.Server = low.Endpoint },
		"mtu":           func(c *datapath.Config) { c.MTU = 1000 },
	} {
		wrong := smaller
		change(&wrong)
		if err := m.dp.Configure(t.Context(), wrong); err == nil {
			t.Errorf("%s: is taken", name)
		}
	}
	m.expect(t, low)
	if err := m.dp.Configure(t.Context(), m.config); err != nil {
		t.Fatal(err)
	}
	m.expect(t, low)
	m.delete(t, low)
}
