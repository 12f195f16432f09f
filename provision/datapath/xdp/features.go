// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// What an interface can do with XDP (enum netdev_xdp_act).
const (
	actBasic    = 1 << 0 // native programs, with XDP_PASS, DROP and TX
	actRedirect = 1 << 1
	actXmit     = 1 << 2 // takes frames redirected to it
)

// Of the generic netlink family "netdev" (Linux 6.3).
const (
	genlHeader         = 4
	netdevCmdDevGet    = 1
	netdevAttrIfindex  = 1
	netdevAttrFeatures = 3
)

// xdpFeatures asks what an interface can do; known is false where the kernel has no way to ask. A redirect to an interface
// that cannot take the frame loses it without a trace, so there is no trying.
func (h *host) xdpFeatures(index int) (features uint64, known bool, err error) {
	family, err := h.nl.GenlFamilyGet("netdev")
	if err != nil {
		return 0, false, nil //nolint:nilerr // no such family: an older kernel
	}
	// Only a socket for another namespace than the thread's own takes CAP_SYS_ADMIN, which the daemon does not have.
	var socket *nl.NetlinkSocket
	err = h.do(func() (err error) {
		socket, err = nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("generic netlink: %w", err)
	}
	defer socket.Close()
	request := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: {Socket: socket}}
	header := []byte{netdevCmdDevGet, 1, 0, 0}
	request.AddRawData(append(header, nl.NewRtAttr(netdevAttrIfindex, nl.Uint32Attr(uint32(index))).Serialize()...))
	messages, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return 0, false, fmt.Errorf("XDP features of interface %d: %w", index, err)
	}
	for _, message := range messages {
		if len(message) < genlHeader {
			continue
		}
		attributes, err := nl.ParseRouteAttr(message[genlHeader:])
		if err != nil {
			return 0, false, fmt.Errorf("XDP features of interface %d: %w", index, err)
		}
		for _, a := range attributes {
			if a.Attr.Type == netdevAttrFeatures && len(a.Value) == 8 {
				return binary.NativeEndian.Uint64(a.Value), true, nil
			}
		}
	}
	return 0, false, nil
}
