// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"net/netip"
	"time"
)

// Fleet is [fleet]: what several tunnel servers do together, by way of [redis].
type Fleet struct {
	Address   netip.Addr `toml:"address"`
	Balance   string     `toml:"balance" one:"never load always"`
	DrainPace int        `toml:"drain_pace"`
	Refresh   Duration   `toml:"refresh"`
}

func defaultFleet() Fleet {
	return Fleet{Balance: "never", DrainPace: 50, Refresh: Duration{time.Minute}}
}

func (c *Fleet) validate(doc *document, redis Redis) {
	if a := c.Address; a.IsValid() && (!a.IsGlobalUnicast() && !a.IsLoopback() || a.Is4In6() || a.Zone() != "") {
		doc.reject("fleet.address", "%s: expected an address that clients reach this server at", a)
	}
	between(doc, "fleet.drain_pace", c.DrainPace, 1, 100_000)
	within(doc, "fleet.refresh", c.Refresh, time.Second, time.Hour)
	if c.Balance != "never" && !redis.Used() {
		doc.reject("fleet.balance", "%q, but [redis] names no server: nothing is known of other tunnel servers; tsp.redirect sends clients to servers that it names", c.Balance)
	}
}
