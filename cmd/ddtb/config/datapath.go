// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Datapath is [datapath]: what moves the packets, and between which interfaces.
type Datapath struct {
	Driver  string   `toml:"driver" one:"auto utun xdp null"`
	Uplinks []string `toml:"uplinks"`
	Cores   []string `toml:"cores"`
	Mode    string   `toml:"mode" one:"auto native generic tc"`
	NextHop string   `toml:"nexthop" one:"fib fixed stack"`
	DSCP    string   `toml:"dscp" one:"uniform pipe"`
	Layout  string   `toml:"layout" one:"shared interface"`
	Device  string   `toml:"device"`
	MTU     int      `toml:"mtu"`
	PinPath string   `toml:"pin_path"`

	LeaseRoutes bool `toml:"lease_routes"`
}

func defaultDatapath() Datapath {
	return Datapath{
		Driver:  "auto",
		Mode:    "auto",
		NextHop: "fib",
		DSCP:    "uniform",
		Layout:  "shared",
		Device:  "ddtb0",
		MTU:     1280,
		PinPath: "/sys/fs/bpf/ddtb",
	}
}

// Bounds of the tunnels' MTU: what every IPv6 link must carry, and what fits a datagram of 1500 octets.
const (
	minMTU = 1280
	maxMTU = 9000
)

func (c *Datapath) validate(doc *document) {
	if !isInterface(c.Device) {
		doc.reject("datapath.device", "%q: expected an interface name, 1 to 15 characters without blank and slash", c.Device)
	}
	for key, names := range map[string][]string{"uplinks": c.Uplinks, "cores": c.Cores} {
		distinct(doc, "datapath."+key, names)
		for i, name := range names {
			if !isInterface(name) {
				doc.reject(fmt.Sprintf("datapath.%s[%d]", key, i), "%q: expected an interface name, 1 to 15 characters without blank and slash", name)
			}
		}
	}
	if c.MTU < minMTU || c.MTU > maxMTU {
		doc.reject("datapath.mtu", "%d: expected %d to %d octets", c.MTU, minMTU, maxMTU)
	}
	if c.LeaseRoutes && c.Driver == "null" {
		doc.reject("datapath.lease_routes", "true, but with driver \"null\" there is no device to route to")
	}
	if !filepath.IsAbs(c.PinPath) {
		doc.reject("datapath.pin_path", "%q: expected an absolute path in a bpf file system, such as \"/sys/fs/bpf/ddtb\"", c.PinPath)
	}
}

func isInterface(name string) bool {
	return len(name) >= 1 && len(name) <= 15 && name != "." && name != ".." && !strings.ContainsAny(name, " \t\n/:")
}
