// SPDX-License-Identifier: GPL-2.0-or-later

// Package mmsg reads and writes many datagrams of a UDP socket with one system call, recvmmsg(2) and sendmmsg(2).
//
// A server that answers thousands of clients in the same second spends most of its time on the way into the kernel and
// back, and on being woken up for each datagram: here it is woken up for as many as have come. Nothing is allocated by the
// datagram. On a socket bound to the wildcard each datagram carries the local address it came to, or has to be sent from.
package mmsg

import "net/netip"

// Message is one datagram.
type Message struct {
	Data   []byte
	Remote netip.AddrPort // where it came from or goes to; invalid on a connected socket
	// Local is the local address it came to, or is to be sent from; invalid where the socket has one of its own.
	Local netip.Addr
}
