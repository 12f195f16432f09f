// SPDX-License-Identifier: GPL-2.0-only
/* The routes of a tunnel, UTUN_TUNNEL_A_ROUTE. */
#include "netlink.h"
#include "tunnel.h"

const struct nla_policy utun_route_policy[UTUN_ROUTE_A_MAX + 1] = {
	[UTUN_ROUTE_A_ADDR] = NLA_POLICY_EXACT_LEN(sizeof(struct in6_addr)),
	[UTUN_ROUTE_A_LEN] = NLA_POLICY_RANGE(NLA_U8, 1, 128),
};

/* Reads the routes of a tunnel. */
int utun_routes_parse(const struct nlattr *attr, struct utun_wish *w, struct netlink_ext_ack *extack)
{
	struct nlattr *tb[UTUN_ROUTE_A_MAX + 1];
	const struct nlattr *one;
	int rest, err;

	nla_for_each_nested(one, attr, rest) {
		if (nla_type(one) != UTUN_TUNNEL_A_ROUTE)
			continue;
		if (w->n_routes == UTUN_ROUTES_MAX)
			return utun_blame(extack, one, -ERANGE, "a tunnel has at most 16 routes");
		err = nla_parse_nested(tb, UTUN_ROUTE_A_MAX, one, utun_route_policy, extack);
		if (err)
			return err;
		if (!tb[UTUN_ROUTE_A_ADDR] || !tb[UTUN_ROUTE_A_LEN])
			return utun_blame(extack, one, -EINVAL, "a route has an address and a length");
		w->routes[w->n_routes].addr = nla_get_in6_addr(tb[UTUN_ROUTE_A_ADDR]);
		w->routes[w->n_routes++].len = nla_get_u8(tb[UTUN_ROUTE_A_LEN]);
	}
	return 0;
}

/* The route with a number if attr, within that of a tunnel, is one, else attr. */
const struct nlattr *utun_routes_nth(const struct nlattr *tunnel, const struct nlattr *attr, unsigned int nth)
{
	const struct nlattr *one;
	int rest;

	if (nla_type(attr) != UTUN_TUNNEL_A_ROUTE)
		return attr;
	nla_for_each_nested(one, tunnel, rest)
		if (nla_type(one) == UTUN_TUNNEL_A_ROUTE && !nth--)
			return one;
	return attr;
}

int utun_routes_put(struct sk_buff *skb, const struct utun_tunnel *t)
{
	struct nlattr *nest;
	unsigned int n;

	for (n = 0; n < t->n_routes; n++) {
		nest = nla_nest_start(skb, UTUN_TUNNEL_A_ROUTE);
		if (!nest || nla_put_in6_addr(skb, UTUN_ROUTE_A_ADDR, &t->routes[n].addr) ||
		    nla_put_u8(skb, UTUN_ROUTE_A_LEN, t->routes[n].len))
			return -EMSGSIZE;
		nla_nest_end(skb, nest);
	}
	return 0;
}
