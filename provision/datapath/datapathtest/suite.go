// SPDX-License-Identifier: GPL-2.0-or-later

// Package datapathtest is what every datapath driver has to pass.
//
// RunModel needs no packets and no root: it is the contract of datapath.Datapath. Run puts a driver between stations in
// network namespaces which send and receive raw frames, so that every octet is the test's own, and looks at what comes out
// on either side, what is counted and what reaches the daemon's socket.
package datapathtest

import (
	"os"
	"testing"

	"ddtb/provision/datapath"
)

// Run runs the whole suite on a driver in a topology. It skips without root.
func Run(t *testing.T, topology Topology, open Open) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	e := newEnv(t, topology, open)
	e.server.do(func() { e.dp = e.open(t) })
	t.Run("model", func(t *testing.T) { RunModel(t, e.Config, e.dp) })
	must(t, e.dp.Configure(t.Context(), e.Config))
	e.attach(t)
	t.Cleanup(func() { _ = e.dp.Close() })
	for _, c := range []struct {
		name string
		run  func(*testing.T, *Env)
	}{
		{"forward", forward},
		{"spoof", spoof},
		{"tallies", tallies},
		{"native", native},
		{"nowhere", nowhere},
		{"elsewhere", elsewhere},
		{"too big", tooBig},
		{"too big flood", tooBigFlood},
		{"hop limit", hopLimit},
		{"echo", echo},
		{"own", own},
		{"hairpin", hairpin},
		{"class", class},
		{"odd", odd},
		{"garbage", garbage},
		{"foreign", foreign},
		{"routes", routes},
		{"bulk", bulk},
		{"NAT", nat},
		{"rate", rate},
		{"exact", exact},
		{"deleted", deleted},
		{"resumed", resumed},
		{"renewed", renewed},
		{"restarted", restarted},
		{"reconfigured", reconfigured},
		{"flap", flap},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, e) })
	}
}

// encaps are all of them.
var encaps = []datapath.Encap{datapath.V6UDPV4, datapath.V6V4}
