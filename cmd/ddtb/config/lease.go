// SPDX-License-Identifier: GPL-2.0-or-later

package config

import "time"

// Lease is [lease]: where it is kept who has which addresses, and for how long.
type Lease struct {
	Store      string   `toml:"store" one:"embedded redis memory"`
	TTL        Duration `toml:"ttl"`
	Quarantine Duration `toml:"quarantine"`
	Grace      Duration `toml:"grace"`
	Drop       bool     `toml:"drop"`
}

func defaultLease() Lease {
	return Lease{Store: "embedded", TTL: Duration{time.Hour}, Quarantine: Duration{time.Hour}, Grace: seconds(10)}
}

func (c *Lease) validate(doc *document, sweep Duration, redis bool) {
	within(doc, "lease.ttl", c.TTL, 4*sweep.Duration, 30*day)
	within(doc, "lease.quarantine", c.Quarantine, time.Second, 3650*day)
	within(doc, "lease.grace", c.Grace, 100*time.Millisecond, time.Hour)
	if c.Store == "redis" && !redis {
		doc.reject("lease.store", `"redis", but redis.addresses names no server`)
	}
}
