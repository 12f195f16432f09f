// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"math"

	"ddtb/provision/datapath"
)

// header is that of a generic netlink message.
func header(command uint8) message { return message{command, genlVersion, 0, 0} }

// encodeDevice is DEV_SET: a Config for the device of an index.
func encodeDevice(index int, config datapath.Config, dscp DSCP) message {
	m := header(cmdDevSet)
	m.u32(attrIfindex, uint32(index))
	for _, local := range config.Local {
		m.nest(attrLocal, func() {
			m.add(localAddr, local.Addr().AsSlice()...)
			m.be16(localPort, local.Port())
		})
	}
	for _, pool := range config.Pools {
		m.nest(attrPool, func() {
			m.u32(poolFirst, pool.First)
			m.u32(poolSize, pool.Size)
			m.add(poolEndpoint, pool.EndpointBase.AsSlice()...)
			if pool.PrefixLen > 0 {
				m.add(poolPrefix, pool.PrefixBase.AsSlice()...)
				m.add(poolPrefixLen, byte(pool.PrefixLen))
			}
		})
	}
	m.add(attrServer, config.Server.AsSlice()...)
	m.u32(attrMTU, uint32(config.MTU))
	m.u32(attrKeep, keepForever)
	flags := uint32(flagTSP)
	if dscp == Pipe {
		flags |= flagPipe
	}
	m.u32(attrFlags, flags)
	return m
}

// encodeAbout is a command about the device and nothing else.
func encodeAbout(command uint8, index int) message {
	m := header(command)
	m.u32(attrIfindex, uint32(index))
	return m
}

// encodeSocket is SOCKET_ATTACH.
func encodeSocket(index int, fd uintptr) message {
	m := encodeAbout(cmdSocketAttach, index)
	m.u32(attrFD, uint32(fd))
	return m
}

// placed is a tunnel and its client device, 0 if it has none.
type placed struct {
	datapath.Tunnel
	link int
}

// encodeSet is TUNNEL_SET.
func encodeSet(index int, tunnels []placed) message {
	m := encodeAbout(cmdTunnelSet, index)
	for _, t := range tunnels {
		m.nest(attrTunnel, func() { encodeTunnel(&m, t) })
	}
	return m
}

func encodeTunnel(m *message, t placed) {
	m.u32(tunnelID, t.ID)
	m.u64(tunnelSession, t.Session)
	encap := encapUDP
	if t.Encap == datapath.V6V4 {
		encap = encapIP
	}
	m.add(tunnelEncap, encap)
	m.add(tunnelLocal, t.Local.Addr().AsSlice()...)
	m.add(tunnelRemote, t.Remote.Addr().AsSlice()...)
	if encap == encapUDP {
		m.be16(tunnelLocalPort, t.Local.Port())
		m.be16(tunnelRemotePort, t.Remote.Port())
	}
	m.add(tunnelEndpoint, t.Endpoint.AsSlice()...)
	if t.Prefix.IsValid() {
		m.add(tunnelPrefix, t.Prefix.Addr().AsSlice()...)
		m.add(tunnelPrefixLen, byte(t.Prefix.Bits()))
	}
	if t.MTU != 0 {
		m.u32(tunnelMTU, uint32(t.MTU))
	}
	if t.link != 0 {
		m.u32(tunnelIfindex, uint32(t.link))
	}
	for route := range t.Routes.All() {
		m.nest(tunnelRoute, func() {
			m.add(routeAddr, route.Addr().AsSlice()...)
			m.add(routeLen, byte(route.Bits()))
		})
	}
	encodeRate(m, t.Rate.Rx, tunnelRxRate, tunnelRxBurst)
	encodeRate(m, t.Rate.Tx, tunnelTxRate, tunnelTxBurst)
}

// encodeRate tells a rate, in bits a second, if there is one.
func encodeRate(m *message, rate uint64, kind, burst uint16) {
	if rate != 0 {
		m.u64(kind, octetRate(rate))
		m.u32(burst, uint32(min(datapath.Burst(rate), math.MaxUint32)))
	}
}

// octetRate is what the module can do of a rate in bits a second, in octets.
func octetRate(rate uint64) uint64 { return max(rate/8, rateMin) }

// encodeDelete is TUNNEL_DEL.
func encodeDelete(index int, ids []uint32) message {
	m := encodeAbout(cmdTunnelDel, index)
	for _, id := range ids {
		m.u32(attrID, id)
	}
	return m
}

// encodeDump is TUNNEL_GET or DROPS_GET for all tunnels from an id on.
func encodeDump(cmd uint8, index int, start uint32) message {
	m := encodeAbout(cmd, index)
	m.u32(attrStart, start)
	return m
}
