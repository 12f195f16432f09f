// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"time"

	"ddtb/provision"
)

// Session is [session]: how long tunnels live and how many there may be.
type Session struct {
	Limit          int      `toml:"limit" reload:""`
	Beyond         string   `toml:"beyond" one:"replace deny" reload:""`
	Max            int      `toml:"max" reload:""`
	MaxNegotiating int      `toml:"max_negotiating" reload:""`
	OfferTimeout   Duration `toml:"offer_timeout" reload:""`
	Lifetime       Duration `toml:"lifetime" reload:""`
	Keepalive      Duration `toml:"keepalive" reload:""`
	KeepaliveMin   Duration `toml:"keepalive_min" reload:""`
	KeepaliveMax   Duration `toml:"keepalive_max" reload:""`
	LostAfter      int      `toml:"lost_after" reload:""`
	LostUnasked    Duration `toml:"lost_unasked" reload:""`
	IdleTimeout    Duration `toml:"idle_timeout" reload:""`
	Sweep          Duration `toml:"sweep" reload:""`
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
		LostAfter:      3,
		LostUnasked:    Duration{time.Hour},
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
	within(doc, "session.lost_unasked", c.LostUnasked, c.KeepaliveMin.Duration, 365*day)
	if c.LostAfter < 1 || c.LostAfter > 100 {
		doc.reject("session.lost_after", "%d: expected 1 to 100", c.LostAfter)
	}
	if c.IdleTimeout.Duration != 0 && c.IdleTimeout.Duration < c.KeepaliveMin.Duration {
		doc.reject("session.idle_timeout", "%s: expected %s, keepalive_min, or more; or \"0s\" for none", c.IdleTimeout, c.KeepaliveMin)
	}
}

// Settings are the configuration in the words of the broker. The node's name and the server's address are those of c.Server.
func (c *Config) Settings() provision.Config {
	s := c.Session
	return provision.Config{
		Node: c.Server.Name, Server: c.Server.IPv6,
		Pools: Leases(c.Pools), AnonymousPool: c.Anonymous.Pool,
		Lifetime:  s.Lifetime.Duration,
		Keepalive: provision.Keepalive{Min: s.KeepaliveMin.Duration, Default: s.Keepalive.Duration, Max: s.KeepaliveMax.Duration},
		LostAfter: s.LostAfter, LostUnasked: s.LostUnasked.Duration, IdleTimeout: s.IdleTimeout.Duration,
		MTU:         c.Datapath.MTU,
		Sessions:    provision.Sessions{Limit: s.Limit, Deny: s.Beyond == "deny"},
		MaxSessions: s.Max, MaxNegotiating: s.MaxNegotiating, AnonymousPerAddress: c.Anonymous.PerAddress,
		OfferTimeout: s.OfferTimeout.Duration, SweepInterval: s.Sweep.Duration,
		LeaseTTL: c.Lease.TTL.Duration, Interim: c.AAA.Interim.Duration,
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
	PerAddress int    `toml:"per_address" reload:""`
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
