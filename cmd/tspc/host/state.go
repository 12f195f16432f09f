// SPDX-License-Identifier: GPL-2.0-or-later

// Package host makes a Linux machine use a tunnel: addresses, routes, forwarding. It is told the wanted State and makes
// the difference; everything it changes is in a journal first, so that Clear, or the next process after a kill, puts
// the machine back as it was.
package host

import (
	"fmt"
	"net/netip"
	"strings"
)

// RouteProtocol marks the routes of this program (rtm_protocol), so that `ip -6 route show proto 203` lists them. The
// number is none of the well-known ones.
const RouteProtocol = 203

// State is what a machine has for one tunnel.
type State struct {
	Interface string       // the tunnel's
	MTU       int          // of Interface
	Sit       Sit          // if set, Interface is the kernel's own protocol 41 device and made here
	Address   netip.Addr   // the subscriber's end of the tunnel, /128 on Interface
	Keepalive netip.Addr   // reached through Interface; not valid if there is none
	Default   netip.Prefix // what else is routed into the tunnel; not valid if nothing is
	Metric    int          // of the Default route
	Prefix    netip.Prefix // delegated to this machine as a router; not valid for a host
	LANs      []string     // the n-th gets the n-th /64 of Prefix, and ::1 in it
	Resolvers []netip.Addr // name servers the provider named
	Resolv    string       // file for them in the format of resolv.conf(5)
}

// Sit is the two ends of a kernel sit device.
type Sit struct {
	Local, Remote netip.Addr
}

// kind is a sort of change.
type kind string

const (
	kindSit         kind = "sit"         // the tunnel interface itself
	kindAddress     kind = "address"     // Prefix on Interface
	kindRoute       kind = "route"       // Prefix into Interface
	kindUnreachable kind = "unreachable" // Prefix nowhere
	kindForwarding  kind = "forwarding"  // IPv6 forwarding by this machine
	kindFile        kind = "file"        // Path with Content
)

// change is one thing that is there or not. What a kind does not need is zero.
type change struct {
	Kind      kind         `json:"kind"`
	Interface string       `json:"interface,omitempty"`
	Prefix    netip.Prefix `json:"prefix,omitzero"`
	Source    netip.Addr   `json:"source,omitzero"`
	Remote    netip.Addr   `json:"remote,omitzero"`
	Metric    int          `json:"metric,omitempty"`
	NoDAD     bool         `json:"nodad,omitempty"`
	Path      string       `json:"path,omitempty"`
	Content   string       `json:"content,omitempty"`
}

// String says what c is, for errors and logs.
func (c change) String() string {
	switch c.Kind {
	case kindSit:
		return fmt.Sprintf("sit interface %s from %v to %v", c.Interface, c.Source, c.Remote)
	case kindAddress:
		return fmt.Sprintf("address %v on %s", c.Prefix, c.Interface)
	case kindRoute:
		return fmt.Sprintf("route %v into %s", c.Prefix, c.Interface)
	case kindUnreachable:
		return fmt.Sprintf("unreachable route %v", c.Prefix)
	case kindForwarding:
		return "IPv6 forwarding"
	case kindFile:
		return "file " + c.Path
	}
	return string(c.Kind)
}

// unreachableMetric puts the unreachable route behind every other one for the same prefix.
const unreachableMetric = 1 << 30

// plan lists what s consists of, in the order in which it can be made.
func plan(s State) []change {
	var changes []change
	if s.Sit != (Sit{}) {
		changes = append(changes, change{Kind: kindSit, Interface: s.Interface, Source: s.Sit.Local, Remote: s.Sit.Remote})
	}
	changes = append(changes, change{Kind: kindAddress, Interface: s.Interface, Prefix: single(s.Address), NoDAD: true})
	if s.Keepalive.IsValid() {
		changes = append(changes, change{Kind: kindRoute, Interface: s.Interface, Prefix: single(s.Keepalive), Source: s.Address})
	}
	if s.Prefix.IsValid() {
		changes = append(changes, router(s)...)
	}
	if s.Default.IsValid() {
		changes = append(changes, change{Kind: kindRoute, Interface: s.Interface, Prefix: s.Default, Source: s.Address, Metric: s.Metric})
	}
	if len(s.Resolvers) > 0 && s.Resolv != "" {
		changes = append(changes, change{Kind: kindFile, Path: s.Resolv, Content: resolvConf(s)})
	}
	return changes
}

// router lists what a delegated prefix needs: what is not on a LAN is unreachable, or it would travel between here and
// the tunnel server until its hop limit is used up (RFC 7084 section 4.2, requirement WPD-5).
func router(s State) []change {
	changes := []change{{Kind: kindUnreachable, Prefix: s.Prefix, Metric: unreachableMetric}}
	for i, lan := range s.LANs {
		if subnet, ok := Subnet(s.Prefix, i); ok {
			changes = append(changes, change{Kind: kindAddress, Interface: lan, Prefix: netip.PrefixFrom(subnet.Addr().Next(), 64)})
		}
	}
	return append(changes, change{Kind: kindForwarding})
}

// Subnet gives the n-th /64 of prefix; ok is false if prefix has no such subnet.
func Subnet(prefix netip.Prefix, n int) (subnet netip.Prefix, ok bool) {
	if prefix.Bits() > 64 || n < 0 || prefix.Bits() > 32 && n >= 1<<(64-prefix.Bits()) {
		return netip.Prefix{}, false
	}
	b := prefix.Masked().Addr().As16()
	for i := 7; n > 0; i-- {
		b[i] |= byte(n)
		n >>= 8
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 64), true
}

// resolvConf writes the name servers in the format of resolv.conf(5), which knows at most three.
func resolvConf(s State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Name servers of the provider of %s, written by tspc.\n", s.Interface)
	for _, resolver := range s.Resolvers[:min(len(s.Resolvers), 3)] {
		fmt.Fprintf(&b, "nameserver %v\n", resolver)
	}
	return b.String()
}

// single is the prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
