// SPDX-License-Identifier: GPL-2.0-only
/* Addresses of tunnels that lie outside the pools: who has them. */
#include <net/ipv6.h>

#include "table.h"

/* What a tunnel has outside the pools of a configuration; it points into the tunnel. */
struct utun_claim utun_claim_of(const struct utun_config *config, const struct utun_tunnel *t)
{
	struct utun_claim set = {};
	unsigned int n;

	if (!utun_in_pools(config, &t->endpoint, 128))
		set.of[set.n++] = (struct utun_claimed){ &t->endpoint, 128, UTUN_TUNNEL_A_ENDPOINT };
	if (t->prefix_len && !utun_in_pools(config, &t->prefix, t->prefix_len))
		set.of[set.n++] = (struct utun_claimed){ &t->prefix, t->prefix_len, UTUN_TUNNEL_A_PREFIX };
	for (n = 0; n < t->n_routes; n++)
		set.of[set.n++] = (struct utun_claimed){ &t->routes[n].addr, t->routes[n].len, UTUN_TUNNEL_A_ROUTE, n };
	return set;
}

static bool has_foreign(const struct utun_claim *set, const struct in6_addr *a, u8 len)
{
	unsigned int n;

	for (n = 0; n < set->n; n++)
		if (set->of[n].len == len && ipv6_addr_equal(set->of[n].addr, a))
			return true;
	return false;
}

/* Gives up what is in set and not in keep. */
void utun_claim_release(struct utun_hub *hub, const struct utun_claim *set, const struct utun_claim *keep)
{
	unsigned int n;

	for (n = 0; n < set->n; n++)
		if (!has_foreign(keep, set->of[n].addr, set->of[n].len))
			utun_foreigners_remove(&hub->foreign, set->of[n].addr, set->of[n].len);
}

/* Takes for a tunnel what it does not have yet: all or nothing. */
int utun_claim_take(struct utun_hub *hub, const struct utun_claim *set, u32 id, struct utun_refusal *why)
{
	struct utun_claim added = {};
	unsigned int n;
	u32 holder;
	int err;

	for (n = 0; n < set->n; n++) {
		if (utun_foreigners_holder(&hub->foreign, set->of[n].addr, set->of[n].len, &holder)) {
			if (holder == id)
				continue;
			err = utun_refuse(why, -EADDRINUSE, set->of[n].attr, "it is another tunnel's");
			why->nth = set->of[n].nth;
			goto undo;
		}
		err = utun_foreigners_add(&hub->foreign, set->of[n].addr, set->of[n].len, id);
		if (err) {
			utun_refuse(why, err, 0, "no room for more addresses outside the pools");
			goto undo;
		}
		added.of[added.n++] = set->of[n];
	}
	return 0;
undo:
	utun_claim_release(hub, &added, &(struct utun_claim){});
	return err;
}
