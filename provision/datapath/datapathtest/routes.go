// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"ddtb/provision/datapath"
)

// bothWays sends a packet from an address of a tunnel's client to the core and one back, and gives what they count.
func (e *Env) bothWays(t *testing.T, tunnel datapath.Tunnel, address netip.Addr) datapath.Counters {
	t.Helper()
	up, down := datagram(address, coreHost, fmt.Sprint("up ", address)), datagram(coreHost, address, fmt.Sprint("down ", address))
	e.fromClient(tunnel, up)
	e.atCore(t, up)
	e.fromCore(down)
	e.atClient(t, tunnel, down)
	return datapath.Counters{RxPackets: 1, RxBytes: uint64(len(up.bytes())), TxPackets: 1, TxBytes: uint64(len(down.bytes()))}
}

// routes gives clients further prefixes beside what is theirs by their index, or beside a foreign prefix.
func routes(t *testing.T, e *Env) {
	for _, encap := range encaps {
		t.Run(encap.String(), func(t *testing.T) {
			tunnel, other := e.tunnel(0, encap), e.tunnel(1, encap)
			tunnel.Routes = prefixes("2001:db8:f00::/48", "2001:db8:f01:100::/56", "2001:db8:f02::5/128")
			other.Prefix, other.Routes = netip.MustParsePrefix("2001:db8:f03::/48"), prefixes("2001:db8:f04::/64")
			e.set(t, tunnel, other)
			var want datapath.Counters
			for _, address := range []string{
				tunnel.Endpoint.String(), tunnel.Prefix.Addr().Next().String(), "2001:db8:f00:1::5", "2001:db8:f01:1ff::5", "2001:db8:f02::5",
			} {
				c := e.bothWays(t, tunnel, netip.MustParseAddr(address))
				want.RxPackets, want.RxBytes = want.RxPackets+c.RxPackets, want.RxBytes+c.RxBytes
				want.TxPackets, want.TxBytes = want.TxPackets+c.TxPackets, want.TxBytes+c.TxBytes
			}
			e.counts(t, tunnel.ID, want)
			e.bothWays(t, other, netip.MustParseAddr("2001:db8:f03::5"))
			e.bothWays(t, other, netip.MustParseAddr("2001:db8:f04::5"))
			e.routesAcross(t, tunnel, other)
			e.routesChange(t, tunnel, other)
			e.quiet(t)
		})
	}
	// Gone with the tunnel: from now on these addresses are somebody else's.
	e.refused(t, datapath.InnerSource, func() {
		e.fromClient(e.tunnel(0, datapath.V6UDPV4), datagram(netip.MustParseAddr("2001:db8:f01:100::5"), coreHost, "late"))
	})
}

// routesAcross: clients speak with each other, and cannot take each other's addresses, nor those beside their own.
func (e *Env) routesAcross(t *testing.T, tunnel, other datapath.Tunnel) {
	t.Helper()
	across := datagram(netip.MustParseAddr("2001:db8:f04::5"), netip.MustParseAddr("2001:db8:f01:100::5"), "across")
	e.fromClient(other, across)
	e.atClient(t, tunnel, across)
	for forged, reason := range map[string]datapath.Reason{
		"2001:db8:f04::5":     datapath.OuterSource, // the other's
		"2001:db8:f03::5":     datapath.OuterSource,
		"2001:db8:f01:200::5": datapath.InnerSource, // nobody's
		"2001:db8:f02::6":     datapath.InnerSource,
	} {
		e.refused(t, reason, func() { e.fromClient(tunnel, datagram(netip.MustParseAddr(forged), coreHost, "forged")) })
	}
	e.refused(t, datapath.OuterSource, func() {
		e.fromClient(other, datagram(netip.MustParseAddr("2001:db8:f02::5"), coreHost, "forged"))
	})
}

// routesChange takes routes away from a tunnel in force, which goes on counting, and gives one to the other.
func (e *Env) routesChange(t *testing.T, tunnel, other datapath.Tunnel) {
	t.Helper()
	before := e.state(t, tunnel.ID).Counters
	tunnel.Routes, other.Routes = prefixes("2001:db8:f00::/48", "2001:db8:f05::/48"), prefixes("2001:db8:f01:100::/56")
	must(t, e.dp.Set(context.Background(), tunnel), e.dp.Set(context.Background(), other))
	e.counts(t, tunnel.ID, before)
	e.bothWays(t, tunnel, netip.MustParseAddr("2001:db8:f05::5"))
	e.bothWays(t, tunnel, netip.MustParseAddr("2001:db8:f00::5"))
	e.bothWays(t, other, netip.MustParseAddr("2001:db8:f01:100::5"))
	for forged, reason := range map[string]datapath.Reason{
		"2001:db8:f01:100::5": datapath.OuterSource, "2001:db8:f02::5": datapath.InnerSource, "2001:db8:f04::5": datapath.InnerSource,
	} {
		e.refused(t, reason, func() { e.fromClient(tunnel, datagram(netip.MustParseAddr(forged), coreHost, "forged")) })
	}
	tunnel.Routes = datapath.Prefixes{}
	must(t, e.dp.Set(context.Background(), tunnel))
	e.refused(t, datapath.InnerSource, func() {
		e.fromClient(tunnel, datagram(netip.MustParseAddr("2001:db8:f00::5"), coreHost, "forged"))
	})
	e.bothWays(t, tunnel, tunnel.Endpoint)
}
