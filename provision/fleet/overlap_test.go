// SPDX-License-Identifier: GPL-2.0-or-later

package fleet_test

import (
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/fleet"
)

// A network that is led to two subscribers at two servers is told of; one subscriber who moves with his own is not.
func TestOverlappingRoutes(t *testing.T) {
	each(t, func(t *testing.T, open func() fleet.Board) {
		store, registry := leases(t), prometheus.NewRegistry()
		a := start(t, 1, store, open(), func(o *fleet.Options, _ *provision.Config) { o.Metrics = registry })
		b := start(t, 2, store, open(), nil)
		a.sees(map[string]fleet.NodeState{"ts2": fleet.Serving})
		routed := func(s *server, user string, client byte, route string) {
			r := s.request(user, client)
			r.Subscriber.Routes = []aaa.Route{{Prefix: netip.MustParsePrefix(route)}}
			_, err := s.take(r)
			must(t, err)
		}
		told := func() float64 {
			families, err := registry.Gather()
			must(t, err)
			for _, f := range families {
				if f.GetName() == "ddtb_fleet_overlapping_logins_total" {
					return f.GetMetric()[0].GetCounter().GetValue()
				}
			}
			t.Fatal("no such metric")
			return 0
		}
		routed(a, "alice", 1, "2001:dba:1::/48")
		routed(a, "moves", 2, "2001:dba:2::/48")
		routed(b, "moves", 3, "2001:dba:2::/48")
		routed(b, "bob", 4, "2001:dba:3::/48")
		routed(b, "mallory", 5, "2001:dba:1:7::/64")
		until(t, "ts1 has heard", func() bool { return told() > 0 })
		if n := told(); n != 1 {
			t.Errorf("told of %v logins, expected 1", n)
		}
	})
}
