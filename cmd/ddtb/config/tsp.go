// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// TSP is [tsp]: what is said to clients, and what strangers can make the server do.
type TSP struct {
	Realm          string   `toml:"realm"`
	Mechanisms     []string `toml:"mechanisms" one:"DIGEST-MD5 CRAM-MD5 PLAIN" reload:""`
	Tunnels        []string `toml:"tunnels" one:"v6udpv4 v6v4" reload:""`
	Redirect       []string `toml:"redirect" reload:""`
	MaxDialogues   int      `toml:"max_dialogues" reload:""`
	MaxConnections int      `toml:"max_connections" reload:""`
	MaxPerSource   int      `toml:"max_per_source" reload:""`
	Rate           int      `toml:"rate" reload:""`
	Burst          int      `toml:"burst" reload:""`
	Workers        int      `toml:"workers"`
	Queue          int      `toml:"queue"`
	AuthTimeout    Duration `toml:"auth_timeout" reload:""`
	Timeout        Duration `toml:"timeout" reload:""`
}

func defaultTSP() TSP {
	return TSP{
		Realm:          "ddtb",
		Tunnels:        []string{string(tsp.V6UDPV4), string(tsp.V6V4)},
		MaxDialogues:   65536,
		MaxConnections: 4096,
		MaxPerSource:   256,
		Rate:           200,
		Burst:          1000,
		Workers:        128,
		Queue:          4096,
		AuthTimeout:    seconds(30),
		Timeout:        seconds(90),
	}
}

// maxBrokers is how many a client reads.
const maxBrokers = 50

func (c *TSP) validate(doc *document) {
	if err := sasl.ValidateRealm(c.Realm); err != nil {
		doc.reject("tsp.realm", "%s", err)
	}
	distinct(doc, "tsp.mechanisms", c.Mechanisms)
	distinct(doc, "tsp.tunnels", c.Tunnels)
	if len(c.Tunnels) == 0 {
		doc.reject("tsp.tunnels", `none: expected "v6udpv4", "v6v4" or both`)
	}
	if len(c.Redirect) > maxBrokers {
		doc.reject("tsp.redirect", "%d servers: clients read at most %d", len(c.Redirect), maxBrokers)
	}
	for i, name := range c.Redirect {
		if _, err := netip.ParseAddr(name); err != nil && !isHostName(name) {
			doc.reject(fmt.Sprintf("tsp.redirect[%d]", i), "%q: expected an address or a host name, without port", name)
		}
	}
	for key, value := range map[string]int{
		"max_dialogues": c.MaxDialogues, "max_connections": c.MaxConnections, "max_per_source": c.MaxPerSource,
		"burst": c.Burst, "workers": c.Workers, "queue": c.Queue,
	} {
		if value < 1 {
			doc.reject("tsp."+key, "%d: expected 1 or more", value)
		}
	}
	within(doc, "tsp.auth_timeout", c.AuthTimeout, time.Second, time.Hour)
	within(doc, "tsp.timeout", c.Timeout, time.Second, time.Hour)
	if c.Timeout.Duration < c.AuthTimeout.Duration {
		doc.reject("tsp.timeout", "%s is shorter than auth_timeout, %s: it counts from the first message too", c.Timeout, c.AuthTimeout)
	}
}

// Limits are the bounds in the words of the protocol server. drain is server.drain_time.
func (c TSP) Limits(drain time.Duration) tsp.Limits {
	rate := float64(c.Rate)
	if c.Rate == 0 {
		rate = tsp.Unlimited
	}
	return tsp.Limits{
		Dialogues: c.MaxDialogues, Connections: c.MaxConnections, PerSource: c.MaxPerSource,
		Rate: rate, Burst: c.Burst, Workers: c.Workers, Queue: c.Queue,
		AuthTimeout: c.AuthTimeout.Duration, Timeout: c.Timeout.Duration, Drain: drain,
	}
}

// Brokers are the servers of redirect in the words of the protocol.
func (c TSP) Brokers() []tsp.Broker {
	brokers := make([]tsp.Broker, 0, len(c.Redirect))
	for _, name := range c.Redirect {
		if addr, err := netip.ParseAddr(name); err == nil {
			brokers = append(brokers, tsp.Broker{Addr: addr})
		} else {
			brokers = append(brokers, tsp.Broker{Name: name})
		}
	}
	return brokers
}

func isHostName(name string) bool {
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label || strings.IndexFunc(label, func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) >= 0 {
			return false
		}
	}
	return true
}

func distinct(doc *document, path string, values []string) {
	for i, value := range values {
		if slices.Contains(values[:i], value) {
			doc.reject(fmt.Sprintf("%s[%d]", path, i), "%q stands here twice", value)
		}
	}
}
