// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"ddtb/cmd/ddtb/config"
	"ddtb/provision/fleet"
	"ddtb/provision/redis"
)

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
