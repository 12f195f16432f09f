// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"slices"
	"time"

	"ddtb/aaa"
)

// AAA is [aaa]: who verifies logins, and what becomes of accounting records.
type AAA struct {
	Backends   []string `toml:"backends" one:"local ldap radius"`
	Accounting string   `toml:"accounting" one:"none log radius"`
	Interim    Duration `toml:"interim" reload:""`
	Plans      []Plan   `toml:"plan"`
	Local      Local    `toml:"local"`
	RADIUS     RADIUS   `toml:"radius"`
	LDAP       LDAP     `toml:"ldap"`
	Dynamic    Dynamic  `toml:"dynamic"`
}

// Plan is one [[aaa.plan]]: a rate that RADIUS and LDAP call by its name.
type Plan struct {
	Name string `toml:"name"`
	Rate string `toml:"rate"`
}

// Rates are the plans, by name.
func (c AAA) Rates() aaa.Plans {
	plans := make(aaa.Plans, len(c.Plans))
	for _, p := range c.Plans {
		plans[p.Name], _ = aaa.Plans(nil).Rate(p.Rate)
	}
	return plans
}

func (c *AAA) validatePlans(doc *document) {
	names := make([]string, len(c.Plans))
	for i, p := range c.Plans {
		path := fmt.Sprintf("aaa.plan[%d]", i)
		if _, ok := aaa.Plans(nil).Rate(p.Rate); !ok {
			doc.reject(path+".rate", `%q: expected down and up such as "100M/20M"`, p.Rate)
		}
		if p.Name == "" {
			doc.reject(path+".name", "missing: expected the name that Filter-Id gives")
		}
		if slices.Contains(names[:i], p.Name) {
			doc.reject(path+".name", "%q: there is a plan of this name already", p.Name)
		}
		names[i] = p.Name
	}
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
	c.validatePlans(doc)
	c.RADIUS.validate(doc, slices.Contains(c.Backends, "radius"), c.Accounting == "radius")
	if slices.Contains(c.Backends, "ldap") {
		c.LDAP.validate(doc)
	}
	c.Dynamic.validate(doc)
	if c.Interim.Duration != 0 {
		within(doc, "aaa.interim", c.Interim, time.Minute, 30*day)
	}
}
