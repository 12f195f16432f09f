// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"ddtb/cmd/ddtb/config"
	"ddtb/provision/fleet"
	"ddtb/provision/redis"
	"ddtb/provision/route"
)

// openRoutes makes the broker's sessions known to routing daemons, if that is wanted.
func (d *daemon) openRoutes(c config.Config) error {
	if !c.Datapath.LeaseRoutes {
		return nil
	}
	table, err := route.Open(c.Datapath.Device)
	if err != nil {
		return fmt.Errorf("datapath.lease_routes: %w", err)
	}
	d.closers = append(d.closers, table.Close)
	d.back = append(d.back, serves("lease routes", route.New(d.broker, table, 0, d.log).Run))
	return nil
}

// openFleet makes the broker known to the other tunnel servers, if there is a Redis to know them by, and lets the backend
// send clients there.
func (d *daemon) openFleet(c config.Config, conn *redis.Conn, registry prometheus.Registerer, version string) (*fleet.Agent, error) {
	var board fleet.Board
	if conn != nil {
		board = fleet.NewRedis(conn, nil)
	}
	address := c.Fleet.Address
	if !address.IsValid() {
		address = c.Server.Listen[0]
	}
	agent, err := fleet.New(d.broker, board, fleet.Options{
		Name: c.Server.Name, Address: address, Version: version, Balance: fleet.Balance(c.Fleet.Balance), Pace: c.Fleet.DrainPace,
		Refresh: c.Fleet.Refresh.Duration, Elsewhere: func() bool { return len(d.backend.policy.Load().redirect) > 0 },
		Logger: d.log, Metrics: registry,
	})
	if err != nil {
		return nil, err
	}
	d.backend.others = agent.Redirect
	d.back = append(d.back, serves("fleet", agent.Run))
	return agent, nil
}
