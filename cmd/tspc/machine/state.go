// SPDX-License-Identifier: GPL-2.0-or-later

package machine

import (
	"net"
	"path/filepath"

	"ddtb/cmd/tspc/agent"
	"ddtb/cmd/tspc/host"
	"ddtb/cmd/tspc/tunnel"
	"ddtb/tsp"
)

// minMTU is IPv6's (RFC 8200 section 5), and what every tunnel carries.
const minMTU = 1280

// Octets in front of an inner packet.
const (
	overheadV6V4    = 20 // IPv4
	overheadV6UDPV4 = 28 // IPv4, UDP
)

// wanted is what the machine shall be for a Session.
func (m *Machine) wanted(info agent.Info) host.State {
	offer := info.Offer
	state := host.State{
		Interface: m.config.Interface,
		MTU:       tunnelMTU(m.config.MTU, offer.MTU, m.outerMTU(info), overhead(offer.Type)),
		Address:   offer.ClientIPv6,
		Keepalive: offer.KeepaliveTo,
		Default:   m.config.Default,
		Metric:    m.config.Metric,
		Resolvers: offer.Resolvers,
		Resolv:    filepath.Join(m.config.RunDir, m.config.Interface+".resolv.conf"),
	}
	if m.config.Router {
		state.Prefix, state.LANs = offer.Prefix, m.config.LANs
	}
	return state
}

// MTU is the tunnel interface's at the moment, 0 if there is none.
func (m *Machine) MTU() int { return m.state.MTU }

func overhead(t tsp.TunnelType) int {
	if t == tsp.V6V4 {
		return overheadV6V4
	}
	return overheadV6UDPV4
}

// outerMTU is the MTU of the interface packets to the server leave by, 0 if it is not known.
func (m *Machine) outerMTU(info agent.Info) int {
	path, err := host.PathTo(info.Server.Addr())
	if err != nil {
		return 0
	}
	link, err := net.InterfaceByIndex(path.Interface)
	if err != nil {
		return 0
	}
	return link.MTU
}

// tunnelMTU chooses the tunnel's MTU: the subscriber's, else the server's, else the least there is; but no more than
// fits the interface beneath (PPPoE has less than Ethernet), and never less than IPv6 allows.
func tunnelMTU(configured, offered, outer, overhead int) int {
	mtu := configured
	if mtu == 0 {
		mtu = offered
	}
	if outer != 0 {
		mtu = min(mtu, outer-overhead)
	}
	return max(minMTU, min(mtu, tunnel.MaxMTU))
}
