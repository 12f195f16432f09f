// SPDX-License-Identifier: GPL-2.0-or-later

// Package config reads ddtb's configuration: strict TOML, where every mistake is told with file, line, key and what was
// expected there. reference.toml is the manual of all keys.
package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"reflect"

	"github.com/pelletier/go-toml/v2"
)

// Reference is the manual: every key with its default, its unit and why. A test holds it against the structs.
//
//go:embed reference.toml
var Reference string

// Config is the whole configuration, one field a section. What a file leaves out has the value of Default.
type Config struct {
	Server    Server    `toml:"server"`
	TSP       TSP       `toml:"tsp"`
	Pools     []Pool    `toml:"pool"`
	Lease     Lease     `toml:"lease"`
	Redis     Redis     `toml:"redis"`
	Fleet     Fleet     `toml:"fleet"`
	Session   Session   `toml:"session"`
	Datapath  Datapath  `toml:"datapath"`
	AAA       AAA       `toml:"aaa"`
	Anonymous Anonymous `toml:"anonymous"`
	Control   Control   `toml:"control"`
	Metrics   Metrics   `toml:"metrics"`
	Log       Log       `toml:"log"`
}

// Default is what an empty file means. It lacks what only the operator knows: pools, the server's IPv6 address,
// resolvers.
func Default() Config {
	return Config{
		Server:    defaultServer(),
		TSP:       defaultTSP(),
		Lease:     defaultLease(),
		Redis:     defaultRedis(),
		Fleet:     defaultFleet(),
		Session:   defaultSession(),
		Datapath:  defaultDatapath(),
		AAA:       defaultAAA(),
		Anonymous: Anonymous{PerAddress: 4},
		Control:   Control{Socket: "/run/ddtb/control.sock"},
		Metrics:   Metrics{Listen: "127.0.0.1:9653"},
		Log:       Log{Level: "info", Format: "auto"},
	}
}

// Load reads a file. Its error joins one problem a mistake, each with file, line and key.
func Load(file string) (Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Config{}, err
	}
	return Parse(file, text)
}

// Parse reads a configuration from its text; file is for the messages.
func Parse(file string, text []byte) (Config, error) {
	config := Default()
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // which some editors put before UTF-8
	doc := readDocument(file, text, reflect.TypeFor[Config]())
	if err := doc.err(); err != nil {
		return Config{}, err
	}
	if err := toml.Unmarshal(text, &config); err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	config.complete(doc)
	config.validate(doc)
	return config, doc.err()
}

// complete fills in the defaults that follow from other keys.
func (c *Config) complete(doc *document) {
	for i := range c.Pools {
		c.Pools[i].complete(doc, fmt.Sprintf("pool[%d]", i))
	}
	c.AAA.RADIUS.complete()
	c.AAA.Dynamic.complete()
}

// validate adds what cannot be so to doc.
func (c *Config) validate(doc *document) {
	c.Server.validate(doc)
	c.TSP.validate(doc)
	validatePools(doc, c.Pools, c.Server.IPv6)
	c.Lease.validate(doc, c.Session.Sweep, c.Redis.Used())
	c.Redis.validate(doc)
	c.Fleet.validate(doc, c.Redis)
	c.Session.validate(doc)
	c.Datapath.validate(doc)
	c.AAA.validate(doc)
	if len(c.AAA.Backends) == 0 && !c.Anonymous.Enabled {
		doc.reject("aaa.backends", "none, and anonymous.enabled is false: nobody could log in")
	}
	c.Anonymous.validate(doc, c.Pools)
	c.Control.validate(doc)
	c.Metrics.validate(doc)
}
