// SPDX-License-Identifier: GPL-2.0-only
/*
 * A tunnel is found by arithmetic on its inner address: the pools say which slot of which array. A slot is a pointer, so that to
 * put another tunnel in it is one store; the one before is freed after a grace period.
 */
#include <linux/slab.h>
#include <net/ipv6.h>

#include "table.h"

/* The slot of an id, NULL if it is in no pool. The pool is told if it is asked for. Under RCU or hub->lock. */
struct utun_tunnel __rcu **utun_slot(const struct utun_config *config, u32 id, const struct utun_pool **pool)
{
	unsigned int n;

	for (n = 0; n < config->n_pools; n++) {
		const struct utun_pool *p = &config->pools[n];

		if (id - p->first < p->size) {
			if (pool)
				*pool = p;
			return &p->slots[id - p->first];
		}
	}
	return NULL;
}

/* utun_find() of an address outside the pools. */
bool utun_find_foreign(const struct utun_hub *hub, const struct utun_config *config, const struct in6_addr *a,
		       struct utun_owner *owner)
{
	if (!utun_foreigners_find(&hub->foreign, a, &owner->id))
		return false;
	owner->slot = utun_slot(config, owner->id, NULL);
	owner->has = UTUN_HAS_FOREIGN;
	return owner->slot;
}

static struct utun_tunnel *held(struct utun_hub *hub, struct utun_tunnel __rcu **slot)
{
	return rcu_dereference_protected(*slot, lockdep_is_held(&hub->lock));
}

static struct utun_config *held_config(struct utun_hub *hub)
{
	return rcu_dereference_protected(hub->config, lockdep_is_held(&hub->lock));
}

/* The tunnel with an id, NULL if it is not in force. */
struct utun_tunnel *utun_table_get(struct utun_hub *hub, u32 id)
{
	struct utun_config *config = held_config(hub);
	struct utun_tunnel __rcu **slot = config ? utun_slot(config, id, NULL) : NULL;

	return slot ? held(hub, slot) : NULL;
}

/* The tunnel with the smallest id from id on, NULL if there is none. Looks at 65536 slots before it lets others run. */
struct utun_tunnel *utun_table_next(struct utun_hub *hub, u32 id)
{
	struct utun_config *config = held_config(hub);
	unsigned int n;
	u32 index;

	for (n = 0; config && n < config->n_pools; n++) {
		const struct utun_pool *p = &config->pools[n];

		if (id > p->first + (p->size - 1))
			continue;
		for (index = id > p->first ? id - p->first : 0; index < p->size; index++) {
			struct utun_tunnel *t = held(hub, &p->slots[index]);

			if (t)
				return t;
			if (!(index & 0xffff))
				cond_resched();
		}
	}
	return NULL;
}

static void bind_port(struct utun_tunnel *t, struct utun_port *port, bool bound)
{
	port->bound = bound;
	port->id = t->id;
}

static void unbind_tunnel(struct utun_tunnel *t, struct utun_hub *hub)
{
	struct net_device *dev = rcu_dereference_protected(t->dev, lockdep_is_held(&hub->lock));

	if (dev)
		bind_port(t, netdev_priv(dev), false);
}

static void push(struct utun_batch *batch, struct utun_tunnel *t, struct utun_tunnel *successor)
{
	t->successor = successor;
	t->next = NULL;
	*batch->last = t;
	batch->last = &t->next;
}

/*
 * Puts a tunnel into force as it is wished, see UTUN_CMD_TUNNEL_SET. What is replaced goes to the batch, which the caller settles
 * before it lets go of the lock: until then the counters of a changed tunnel lack what the one before counted.
 */
