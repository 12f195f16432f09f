/* SPDX-License-Identifier: GPL-2.0-only */
/* One tunnel. */
#ifndef _UTUN_TUNNEL_H
#define _UTUN_TUNNEL_H

#include <linux/atomic.h>
#include <linux/cache.h>
#include <linux/in6.h>
#include <linux/jiffies.h>
#include <linux/netlink.h>
#include <linux/rcupdate.h>
#include <net/route.h>

#include "hub.h"

/* The outer header as it is between client and server. */
struct utun_ends {
	__be32 local, remote;
	__be16 local_port, remote_port;	/* 0 for UTUN_ENCAP_IP */
	u8 encap;
	u8 has;				/* UTUN_HAS_; 0 where this is of a packet */
};

struct utun_counters {
	u64 rx_packets, rx_bytes, tx_packets, tx_bytes;
};

struct utun_limit {
	u64 rate;			/* octets a second; 0: none */
	u32 burst;			/* octets; 0: by the rate */
};

struct utun_prefix {
	struct in6_addr addr;
	u8 len;
};

/* The wanted state of a tunnel. */
struct utun_wish {
	u32 id;
	u64 session;
	struct utun_ends ends;		/* has is computed */
	struct in6_addr endpoint, prefix;
	u8 prefix_len;			/* 0: no prefix */
	u8 n_routes;
	struct utun_prefix routes[UTUN_ROUTES_MAX];
	u32 mtu;			/* 0: the device's */
	struct utun_port *port;		/* client device, NULL: none */
	struct utun_limit rx, tx;
};

/*
 * What packets look at never changes while the tunnel is in a slot, but for single words: a tunnel is changed by putting another
 * one into its slot. Each direction has a cache line of its own, so that CPUs that receive and CPUs that send do not take it
 * from each other; and no line is per CPU, since of a million tunnels few are in a cache and what costs time is to fetch lines.
 */
struct utun_tunnel {
	struct utun_ends rx_ends;
	atomic64_t rx_packets, rx_bytes;
	u64 rx_cost;			/* police.h */
	atomic64_t rx_full;
	unsigned long seen;		/* jiffies when a packet came last; bit 0: one came in this session */
	struct net_device __rcu *dev;	/* client device, NULL: the shared one */

	struct utun_ends tx_ends ____cacheline_aligned;
	atomic64_t tx_packets, tx_bytes;
	u64 tx_cost;
	atomic64_t tx_full;
	u32 mtu;			/* as wished; 0: the device's */
	struct rtable __rcu *route;	/* the last one; see tx.c */

	struct in6_addr endpoint ____cacheline_aligned, prefix;
	u64 session;
	u64 rx_burst, tx_burst;		/* ns */
	struct utun_limit rx, tx;
	struct utun_tunnel *next;	/* of those to be freed after the same grace period */
	struct utun_tunnel *successor;	/* in whose favour it was taken out; it gets the counters */
	struct utun_prefix *routes;	/* NULL: none */
	u32 id;
	u8 prefix_len;
	u8 n_routes;
};

#define UTUN_SEEN 1UL			/* in seen */

int utun_tunnel_init(void);
void utun_tunnel_exit(void);

struct utun_tunnel *utun_tunnel_new(const struct utun_wish *wish);
void utun_tunnel_free(struct utun_tunnel *t);
void utun_tunnel_tune(struct utun_tunnel *t, const struct utun_wish *wish);
bool utun_tunnel_same(const struct utun_tunnel *t, const struct utun_wish *wish);
void utun_tunnel_add(struct utun_tunnel *t, const struct utun_counters *c);
void utun_tunnel_inherit(struct utun_tunnel *t, const struct utun_tunnel *before);
struct utun_counters utun_tunnel_counters(const struct utun_tunnel *t);
struct utun_wish utun_tunnel_wish(const struct utun_tunnel *t);

static inline bool utun_same_ends(const struct utun_ends *a, const struct utun_ends *b)
{
	return a->local == b->local && a->remote == b->remote && a->local_port == b->local_port &&
	       a->remote_port == b->remote_port && a->encap == b->encap;
}

#endif
