// SPDX-License-Identifier: GPL-2.0-or-later

package config

import "time"

// Lease is [lease]: where it is kept who has which addresses, and for how long.
type Lease struct {
	Store      string   `toml:"store" one:"embedded memory"`
	TTL        Duration `toml:"ttl"`
	Quarantine Duration `toml:"quarantine"`
	Drop       bool     `toml:"drop"`
}

func defaultLease() Lease {
	return Lease{Store: "embedded", TTL: Duration{time.Hour}, Quarantine: Duration{time.Hour}}
}

func (c *Lease) validate(doc *document, sweep Duration) {
	within(doc, "lease.ttl", c.TTL, 4*sweep.Duration, 30*day)
	within(doc, "lease.quarantine", c.Quarantine, time.Second, 3650*day)
}
