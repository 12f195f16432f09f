// SPDX-License-Identifier: GPL-2.0-or-later

// Package radius asks RADIUS servers who a subscriber is (RFC 2865), tells them what he used (RFC 2866), and obeys them
// when they want him off (RFC 5176).
//
// Packets and attributes are layeh.com/radius; the transport is ours, since that library opens a socket a request, ends a
// login on the first ICMP error and knows no second server. Ours works like this:
//
//	Client ──► server 1 (priority 0) ──► link: connected UDP socket, or TLS connection (RadSec, RFC 6614)
//	       │                        └──► link: another 256 identifiers when the first are all in use
//	       └─► server 2 (priority 1)     tried when the first is dead or silent
//
// A link carries 256 outstanding requests, one an identifier; identifiers rest as long as possible before they are used
// again. A reply ends a wait only after its Response Authenticator and its Message-Authenticator are verified, so that
// forged and late datagrams change nothing. Over UDP the same octets are sent again by the timers of RFC 5080 section 2.2.1;
// over TLS nothing is sent twice on one connection (RFC 6613 section 2.6.1), but a lost connection's requests go out again on
// the next. A server that does not answer is left alone for a while, and asked by Status-Server (RFC 5997) whether it is back.
// Requests in flight are capped per server, the rest wait in a bounded queue: more in flight only overflows the server's socket.
//
// Every Access-Request begins with a Message-Authenticator (RFC 3579), against the forgery known as BlastRADIUS.
package radius
