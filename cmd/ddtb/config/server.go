// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// Server is [server]: who and where this tunnel server is.
type Server struct {
	Name        string       `toml:"name"`
	Listen      []netip.Addr `toml:"listen"`
	Port        uint16       `toml:"port"`
	IPv6        netip.Addr   `toml:"ipv6"`
	Resolvers   []netip.Addr `toml:"resolvers" reload:""`
	State       string       `toml:"state"`
	KeepTunnels bool         `toml:"keep_tunnels" reload:""`
	DrainTime   Duration     `toml:"drain_time" reload:""`
}

func defaultServer() Server {
	return Server{
		Port:        3653, // IANA, RFC 5572 section 7
		State:       "/var/lib/ddtb",
		KeepTunnels: true,
		DrainTime:   seconds(2),
	}
}

func (c *Server) validate(doc *document) {
	if c.Port == 0 {
		doc.reject("server.port", "0: expected a port from 1 to 65535; TSP's is 3653")
	}
	seen := map[netip.Addr]bool{}
	for i, addr := range c.Listen {
		key := fmt.Sprintf("server.listen[%d]", i)
		switch {
		case addr.IsUnspecified() || addr.IsMulticast() || addr.Is4In6() || addr.Zone() != "":
			doc.reject(key, "%s: expected an address this host owns; a tunnel has one certain address at each end", addr)
		case seen[addr]:
			doc.reject(key, "%s: stands here twice", addr)
		}
		seen[addr] = true
	}
	switch {
	case !c.IPv6.IsValid():
		doc.reject("server.ipv6", `missing: expected the server's own IPv6 address inside the tunnels, such as "2001:db8::1"`)
	case !isGlobalIPv6(c.IPv6):
		doc.reject("server.ipv6", "%s: expected a unicast IPv6 address of yours", c.IPv6)
	}
	if len(c.Resolvers) == 0 {
		doc.reject("server.resolvers", `missing: expected the DNS resolvers that clients are told of, such as ["2001:db8::53"]`)
	}
	for i, addr := range c.Resolvers {
		if !isGlobalIPv6(addr) {
			doc.reject(fmt.Sprintf("server.resolvers[%d]", i), "%s: expected a unicast IPv6 address, reached through the tunnel", addr)
		}
	}
	if !filepath.IsAbs(c.State) {
		doc.reject("server.state", "%q: expected an absolute path of a directory", c.State)
	}
}

// isGlobalIPv6 reports whether addr can be routed: unicast, neither link-local nor loopback nor IPv4 in disguise.
func isGlobalIPv6(addr netip.Addr) bool {
	return addr.Is6() && !addr.Is4In6() && addr.IsGlobalUnicast() && addr.Zone() == ""
}

// TunnelEnds are the IPv4 addresses that clients can have a tunnel to, each with the port of those over UDP.
func (c Server) TunnelEnds() []netip.AddrPort {
	var ends []netip.AddrPort
	for _, addr := range c.Listen {
		if addr.Is4() {
			ends = append(ends, netip.AddrPortFrom(addr, c.Port))
		}
	}
	return ends
}
