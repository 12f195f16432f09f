/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a shared device holds, and who may touch it.
 *
 * Packets read under RCU and take no lock. Whoever changes something holds hub->lock, and frees what packets may still see after
 * a grace period. Locks are taken in this order:
 *
 *   RTNL > utun_sockets_lock (udp.c) > hub->lock
 *
 * A hub lives as long as its net_device: until ndo_uninit of the shared device it is whole; then it is emptied, `dead` is
 * set under the lock, and the memory goes with the net_device, when nobody holds a reference to that any more.
 */
#ifndef _UTUN_HUB_H
#define _UTUN_HUB_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/workqueue.h>

#include "foreign.h"
#include "pool.h"
#include "remains.h"
#include "tally.h"
#include "utun.h"

struct utun_drops;

struct utun_local {
	__be32 addr;
	__be16 port;
};

/* Replaced as a whole. */
struct utun_config {
	struct in6_addr server;
	bool has_server;
	u32 mtu;
	u32 keep;
	u32 flags;
	unsigned int n_locals, n_pools;
	struct utun_local locals[UTUN_LOCALS_MAX];
	struct utun_pool pools[UTUN_POOLS_MAX];		/* by ascending id */
};

struct utun_hub {
	struct utun_config __rcu *config;		/* NULL until it is set */
	struct net_device *dev;
	struct utun_drops __percpu *drops;
	struct utun_foreigners foreign;
	struct utun_remains remains;
	struct utun_tallies tallies;
	atomic64_t complaints, mismatches;		/* buckets of Packet Too Big and of events */

	struct mutex lock;				/* what is said above */
	bool dead;
	u32 tunnels;

	struct list_head sockets;			/* udp.c, under utun_sockets_lock */
	struct delayed_work expiry;
	struct list_head ports;				/* client devices, under RTNL */
	struct list_head list;				/* of the network namespace's hubs; RCU, under RTNL */
	struct nf_hook_ops guard;
};

/* Private data of a net_device of either kind. */
struct utun_port {
	struct net_device *dev;
	struct utun_hub *hub;				/* of the shared device */
	bool client;
	bool dead;					/* client: under hub->lock */
	bool bound;					/* client: under hub->lock; a tunnel comes in by it, */
	u32 id;						/* this one */
	struct list_head list;				/* client: in hub->ports */
};

/* What an inner address tells about its tunnel. */
struct utun_owner {
	struct utun_tunnel __rcu **slot;
	u32 id;
	u8 has;						/* the UTUN_HAS_ bit the tunnel must have to own the address */
};

struct utun_tunnel __rcu **utun_slot(const struct utun_config *config, u32 id, const struct utun_pool **pool);
bool utun_find_foreign(const struct utun_hub *hub, const struct utun_config *config, const struct in6_addr *a,
		       struct utun_owner *owner);

/* Finds the tunnel an inner address belongs to, in force or not. Under RCU or hub->lock. */
static inline bool utun_find(const struct utun_hub *hub, const struct utun_config *config, const struct in6_addr *a,
			     struct utun_owner *owner)
{
	struct utun_wide w = utun_wide(a);
	unsigned int n;
	u32 index;

	for (n = 0; n < config->n_pools; n++) {
		const struct utun_pool *p = &config->pools[n];

		if (utun_pool_find(p, w, &index, &owner->has)) {
			owner->slot = &p->slots[index];
			owner->id = p->first + index;
			return true;
		}
	}
	return utun_find_foreign(hub, config, a, owner);
}

#endif
