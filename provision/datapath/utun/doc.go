// SPDX-License-Identifier: GPL-2.0-or-later

// Package utun is the datapath that the kernel module utun (kmod/) makes: a driver over netlink.
//
// The module does all the work with packets; kmod/uapi/utun.h says what and why. The driver makes the device, tells the module the
// Config and the tunnels, hands the daemon's UDP sockets over to it, and keeps address and routes:
//
//	Configure ── link, DEV_SET, address, routes of the pools        Set ── TUNNEL_SET, in batches
//	Attach ───── SOCKET_ATTACH                                      Delete ── TUNNEL_DEL, many calls share one
//	Drops ────── DROPS_GET                                          All ── TUNNEL_GET as a dump, resumed where it broke off
//
// talk.go speaks netlink; encode.go and decode.go are pure functions between values and octets; device.go, routes.go and
// clients.go keep what `ip` shows. State is in the kernel alone: a new process finds tunnels and counters as they are.
// What the driver remembers of tunnels (prefixes from outside the pools, client devices) it reads anew from there.
//
// Layout Shared has one device for all tunnels. Layout Interface gives each tunnel a device of its own besides, named by the
// client's address and port in the way ac10022a_58022, so that tcpdump, tc and nftables can be used on one subscriber. It is
// for small sites: a device takes 45 to 50 KB of kernel memory, and making one takes a millisecond or more beyond some thousands.
package utun
