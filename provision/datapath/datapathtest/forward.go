// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"testing"
	"time"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/datapathtest/slow"
)

// forward sends packets both ways, in both encapsulations, from and to endpoint and prefix of tunnels of every pool.
func forward(t *testing.T, e *Env) {
	for _, encap := range encaps {
		for pool := range e.Config.Pools {
			tunnel := e.tunnel(pool, encap)
			addresses := map[string]ip6{"endpoint": {from: tunnel.Endpoint}}
			if tunnel.Prefix.IsValid() {
				addresses["prefix"] = ip6{from: tunnel.Prefix.Addr().Next()}
			}
			for what, p := range addresses {
				t.Run(encap.String()+" "+e.Config.Pools[pool].Name+" "+what, func(t *testing.T) {
					tunnel.Session++ // so that it starts from zero
					e.set(t, tunnel)
					up := datagram(p.from, coreHost, "from "+what)
					e.fromClient(tunnel, up)
					if got := e.atCore(t, up); got.hops != up.hops-1 || got.excess != 0 {
						t.Errorf("at the core: %d hops left, %d expected; %d octets behind the packet", got.hops, up.hops-1, got.excess)
					}
					down := datagram(coreHost, p.from, "to "+what)
					e.fromCore(down)
					got := e.atClient(t, tunnel, down)
					if got.inner.hops != down.hops-1 || got.inner.class != 0 {
						t.Errorf("at the client: %+v", got.inner)
					}
					if got.outer.ttl != 64 || got.outer.fragment != 0 || got.outer.tos != 0 {
						t.Errorf("outer header: %+v", got.outer)
					}
					e.counts(t, tunnel.ID, datapath.Counters{
						RxPackets: 1, RxBytes: uint64(len(up.bytes())), TxPackets: 1, TxBytes: uint64(len(down.bytes())),
					})
					if seen := time.Since(e.state(t, tunnel.ID).LastSeen); seen < -time.Second || seen > slow.Times(10*time.Second) {
						t.Errorf("last seen %v ago", seen)
					}
				})
			}
		}
	}
}
