// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/local"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
	"ddtb/tsp/tsptest"
)

// TestBackendSuite holds the daemon's backend, over real accounts and a real broker, against what the protocol's server
// expects of any.
func TestBackendSuite(t *testing.T) {
	tsptest.TestBackend(t, func(t *testing.T) tsptest.Case {
		accounts, err := local.Open(t.TempDir(), local.Options{
			Realm: "ddtb", Cram: true, Logger: zerolog.Nop(), Argon2: local.Params{Memory: 8, Time: 1, Threads: 1},
			Limits: local.Limits{Failure: time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := accounts.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := accounts.Add(t.Context(), local.Account{Name: "alice", Cram: true}, "wonderland"); err != nil {
			t.Fatal(err)
		}
		pools := []lease.Pool{{
			Name: "homes", Size: 100, EndpointBase: netip.MustParseAddr("2001:db8:f000:1::"),
			PrefixBase: netip.MustParseAddr("2001:db8:1000::"), PrefixLen: 56,
		}}
		store, err := lease.NewMemory(pools, lease.Options{})
		if err != nil {
			t.Fatal(err)
		}
		broker, err := provision.New(
			provision.Config{Node: "test", Server: netip.MustParseAddr("2001:db8:f000::1"), Pools: pools},
			provision.Deps{Store: store, Datapath: openTestDatapath(t, pools), Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		if err := broker.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		chain := aaa.Chain{accounts, aaa.Guests{Subscriber: aaa.Subscriber{NoPrefix: true}}}
		return tsptest.Case{Backend: newBackend(chain, broker, testPolicy), User: "alice", Password: "wonderland", Peer: testPeer}
	})
}

// openTestDatapath gives a datapath that moves no packet.
func openTestDatapath(t *testing.T, pools []lease.Pool) datapath.Datapath {
	t.Helper()
	dp := datapath.NewNull(time.Now)
	config := datapath.Config{Device: "none", Uplinks: []string{"none"}, Cores: []string{"none"},
		Local: []netip.AddrPort{testPeer.Local}, Server: netip.MustParseAddr("2001:db8:f000::1"), MTU: datapath.MinMTU}
	for _, pool := range pools {
		config.Pools = append(config.Pools, datapath.Pool(pool))
	}
	if err := dp.Configure(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return dp
}
