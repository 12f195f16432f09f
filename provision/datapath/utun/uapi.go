// SPDX-License-Identifier: GPL-2.0-or-later

package utun

// What kmod/uapi/utun.h defines, by the same names; a test holds them against it. There stands what they mean.
const (
	genlName    = "utun"
	genlVersion = 1

	localsMax   = 8
	poolsMax    = 8
	batchMax    = 512
	keepForever = 0xffffffff

	flagPipe = 1 << 1
	flagTSP  = 1 << 2
)

// enum utun_cmd
const (
	cmdDevSet uint8 = iota + 1
	cmdDevGet
	cmdSocketAttach
	cmdSocketDetach
	cmdTunnelSet
	cmdTunnelDel
	cmdTunnelGet
	cmdDropsGet
)

// enum utun_attr
const (
	attrPad uint16 = iota + 1
	attrIfindex
	attrFD
	attrLocal
	attrPool
	attrServer
	attrMTU
	attrKeep
	attrFlags
	attrTunnels
	attrSocket
	attrTunnel
	attrID
	attrStart
	attrDrop
)

// enum utun_local_attr
const (
	localAddr uint16 = iota + 1
	localPort
)

// enum utun_pool_attr
const (
	poolFirst uint16 = iota + 1
	poolSize
	poolEndpoint
	poolPrefix
	poolPrefixLen
)

// enum utun_encap
const (
	encapUDP uint8 = iota + 1
	encapIP
)

// enum utun_tunnel_attr
const (
	tunnelPad uint16 = iota + 1
	tunnelID
	tunnelSession
	tunnelEncap
	tunnelLocal
	tunnelLocalPort
	tunnelRemote
	tunnelRemotePort
	tunnelEndpoint
	tunnelPrefix
	tunnelPrefixLen
	tunnelMTU
	tunnelIfindex
	tunnelRxRate
	tunnelTxRate
	tunnelRxBurst
	tunnelTxBurst
	tunnelRxPackets
	tunnelRxBytes
	tunnelTxPackets
	tunnelTxBytes
	tunnelIdle
	tunnelSeen
	tunnelRoute
)

// enum utun_route_attr
const (
	routeAddr uint16 = iota + 1
	routeLen
)

// Of enum utun_drop, which begins with the datapath.Reasons: the one behind them.
const dropUnattended uint8 = 15

// The least rate in octets a second.
const rateMin = 1

// enum utun_drop_attr
const (
	dropPad uint16 = iota + 1
	dropReason
	dropPackets
	dropAge
	dropID
	dropEncap
	dropRemote
	dropRemotePort
	dropInner
)
