// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"slices"
	"time"
)

// AAA is [aaa]: who verifies logins, and what becomes of accounting records.
type AAA struct {
	Backends   []string `toml:"backends" one:"local ldap radius"`
	Accounting string   `toml:"accounting" one:"none log radius"`
	Interim    Duration `toml:"interim" reload:""`
	Local      Local    `toml:"local"`
	RADIUS     RADIUS   `toml:"radius"`
	LDAP       LDAP     `toml:"ldap"`
	Dynamic    Dynamic  `toml:"dynamic"`
}

// Local is [aaa.local]: accounts kept by this server, managed with ddtbctl user.
type Local struct {
	Digest bool `toml:"digest"`
	Cram   bool `toml:"cram"`
}

func defaultAAA() AAA {
	return AAA{Backends: []string{"local"}, Accounting: "none", Local: Local{Digest: true}, RADIUS: defaultRADIUS(), LDAP: defaultLDAP()}
}

func (c *AAA) validate(doc *document) {
	distinct(doc, "aaa.backends", c.Backends)
	c.RADIUS.validate(doc, slices.Contains(c.Backends, "radius"), c.Accounting == "radius")
	if slices.Contains(c.Backends, "ldap") {
		c.LDAP.validate(doc)
	}
	c.Dynamic.validate(doc)
	if c.Interim.Duration != 0 {
		within(doc, "aaa.interim", c.Interim, time.Minute, 30*day)
	}
}
