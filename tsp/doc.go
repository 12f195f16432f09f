// SPDX-License-Identifier: GPL-2.0-or-later

// Package tsp speaks the Tunnel Setup Protocol of RFC 5572, as a server and as a client.
//
// The RFC in twenty lines. A client that has only IPv4 asks a server for a tunnel that carries IPv6. It speaks to port 3653, over TCP
// or over UDP; there, eight octets stand before each message: 0xF and 28 bits of sequence, then the client's clock, both of which the
// server returns (section 4.4.1). The first nibble tells signalling (15) from the tunnel's packets (6), which share the
// socket. The client repeats what is not answered; the server repeats nothing but answers.
//
//	client                                            server
//	VERSION=2.0.2 CR LF                          ──►               4.4.2: nothing is kept
//	                                             ◄──  CAPABILITY TUNNEL=V6V4 TUNNEL=V6UDPV4 AUTH=PLAIN AUTH=DIGEST-MD5
//	AUTHENTICATE DIGEST-MD5                      ──►               4.4.3: the dialogue begins
//	                                             ◄──  base64 of the challenge (RFC 2831)
//	base64 of the response                       ──►
//	                                             ◄──  base64 of rspauth; then, on its own: 200 Success
//	Content-length: N                            ──►               4.4.3, 4.7: one XML element a command
//	<tunnel action="create" type="v6anyv4">...
//	                                             ◄──  Content-length: N
//	                                                  200 Success
//	                                                  <tunnel action="info" type="v6udpv4" lifetime="1440">...
//	<tunnel action="accept"></tunnel>            ──►
//	                                             ◄──  200 Success; the tunnel forwards
//
// v6anyv4 asks the server to choose: where the address the client states is not the one its packets come from there is a NAT between,
// and the tunnel is UDP (v6udpv4), else protocol 41 (v6v4). A router asks for a prefix besides. The server sets how often the client
// must ping it inside the tunnel, and the lifetime. Errors are a status (appendix B); 1000 is added to one when a list of other
// servers follows. An ECHO REQUEST, which no RFC mentions, lets clients measure which of them is nearest.
//
// Much of that the RFC leaves open, and what is deployed decides; clients.md lists what clients in the field do, and numbers it. Code
// and tests cite those numbers as "client fact 7".
//
// A Server owns order, framing, retransmission and limits, and asks a Backend what to answer. The states of a dialogue are
// drawn at the type phase. A Client runs the other end. Credentials are collected in package sasl; who is whom, and what a tunnel
// is, is for others to know.
package tsp
