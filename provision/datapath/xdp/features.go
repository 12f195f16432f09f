// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"encoding/binary"
	"errors"
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

// Of generic netlink: its own family, and "netdev" (Linux 6.3).
const (
	genlHeader         = 4
	netdevCmdDevGet    = 1
	netdevAttrIfindex  = 1
	netdevAttrFeatures = 3
)

// xdpFeatures asks what an interface can do; known is false where the kernel has no way to ask. A redirect to an interface
// that cannot take the frame loses it without a trace, so there is no trying.
func (h *host) xdpFeatures(index int) (features uint64, known bool, err error) {
	// Only a socket for another namespace than the thread's own takes CAP_SYS_ADMIN, which the daemon does not have.
	var socket *nl.NetlinkSocket
	err = h.Do(func() (err error) {
		socket, err = nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("generic netlink: %w", err)
	}
	defer socket.Close()
	sockets := map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: {Socket: socket}}
	family, err := askGeneric(sockets, unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY,
		nl.NewRtAttr(unix.CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated("netdev")), unix.CTRL_ATTR_FAMILY_ID)
	if errors.Is(err, unix.ENOENT) {
		return 0, false, nil // no such family: an older kernel
	}
	if err != nil {
		return 0, false, fmt.Errorf("generic netlink family netdev: %w", err)
	}
	if len(family) != 2 {
		return 0, false, nil
	}
	value, err := askGeneric(sockets, int(binary.NativeEndian.Uint16(family)), netdevCmdDevGet,
		nl.NewRtAttr(netdevAttrIfindex, nl.Uint32Attr(uint32(index))), netdevAttrFeatures)
	if err != nil {
		return 0, false, fmt.Errorf("XDP features of interface %d: %w", index, err)
	}
	if len(value) != 8 {
		return 0, false, nil
	}
	return binary.NativeEndian.Uint64(value), true, nil
}

// askGeneric sends a generic netlink command with one attribute and gives the wanted attribute of the answer, nil if it has
// none. The library's own message type is not used: it sends two octets of whatever lies behind it in memory.
func askGeneric(sockets map[int]*nl.SocketHandle, family int, command byte, attribute *nl.RtAttr, wanted uint16) ([]byte, error) {
	request := nl.NewNetlinkRequest(family, unix.NLM_F_ACK)
	request.Sockets = sockets
	request.AddRawData(append([]byte{command, 1, 0, 0}, attribute.Serialize()...))
	messages, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, err
	}
	for _, message := range messages {
		if len(message) < genlHeader {
			continue
		}
		attributes, err := nl.ParseRouteAttr(message[genlHeader:])
		if err != nil {
			return nil, err
		}
		for _, a := range attributes {
			if a.Attr.Type == wanted {
				return a.Value, nil
			}
		}
	}
	return nil, nil
}
