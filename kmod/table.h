/* SPDX-License-Identifier: GPL-2.0-only */
/* The tunnels of a hub. Everything here wants hub->lock held, but for what says otherwise. */
#ifndef _UTUN_TABLE_H
#define _UTUN_TABLE_H

#include "hub.h"
#include "tunnel.h"

/* Why a wish cannot be: an error, its text, and the attribute to blame (UTUN_TUNNEL_A_, 0: none), which one if it is repeated. */
struct utun_refusal {
	const char *text;
	int attr;
	unsigned int nth;
};

/* Tunnels that were taken out, to be settled together after one grace period. */
struct utun_batch {
	struct utun_tunnel *first, **last;
};

static inline void utun_batch_init(struct utun_batch *b)
{
	b->first = NULL;
	b->last = &b->first;
}

/* What a tunnel has outside the pools: its endpoint, its prefix, its routes. */
struct utun_claim {
	unsigned int n;
	struct utun_claimed {
		const struct in6_addr *addr;
		u8 len;
		u8 attr;		/* what it is: UTUN_TUNNEL_A_ */
		u8 nth;			/* of its routes */
	} of[2 + UTUN_ROUTES_MAX];
};

/* check.c: no lock is needed */
int utun_refuse(struct utun_refusal *why, int err, int attr, const char *text);
bool utun_in_pools(const struct utun_config *config, const struct in6_addr *a, u8 len);
int utun_wish_check(const struct utun_config *config, struct utun_wish *w, struct utun_refusal *why);

/* claim.c */
struct utun_claim utun_claim_of(const struct utun_config *config, const struct utun_tunnel *t);
void utun_claim_release(struct utun_hub *hub, const struct utun_claim *set, const struct utun_claim *keep);
int utun_claim_take(struct utun_hub *hub, const struct utun_claim *set, u32 id, struct utun_refusal *why);

/* config.c; complete and free need no lock */
int utun_config_complete(struct utun_config *config, struct utun_refusal *why);
void utun_config_free(struct utun_config *config);
void utun_config_apply(struct utun_hub *hub, struct utun_config *config);
void utun_config_flush(struct utun_hub *hub);
void utun_config_end(struct utun_hub *hub);

/* table.c */
int utun_table_set(struct utun_hub *hub, struct utun_wish *wish, struct utun_batch *batch, struct utun_refusal *why);
struct utun_tunnel *utun_table_get(struct utun_hub *hub, u32 id);
struct utun_tunnel *utun_table_next(struct utun_hub *hub, u32 id);
bool utun_table_take(struct utun_hub *hub, u32 id, struct utun_batch *batch);
void utun_table_unbind(struct utun_hub *hub, struct utun_port *port);
void utun_table_remember(struct utun_hub *hub, const struct utun_batch *batch);
void utun_table_leave(struct utun_hub *hub, struct utun_config *config, struct utun_tunnel *t, struct utun_batch *batch);
void utun_batch_settle(struct utun_batch *batch);
void utun_batch_free(struct utun_batch *batch);

#endif
