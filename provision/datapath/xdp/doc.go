// SPDX-License-Identifier: GPL-2.0-or-later

// Package xdp is the eBPF datapath for stock kernels: Linux 5.15 and later, best from 6.6 on.
//
// # Which packet goes where
//
//	                      uplink                                        core interface
//	client ──IPv4──► XDP ──► tc ingress          device (TUN)          XDP ──► tc ingress ◄──IPv6── hosts
//	                  │        │      └──decapsulated──► in               │
//	                  │        └─────── socket of the daemon              │
//	                  └──── decapsulated, to the next hop ───────►        │
//	                  ◄──── encapsulated, to the next hop ────────────────┘
//	                  ◄──── encapsulated ◄──── tc egress ◄── out ◄── stack ◄── what XDP left
//
// The XDP program (bpf/xdp.bpf.c) takes the short way: it forwards, answers keepalives, and drops what is forged. All else
// it leaves as it came: signalling, IPv4 fragments and options for the daemon's socket; hop limit 1, hop-by-hop options,
// too big, from tunnel to tunnel, no neighbour yet, for the host itself for the stack. The tc program on the uplinks
// (bpf/tc.bpf.c) decapsulates what XDP left and, where the short way is still not open, has it come in by the device, so
// that for netfilter, tcpdump and policy routing packets from tunnels come from the device. Packets to tunnels are routed to
// the device by the stack, and a tc program on its egress encapsulates them; the ICMPv6 errors the stack makes go the same
// way. Without XDP the tc programs do everything.
//
// The short way is past netfilter, conntrack, tcpdump and the interfaces' counters. A site that filters customers' traffic
// with nftables sets NextHop to Stack: then every packet passes the forward hook, with the device on one side. The outer
// IPv4 packets we send never pass the output hook.
//
// No packet goes round: what came out of a tunnel comes in by the device and is not decapsulated again, what goes out by it
// and is for no tunnel is dropped, and behind the routes to the device stand unreachable routes for the time it is down.
//
// # Modes
//
// Native XDP where the driver of the interface says that it has it, else tc; both may be asked for, and generic XDP. On
// veth Auto takes tc: an skb from the other end has its checksum left to be computed by hardware, and XDP forgets that; with
// native XDP TCP then stands still unless checksum offload is off at both ends (ethtool -K NAME tx off). A frame that
// is redirected to an interface that cannot take it is lost without a trace, so only to interfaces that say they can
// (netlink family netdev, Linux 6.3) is one redirected from native XDP; to others packets go by tc. On older
// kernels Auto takes tc, and Native believes that an interface that runs our program takes frames.
//
// Hardware that strips VLAN tags does so before XDP, which then cannot tell the VLANs apart: turn that off on an interface
// that carries tagged traffic beside (ethtool -K NAME rxvlan off), or use tc, which does not touch tagged packets.
//
// # Next hop
//
// FIB: a lookup for each packet. Fixed: where the default route has one gateway, nearly all lookups have the same answer.
// The watcher (watch.go) follows routes, rules, neighbours and interfaces by netlink and tells the programs the gateway's
// link layer address and up to eight prefixes that other routes lead to; those are looked up as ever. It vouches for the
// answer five seconds at a time: when the process dies the programs go back to lookups. In all modes the watcher has the
// kernel confirm stale neighbours, since packets that pass the stack by do not.
//
// # State
//
// A tunnel is an index (package lease): its record is found by arithmetic on the inner address, in both directions. That the
// outer source is the one in the record is the proof that the inner source may be used. The records lie in one array map that
// this process has in its memory (record.go, table.go), so that tens of thousands are set in milliseconds. It works
// while packets flow because a record in force is never written but for its counters and its MTU, a word each: it is taken
// out of force by clearing its key, nobody uses it after a grace period (grace.go), it is written, the key comes last.
// For the same reason the counters Delete returns are exact. Only addresses from outside the pools need a map to be searched.
//
// Maps and links are pinned below Config.PinPath, in a directory named after the layout's version. Close leaves everything
// in force; the next process takes the maps over, loads its own programs and puts them in the place of the old ones with
// BPF_LINK_UPDATE, one by one; each packet meets one or the other. A changed Config does the same; if records have to move
// to another map, the programs of both work until the last one is replaced, and what the old ones counted is added.
// Remove takes everything away.
//
// # What is done to a packet
//
// The outer IPv4 header has DF clear, since the tunnels' MTU is static (RFC 4213 section 3.2.1), the inner packet's DSCP by
// default (RFC 2983, see DSCP) and its ECN field (RFC 6040 normal mode); the outer UDP checksum is 0, one that arrives is not
// verified: the inner packet has its own. The hop limit is decremented in each direction. Packet Too Big comes from the
// stack for what exceeds the device's MTU and from tc for what exceeds a tunnel's; a token bucket for each CPU allows one
// in a millisecond and a hundred at once.
//
// A tunnel with a rate has a token bucket for each direction, a time in its ledger; the flag that says so stands in the
// record, so that others pay for a branch. A rate changes while packets flow, as the MTU does. What is above it is dropped.
//
// # What is dropped
//
// Each CPU counts by reason and keeps the last offender. Each tunnel has a tally besides, one count a reason, beside nobody's
// record: nothing an attacker sends drives anything out of it, and its size is that of the pools. What a CPU drops of one
// tunnel in a row it tallies when there comes another one, so that a flood costs no more than the look whose it is.
//
// # Not tried
//
// This was run on Linux 6.18 only. What older kernels lack is found by trying, and the ways round it (clsact filters,
// bpf_skb_change_proto) are tested by taking them on 6.18; no network card but veth has been tried.
package xdp