int utun_table_set(struct utun_hub *hub, struct utun_wish *w, struct utun_batch *batch, struct utun_refusal *why)
{
	struct utun_config *config = held_config(hub);
	struct utun_claim claim, had = {};
	struct utun_tunnel __rcu **slot;
	struct utun_tunnel *before, *t;
	int err;

	if (!config)
		return utun_refuse(why, -ERANGE, UTUN_TUNNEL_A_ID, "the device is not configured");
	err = utun_wish_check(config, w, why);
	if (err)
		return err;
	if (w->port && (w->port->dead || (w->port->bound && w->port->id != w->id)))
		return utun_refuse(why, w->port->dead ? -ENODEV : -EBUSY, UTUN_TUNNEL_A_IFINDEX, "the client device is not free");
	slot = utun_slot(config, w->id, NULL);
	before = held(hub, slot);
	if (before && utun_tunnel_same(before, w)) {
		utun_tunnel_tune(before, w);
		return 0;
	}
	t = utun_tunnel_new(w);
	if (!t)
		return utun_refuse(why, -ENOMEM, 0, NULL);
	claim = utun_claim_of(config, t);
	err = utun_claim_take(hub, &claim, w->id, why);
	if (err) {
		utun_tunnel_free(t);
		return err;
	}
	if (before) {
		had = utun_claim_of(config, before);
		unbind_tunnel(before, hub);
	}
	if (w->port)
		bind_port(t, w->port, true);
	if (before ? before->session != t->session : !utun_remains_claim(&hub->remains, t))
		utun_tallies_forget(&hub->tallies, t->id);
	rcu_assign_pointer(*slot, t);
	utun_claim_release(hub, &had, &claim);
	if (before)
		push(batch, before, before->session == t->session ? t : NULL);
	else
		hub->tunnels++;
	return 0;
}

/* Gives up what a tunnel holds; who calls takes it out of its slot. */
void utun_table_leave(struct utun_hub *hub, struct utun_config *config, struct utun_tunnel *t, struct utun_batch *batch)
{
	struct utun_claim had = utun_claim_of(config, t);

	unbind_tunnel(t, hub);
	utun_claim_release(hub, &had, &(struct utun_claim){});
	push(batch, t, NULL);
	hub->tunnels--;
}

/* Takes a tunnel out of force; false: it was not in force. */
bool utun_table_take(struct utun_hub *hub, u32 id, struct utun_batch *batch)
{
	struct utun_config *config = held_config(hub);
	struct utun_tunnel __rcu **slot = config ? utun_slot(config, id, NULL) : NULL;
	struct utun_tunnel *t = slot ? held(hub, slot) : NULL;

	if (!t)
		return false;
	RCU_INIT_POINTER(*slot, NULL);
	utun_table_leave(hub, config, t, batch);
	return true;
}

/*
 * Remembers what the tunnels of a batch counted that were taken out; no packet may be in them any more. One that was set again
 * meanwhile has it at once, if it is the same session's.
 */
void utun_table_remember(struct utun_hub *hub, const struct utun_batch *batch)
{
	const struct utun_tunnel *t;
	struct utun_counters c;

	for (t = batch->first; t && !hub->dead; t = t->next) {
		struct utun_tunnel *now = utun_table_get(hub, t->id);

		if (!now) {
			utun_remains_keep(&hub->remains, t);
		} else if (now->session == t->session) {
			c = utun_tunnel_counters(t);
			utun_tunnel_add(now, &c);
		}
	}
}

/* Waits until no packet is in the tunnels of a batch, and frees them. */
void utun_batch_settle(struct utun_batch *batch)
{
	if (!batch->first)
		return;
	synchronize_net();
	utun_batch_free(batch);
}

/* Hands the counters on and frees. No packet may be in the tunnels; needs no lock if none was replaced. */
void utun_batch_free(struct utun_batch *batch)
{
	struct utun_tunnel *t, *next;
	unsigned int n = 0;

	for (t = batch->first; t; t = next) {
		next = t->next;
		if (t->successor)
			utun_tunnel_inherit(t->successor, t);
		utun_tunnel_free(t);
		if (!(++n & 0xfff))
			cond_resched();
	}
	utun_batch_init(batch);
}

/* The client device of a port goes; its tunnel is seen through the shared one from now on. */
void utun_table_unbind(struct utun_hub *hub, struct utun_port *port)
{
	struct utun_tunnel *t = port->bound ? utun_table_get(hub, port->id) : NULL;

	port->dead = true;
	port->bound = false;
	if (t)
		RCU_INIT_POINTER(t->dev, NULL);
}
