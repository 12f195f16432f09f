// SPDX-License-Identifier: GPL-2.0-or-later

package config

import "time"

// AAA is [aaa]: who verifies logins, and what becomes of accounting records.
type AAA struct {
	Backends   []string `toml:"backends" one:"local"`
	Accounting string   `toml:"accounting" one:"none log"`
	Interim    Duration `toml:"interim" reload:""`
	Local      Local    `toml:"local"`
}

// Local is [aaa.local]: accounts kept by this server, managed with ddtbctl user.
type Local struct {
	Digest bool `toml:"digest"`
	Cram   bool `toml:"cram"`
}

func defaultAAA() AAA {
	return AAA{Backends: []string{"local"}, Accounting: "none", Local: Local{Digest: true}}
}

func (c *AAA) validate(doc *document) {
	distinct(doc, "aaa.backends", c.Backends)
	if c.Interim.Duration != 0 {
		within(doc, "aaa.interim", c.Interim, time.Minute, 30*day)
	}
}
