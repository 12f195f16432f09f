// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"time"

	"ddtb/provision"
)

// Session is [session]: how long tunnels live and how many there may be.
type Session struct {
	Limit          int      `toml:"limit"`
	Beyond         string   `toml:"beyond" one:"replace deny"`
	Max            int      `toml:"max"`
	MaxNegotiating int      `toml:"max_negotiating"`
	OfferTimeout   Duration `toml:"offer_timeout"`
	Lifetime       Duration `toml:"lifetime"`
	Keepalive      Duration `toml:"keepalive"`
	KeepaliveMin   Duration `toml:"keepalive_min"`
	KeepaliveMax   Duration `toml:"keepalive_max"`
	IdleAfter      Duration `toml:"idle_after"`
	IdleUnasked    Duration `toml:"idle_unasked"`
	Sweep          Duration `toml:"sweep"`
}

func defaultSession() Session {
	return Session{
		Limit:          1,
		Beyond:         "replace",
		Max:            1_000_000,
		MaxNegotiating: 10_000,
		OfferTimeout:   Duration{time.Minute},
		Lifetime:       Duration{7 * day},
		Keepalive:      seconds(30),
		KeepaliveMin:   seconds(10),
		KeepaliveMax:   seconds(300),
		IdleUnasked:    Duration{time.Hour},
		Sweep:          seconds(10),
	}
}

func (c *Session) validate(doc *document) {
	if c.Limit < 1 || c.Limit > provision.MaxSlots {
		doc.reject("session.limit", "%d: expected 1 to %d", c.Limit, provision.MaxSlots)
	}
	if c.Max < 1 || c.Max > maxIndices {
		doc.reject("session.max", "%d: expected 1 to %d", c.Max, maxIndices)
	}
	if c.MaxNegotiating < 1 {
		doc.reject("session.max_negotiating", "%d: expected 1 or more", c.MaxNegotiating)
	}
	within(doc, "session.offer_timeout", c.OfferTimeout, time.Second, time.Hour)
	within(doc, "session.lifetime", c.Lifetime, time.Minute, 365*day)
	within(doc, "session.sweep", c.Sweep, time.Second, 10*time.Minute)
	c.validateKeepalive(doc)
}

func (c *Session) validateKeepalive(doc *document) {
	before := len(doc.problems)
	within(doc, "session.keepalive_min", c.KeepaliveMin, time.Second, time.Hour)
	within(doc, "session.keepalive_max", c.KeepaliveMax, c.KeepaliveMin.Duration, 12*time.Hour)
	if len(doc.problems) > before {
		return
	}
	within(doc, "session.keepalive", c.Keepalive, c.KeepaliveMin.Duration, c.KeepaliveMax.Duration)
	within(doc, "session.idle_unasked", c.IdleUnasked, c.KeepaliveMin.Duration, 365*day)
	if c.IdleAfter.Duration != 0 && c.IdleAfter.Duration < c.KeepaliveMin.Duration {
		doc.reject("session.idle_after", "%s: expected %s, keepalive_min, or more; or \"0s\" for three times a session's own keepalive",
			c.IdleAfter, c.KeepaliveMin)
	}
}

// within rejects a duration outside the given bounds.
func within(doc *document, path string, value Duration, low, high time.Duration) {
	if value.Duration < low || value.Duration > high {
		doc.reject(path, "%s: expected %s to %s", value, Duration{low}, Duration{high})
	}
}

func seconds(n int) Duration { return Duration{time.Duration(n) * time.Second} }

// Anonymous is [anonymous]: logins without an account.
type Anonymous struct {
	Enabled    bool   `toml:"enabled"`
	Pool       string `toml:"pool"`
	PerAddress int    `toml:"per_address"`
}

func (c *Anonymous) validate(doc *document, pools []Pool) {
	if c.PerAddress < 1 {
		doc.reject("anonymous.per_address", "%d: expected 1 or more", c.PerAddress)
	}
	if !c.Enabled {
		return
	}
	if c.Pool == "" {
		doc.reject("anonymous.pool", "missing: expected the name of a [[pool]] for logins without account")
		return
	}
	names := make([]string, len(pools))
	for i, pool := range pools {
		if names[i] = pool.Name; pool.Name == c.Pool {
			return
		}
	}
	doc.reject("anonymous.pool", "no pool %q: expected one of %s", c.Pool, quoted(names))
}

func quoted(names []string) string {
	text := fmt.Sprintf("%q", names)
	return text[1 : len(text)-1]
}
