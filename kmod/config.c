// SPDX-License-Identifier: GPL-2.0-only
/* Configurations: made, checked, put in the place of one another, with the tunnels moving from the old to the new. */
#include <linux/slab.h>
#include <linux/sort.h>
#include <net/ipv6.h>

#include "packet.h"
#include "table.h"

static int by_first(const void *a, const void *b)
{
	const struct utun_pool *p = a, *q = b;

	return p->first < q->first ? -1 : p->first > q->first;
}

/* Makes a configuration usable whose plain fields are set: checks and sorts the pools, allocates their slots. */
int utun_config_complete(struct utun_config *config, struct utun_refusal *why)
{
	struct utun_pool *pools = config->pools;
	u64 total = 0;
	unsigned int n, m;

	for (n = 0; n < config->n_pools; n++) {
		if (!utun_pool_fits(&pools[n]))
			return utun_refuse(why, -ERANGE, UTUN_A_POOL, "a pool's ranges are not what they can be");
		total += pools[n].size;
		for (m = 0; m < n; m++)
			if (utun_pools_collide(&pools[n], &pools[m]))
				return utun_refuse(why, -EEXIST, UTUN_A_POOL, "two pools share ids or addresses");
		if (config->has_server && utun_pool_overlaps(&pools[n], &config->server, 128))
			return utun_refuse(why, -EEXIST, UTUN_A_SERVER, "the server's address is in a pool");
	}
	if (total > UTUN_TUNNELS_MAX)
		return utun_refuse(why, -ERANGE, UTUN_A_POOL, "more tunnels than a device can have");
	sort(pools, config->n_pools, sizeof(*pools), by_first, NULL);
	for (n = 0; n < config->n_pools; n++) {
		pools[n].slots = kvcalloc(pools[n].size, sizeof(*pools[n].slots), GFP_KERNEL_ACCOUNT);
		if (!pools[n].slots)
			return utun_refuse(why, -ENOMEM, 0, NULL);
	}
	return 0;
}

/* Nobody may see it any more. The tunnels are others'. */
void utun_config_free(struct utun_config *config)
{
	unsigned int n;

	if (!config)
		return;
	for (n = 0; n < config->n_pools; n++)
		kvfree(config->pools[n].slots);
	kfree(config);
}

/* Moves a tunnel to another configuration; false: that has no room for it. */
static bool move(struct utun_hub *hub, struct utun_config *from, struct utun_config *to, struct utun_tunnel *t)
{
	struct utun_wish wish = utun_tunnel_wish(t);
	struct utun_claim before, after;
	struct utun_refusal why;

	if (utun_wish_check(to, &wish, &why))
		return false;
	/* What was a pool's may be outside the pools now, and the other way round. */
	before = utun_claim_of(from, t);
	after = utun_claim_of(to, t);
	if (utun_claim_take(hub, &after, t->id, &why))
		return false;
	utun_claim_release(hub, &before, &after);
	WRITE_ONCE(t->rx_ends.has, wish.ends.has);
	WRITE_ONCE(t->tx_ends.has, wish.ends.has);
	RCU_INIT_POINTER(*utun_slot(to, t->id, NULL), t);
	return true;
}

typedef void (*visit_t)(struct utun_hub *hub, struct utun_config *config, struct utun_tunnel *t, void *arg);

static void visit_tunnels(struct utun_hub *hub, struct utun_config *config, visit_t visit, void *arg)
{
	unsigned int n;
	u32 i;

	for (n = 0; n < config->n_pools; n++) {
		struct utun_pool *p = &config->pools[n];

		for (i = 0; i < p->size; i++) {
			struct utun_tunnel *t = rcu_dereference_protected(p->slots[i], lockdep_is_held(&hub->lock));

			if (t)
				visit(hub, config, t, arg);
			if (!(i & 0xfff))
				cond_resched();
		}
	}
}

struct change {
	struct utun_config *to;		/* NULL: nothing stays */
	struct utun_batch batch;
};

static void visit(struct utun_hub *hub, struct utun_config *from, struct utun_tunnel *t, void *arg)
{
	struct change *c = arg;

	if (!c->to || !move(hub, from, c->to, t))
		utun_table_leave(hub, from, t, &c->batch);
}

/*
 * Puts a configuration into force; the hub owns it from now on. Packets see the old one or the new one, and in both the tunnels
 * that stay. Those that go are still found in the old one until a grace period has passed.
 */
void utun_config_apply(struct utun_hub *hub, struct utun_config *config)
{
	struct utun_config *old = rcu_dereference_protected(hub->config, lockdep_is_held(&hub->lock));
	struct change c = { .to = config };

	utun_batch_init(&c.batch);
	if (old)
		visit_tunnels(hub, old, visit, &c);
	rcu_assign_pointer(hub->config, config);
	if (!old)
		return;
	synchronize_net();
	utun_batch_free(&c.batch);
	utun_config_free(old);
}

static void clear_slot(struct utun_hub *hub, struct utun_config *config, struct utun_tunnel *t, void *arg)
{
	RCU_INIT_POINTER(*utun_slot(config, t->id, NULL), NULL);
	utun_table_leave(hub, config, t, arg);
}

/* Removes all tunnels. */
void utun_config_flush(struct utun_hub *hub)
{
	struct utun_config *config = rcu_dereference_protected(hub->config, lockdep_is_held(&hub->lock));
	struct utun_batch batch;

	utun_batch_init(&batch);
	if (config)
		visit_tunnels(hub, config, clear_slot, &batch);
	utun_batch_settle(&batch);
}

/* Removes all tunnels and the configuration: the hub is empty, as at its beginning. */
void utun_config_end(struct utun_hub *hub)
{
	utun_config_apply(hub, NULL);
}
