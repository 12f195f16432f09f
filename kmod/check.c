// SPDX-License-Identifier: GPL-2.0-only
/* Whether a tunnel that is wished for fits a configuration. */
#include <net/ipv6.h>

#include "packet.h"
#include "table.h"

/* Says why, and gives err. */
int utun_refuse(struct utun_refusal *why, int err, int attr, const char *text)
{
	why->attr = attr;
	why->text = text;
	return err;
}

/* Whether a prefix shares an address with a pool or holds the server's. */
bool utun_in_pools(const struct utun_config *config, const struct in6_addr *a, u8 len)
{
	unsigned int n;

	for (n = 0; n < config->n_pools; n++)
		if (utun_pool_overlaps(&config->pools[n], a, len))
			return true;
	return config->has_server && ipv6_prefix_equal(a, &config->server, len);
}

/* Whether addresses may be routed to a client although no pool knows them. */
static bool may_be_foreign(const struct utun_config *config, const struct in6_addr *a, u8 len)
{
	return !utun_is_martian(a) && !utun_in_pools(config, a, len);
}

static int check_ends(const struct utun_config *config, const struct utun_wish *w, struct utun_refusal *why)
{
	const struct utun_ends *e = &w->ends;
	bool udp = e->encap == UTUN_ENCAP_UDP;
	unsigned int n;

	if (ipv4_is_zeronet(e->remote) || ipv4_is_multicast(e->remote) || ipv4_is_lbcast(e->remote))
		return utun_refuse(why, -EINVAL, UTUN_TUNNEL_A_REMOTE, "a unicast address is expected");
	if (udp != !!e->remote_port)
		return utun_refuse(why, -EINVAL, UTUN_TUNNEL_A_REMOTE_PORT, "UDP has a port, protocol 41 has none");
	if (udp != !!e->local_port)
		return utun_refuse(why, -EINVAL, UTUN_TUNNEL_A_LOCAL_PORT, "UDP has a port, protocol 41 has none");
	for (n = 0; n < config->n_locals; n++)
		if (e->local == config->locals[n].addr && (!udp || e->local_port == config->locals[n].port))
			return 0;
	return utun_refuse(why, -EINVAL, UTUN_TUNNEL_A_LOCAL, "the device has no such local end");
}

static int check_prefix(const struct utun_config *config, const struct utun_pool *pool, struct utun_wish *w,
			struct utun_refusal *why)
{
	struct in6_addr prefix;

	if (!w->prefix_len)
		return 0;
	if (pool->delegates) {
		prefix = utun_pool_prefix(pool, w->id - pool->first);
		if (w->prefix_len == pool->prefix_len && ipv6_addr_equal(&w->prefix, &prefix)) {
			w->ends.has |= UTUN_HAS_PREFIX;
			return 0;
		}
	}
	if (!utun_is_prefix(&w->prefix, w->prefix_len) || !may_be_foreign(config, &w->prefix, w->prefix_len))
		return utun_refuse(why, -EINVAL, UTUN_TUNNEL_A_PREFIX, "that of the id or one outside every pool is expected");
	w->ends.has |= UTUN_HAS_FOREIGN;
	return 0;
}

/* Whether a wish has the route n beside its routes before that. */
static bool has_already(const struct utun_wish *w, unsigned int n)
{
	const struct utun_prefix *r = &w->routes[n];
	unsigned int m;

	if (r->len == 128 && ipv6_addr_equal(&r->addr, &w->endpoint))
		return true;
	if (r->len == w->prefix_len && ipv6_addr_equal(&r->addr, &w->prefix))
		return true;
	for (m = 0; m < n; m++)
		if (r->len == w->routes[m].len && ipv6_addr_equal(&r->addr, &w->routes[m].addr))
			return true;
	return false;
}

static int check_routes(const struct utun_config *config, struct utun_wish *w, struct utun_refusal *why)
{
	unsigned int n;

	for (n = 0; n < w->n_routes; n++) {
		const struct utun_prefix *r = &w->routes[n];

		why->nth = n;
		if (!utun_is_prefix(&r->addr, r->len) || !may_be_foreign(config, &r->addr, r->len))
			return utun_refuse(why, -EINVAL, UTUN_TUNNEL_A_ROUTE, "a prefix outside every pool is expected");
		if (has_already(w, n))
			return utun_refuse(why, -EINVAL, UTUN_TUNNEL_A_ROUTE, "the tunnel has it already");
		w->ends.has |= UTUN_HAS_FOREIGN;
	}
	return 0;
}

/* Checks a wish against a configuration and computes which addresses it has. */
int utun_wish_check(const struct utun_config *config, struct utun_wish *w, struct utun_refusal *why)
{
	const struct utun_pool *pool;
	struct in6_addr endpoint;
	int err;

	if (!utun_slot(config, w->id, &pool))
		return utun_refuse(why, -ERANGE, UTUN_TUNNEL_A_ID, "the id is in no pool");
	err = check_ends(config, w, why);
	if (err)
		return err;
	w->ends.has = 0;
	endpoint = utun_pool_endpoint(pool, w->id - pool->first);
	if (ipv6_addr_equal(&w->endpoint, &endpoint))
		w->ends.has |= UTUN_HAS_ENDPOINT;
	else if (may_be_foreign(config, &w->endpoint, 128))
		w->ends.has |= UTUN_HAS_FOREIGN;
	else
		return utun_refuse(why, -EINVAL, UTUN_TUNNEL_A_ENDPOINT, "that of the id or one outside every pool is expected");
	err = check_prefix(config, pool, w, why);
	return err ? err : check_routes(config, w, why);
}
