// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"net/netip"
	"testing"
)

// Whatever way the programs are attached and the next hop is found, both kinds of tunnel carry traffic, also while the
// daemon restarts.
func TestRootDatapathModes(t *testing.T) {
	for _, c := range []struct{ mode, nexthop string }{
		{"native", "fib"},
		{"native", "fixed"},
		{"generic", "fib"},
		{"tc", "fixed"},
	} {
		t.Run(c.mode+","+c.nexthop, func(t *testing.T) {
			isp := serve(t, Settings{"datapath": "mode = \"" + c.mode + "\"\nnexthop = \"" + c.nexthop + "\"\n"})
			_, alice := subscribe(t, isp, isp.Natted, "alice", "")
			_, bob := subscribe(t, isp, isp.Open, "bob", "")
			for _, client := range []struct {
				host    *Host
				address netip.Addr
			}{{isp.Natted, alice}, {isp.Open, bob}} {
				must(t, client.host.Reaches(TunnelIPv6))
				must(t, client.host.Reaches(BeyondIPv6))
				carry(t, client.host, client.address, isp.Beyond, BeyondIPv6)
			}
			must(t, isp.Natted.Reaches(bob))
			up, err := StartFlow(isp.Natted, alice, isp.Beyond, BeyondIPv6)
			must(t, err)
			down, err := StartFlow(isp.Beyond, netip.Addr{}, isp.Open, bob)
			must(t, err)
			must(t, isp.Stop())
			launch(t, isp)
			must(t, up.Await(100, patience))
			must(t, down.Await(100, patience))
			lossless(t, isp.Internet, up, down)
		})
	}
}
