// SPDX-License-Identifier: GPL-2.0-only
#include <linux/slab.h>

#include "police.h"
#include "tunnel.h"

static struct kmem_cache *cache;

int utun_tunnel_init(void)
{
	BUILD_BUG_ON(offsetof(struct utun_tunnel, tx_ends) > SMP_CACHE_BYTES && SMP_CACHE_BYTES == 64);
	cache = KMEM_CACHE(utun_tunnel, SLAB_HWCACHE_ALIGN | SLAB_ACCOUNT);
	return cache ? 0 : -ENOMEM;
}

void utun_tunnel_exit(void)
{
	kmem_cache_destroy(cache);
}

/* A tunnel that is in no slot yet. */
struct utun_tunnel *utun_tunnel_new(const struct utun_wish *wish)
{
	struct utun_tunnel *t = kmem_cache_zalloc(cache, GFP_KERNEL);

	if (!t)
		return NULL;
	t->rx_ends = wish->ends;
	t->tx_ends = wish->ends;
	t->id = wish->id;
	t->session = wish->session;
	t->endpoint = wish->endpoint;
	t->prefix = wish->prefix;
	t->prefix_len = wish->prefix_len;
	if (wish->n_routes) {
		t->routes = kmemdup(wish->routes, wish->n_routes * sizeof(*t->routes), GFP_KERNEL_ACCOUNT);
		if (!t->routes) {
			kmem_cache_free(cache, t);
			return NULL;
		}
		t->n_routes = wish->n_routes;
	}
	t->seen = jiffies & ~UTUN_SEEN;
	RCU_INIT_POINTER(t->dev, wish->port ? wish->port->dev : NULL);
	utun_tunnel_tune(t, wish);
	return t;
}

/* No packet may be in it. */
void utun_tunnel_free(struct utun_tunnel *t)
{
	struct rtable *route = rcu_dereference_protected(t->route, 1);

	if (route)
		dst_release(&route->dst);
	kfree(t->routes);
	kmem_cache_free(cache, t);
}

static u64 fill_time(const struct utun_limit *l)
{
	u32 burst = l->burst;

	if (!burst)
		burst = clamp_t(u64, div_u64(l->rate, 10), 16384, U32_MAX);
	return utun_burst(l->rate, burst);
}

/*
 * Sets what may change under way. A packet meets each of these words old or new; any mixture is harmless. A new rate begins with
 * a full burst: what was owed at the old one says nothing at the new.
 */
void utun_tunnel_tune(struct utun_tunnel *t, const struct utun_wish *wish)
{
	WRITE_ONCE(t->mtu, wish->mtu);
	if (t->rx.rate != wish->rx.rate || t->rx.burst != wish->rx.burst)
		atomic64_set(&t->rx_full, 0);
	if (t->tx.rate != wish->tx.rate || t->tx.burst != wish->tx.burst)
		atomic64_set(&t->tx_full, 0);
	t->rx = wish->rx;
	t->tx = wish->tx;
	WRITE_ONCE(t->rx_burst, fill_time(&wish->rx));
	WRITE_ONCE(t->tx_burst, fill_time(&wish->tx));
	WRITE_ONCE(t->rx_cost, utun_cost(wish->rx.rate));
	WRITE_ONCE(t->tx_cost, utun_cost(wish->tx.rate));
}

static bool same_routes(const struct utun_tunnel *t, const struct utun_wish *wish)
{
	unsigned int n;

	if (t->n_routes != wish->n_routes)
		return false;
	for (n = 0; n < t->n_routes; n++)
		if (t->routes[n].len != wish->routes[n].len || !ipv6_addr_equal(&t->routes[n].addr, &wish->routes[n].addr))
			return false;
	return true;
}

/* Whether a wish differs in nothing but what utun_tunnel_tune() sets. */
bool utun_tunnel_same(const struct utun_tunnel *t, const struct utun_wish *wish)
{
	return t->session == wish->session && utun_same_ends(&t->rx_ends, &wish->ends) &&
	       ipv6_addr_equal(&t->endpoint, &wish->endpoint) && t->prefix_len == wish->prefix_len &&
	       ipv6_addr_equal(&t->prefix, &wish->prefix) && same_routes(t, wish) &&
	       rcu_access_pointer(t->dev) == (wish->port ? wish->port->dev : NULL);
}

/* Adds what was counted before. */
void utun_tunnel_add(struct utun_tunnel *t, const struct utun_counters *c)
{
	atomic64_add(c->rx_packets, &t->rx_packets);
	atomic64_add(c->rx_bytes, &t->rx_bytes);
	atomic64_add(c->tx_packets, &t->tx_packets);
	atomic64_add(c->tx_bytes, &t->tx_bytes);
}

/* Takes over what a tunnel counted that was replaced by this one; no packet may be in that any more. */
void utun_tunnel_inherit(struct utun_tunnel *t, const struct utun_tunnel *before)
{
	struct utun_counters c = utun_tunnel_counters(before);

	utun_tunnel_add(t, &c);
	/* A packet that comes at this moment may be set back by a grace period. */
	if (!(READ_ONCE(t->seen) & UTUN_SEEN))
		WRITE_ONCE(t->seen, before->seen);
}

struct utun_counters utun_tunnel_counters(const struct utun_tunnel *t)
{
	return (struct utun_counters){
		.rx_packets = atomic64_read(&t->rx_packets), .rx_bytes = atomic64_read(&t->rx_bytes),
		.tx_packets = atomic64_read(&t->tx_packets), .tx_bytes = atomic64_read(&t->tx_bytes),
	};
}

/* The wish a tunnel is there by, but for its client device. */
struct utun_wish utun_tunnel_wish(const struct utun_tunnel *t)
{
	struct utun_wish wish = {
		.id = t->id, .session = t->session, .ends = t->rx_ends, .endpoint = t->endpoint, .prefix = t->prefix,
		.prefix_len = t->prefix_len, .n_routes = t->n_routes, .mtu = t->mtu, .rx = t->rx, .tx = t->tx,
	};

	if (t->n_routes)
		memcpy(wish.routes, t->routes, t->n_routes * sizeof(*t->routes));
	return wish;
}
