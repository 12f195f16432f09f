// SPDX-License-Identifier: GPL-2.0-or-later

//go:build !linux

package tsp

import (
	"errors"
	"net"
	"net/netip"
)

const oobSize = 0

// receiveDestination refuses: a server outside Linux needs sockets bound to one address each.
func receiveDestination(*net.UDPConn) error {
	return errors.New("bind one UDP socket for each address: the wildcard needs Linux")
}

func destination([]byte) (netip.Addr, bool) { return netip.Addr{}, false }

func sendFrom(netip.Addr) []byte { return nil }
