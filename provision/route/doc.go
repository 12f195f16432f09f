// SPDX-License-Identifier: GPL-2.0-or-later

// Package route puts routes into the kernel's table for each session in force: to its endpoint, to its delegated prefix
// if it has one, and to each further prefix routed to its subscriber. Where several tunnel servers share a pool, a routing
// daemon (BIRD, FRR) tells them to the other routers, which so send a subscriber's packets to the server that has his
// tunnel; see contrib/bird and contrib/frr. Nothing is forwarded by these routes that the datapath's own would not forward.
//
// An Exporter follows the Broker's events and makes the table what it has to be, after a start and once in a while as a
// whole. The routes of a daemon that has ended stay, as its tunnels do.
package route
