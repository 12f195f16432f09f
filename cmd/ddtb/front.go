// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"ddtb/cmd/ddtb/config"
	"ddtb/provision/datapath"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// openFront opens what clients speak to: the TSP server on its sockets, and the slow path of protocol 41.
func (d *daemon) openFront(ctx context.Context, c config.Config, registry *prometheus.Registry) (task, error) {
	attacher, _ := d.dp.(datapath.Attacher)
	opened, err := openSockets(ctx, c.Server, attacher)
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, opened.close)
	udp, direct := injectors(d.dp)
	server, err := tsp.NewServer(tsp.ServerConfig{
		Backend: d.backend,
		UDP:     opened.udp,
		TCP:     opened.tcp,
		Inner:   udp,
		Limits:  c.TSP.Limits(c.Server.DrainTime.Duration),
		Log:     d.log,
		Metrics: registry,
	})
	if err != nil {
		return nil, err
	}
	d.front = []task{server}
	d.bound = func(c config.Config) error { return server.Reload(c.TSP.Limits(c.Server.DrainTime.Duration)) }
	if direct != nil {
		d.front = append(d.front, protocol41(c.Server.TunnelEnds(), direct)...)
	}
	return server, nil
}

// policyOf gives the policy of a configuration.
func policyOf(c config.Config) policy {
	p := policy{realm: c.TSP.Realm, resolvers: c.Server.Resolvers, redirect: c.TSP.Brokers()}
	for _, t := range c.TSP.Tunnels {
		p.tunnels = append(p.tunnels, tsp.TunnelType(t))
	}
	for _, m := range c.TSP.Mechanisms {
		p.mechanisms = append(p.mechanisms, sasl.Mechanism(m))
	}
	return p
}
