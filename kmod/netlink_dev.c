// SPDX-License-Identifier: GPL-2.0-only
/* UTUN_CMD_DEV_SET and UTUN_CMD_DEV_GET. */
#include <linux/slab.h>

#include "netlink.h"
#include "packet.h"
#include "table.h"
#include "udp.h"

const struct nla_policy utun_local_policy[UTUN_LOCAL_A_MAX + 1] = {
	[UTUN_LOCAL_A_ADDR] = { .type = NLA_BE32 },
	[UTUN_LOCAL_A_PORT] = { .type = NLA_BE16 },
};

static struct netlink_range_validation size_range = { .min = 1, .max = UTUN_TUNNELS_MAX };

const struct nla_policy utun_pool_policy[UTUN_POOL_A_MAX + 1] = {
	[UTUN_POOL_A_FIRST] = { .type = NLA_U32 },
	[UTUN_POOL_A_SIZE] = NLA_POLICY_FULL_RANGE(NLA_U32, &size_range),
	[UTUN_POOL_A_ENDPOINT] = NLA_POLICY_EXACT_LEN(sizeof(struct in6_addr)),
	[UTUN_POOL_A_PREFIX] = NLA_POLICY_EXACT_LEN(sizeof(struct in6_addr)),
	[UTUN_POOL_A_PREFIX_LEN] = NLA_POLICY_RANGE(NLA_U8, 1, 127),
};

static int parse_local(struct utun_config *config, const struct nlattr *attr, struct genl_info *info)
{
	struct nlattr *tb[UTUN_LOCAL_A_MAX + 1];
	struct utun_local *local;
	int err;

	if (config->n_locals == UTUN_LOCALS_MAX)
		return utun_blame(info->extack, attr, -ERANGE, "too many local ends");
	err = nla_parse_nested(tb, UTUN_LOCAL_A_MAX, attr, utun_local_policy, info->extack);
	if (err)
		return err;
	if (!tb[UTUN_LOCAL_A_ADDR] || !tb[UTUN_LOCAL_A_PORT])
		return utun_blame(info->extack, attr, -EINVAL, "a local end has an address and a port");
	local = &config->locals[config->n_locals++];
	local->addr = nla_get_in_addr(tb[UTUN_LOCAL_A_ADDR]);
	local->port = nla_get_be16(tb[UTUN_LOCAL_A_PORT]);
	if (ipv4_is_zeronet(local->addr) || ipv4_is_multicast(local->addr) || ipv4_is_lbcast(local->addr) || !local->port)
		return utun_blame(info->extack, attr, -EINVAL, "a unicast address and a port other than 0 are expected");
	return 0;
}

static int parse_pool(struct utun_config *config, const struct nlattr *attr, struct genl_info *info)
{
	struct nlattr *tb[UTUN_POOL_A_MAX + 1];
	struct utun_pool *pool;
	struct in6_addr a;
	int err;

	if (config->n_pools == UTUN_POOLS_MAX)
		return utun_blame(info->extack, attr, -ERANGE, "too many pools");
	err = nla_parse_nested(tb, UTUN_POOL_A_MAX, attr, utun_pool_policy, info->extack);
	if (err)
		return err;
	if (!tb[UTUN_POOL_A_FIRST] || !tb[UTUN_POOL_A_SIZE] || !tb[UTUN_POOL_A_ENDPOINT] ||
	    !tb[UTUN_POOL_A_PREFIX] != !tb[UTUN_POOL_A_PREFIX_LEN])
		return utun_blame(info->extack, attr, -EINVAL, "a pool has id, size, endpoint; a prefix has a length");
	pool = &config->pools[config->n_pools++];
	pool->first = nla_get_u32(tb[UTUN_POOL_A_FIRST]);
	pool->size = nla_get_u32(tb[UTUN_POOL_A_SIZE]);
	a = nla_get_in6_addr(tb[UTUN_POOL_A_ENDPOINT]);
	pool->endpoint = utun_wide(&a);
	pool->prefix_len = 64; /* any, where nothing is delegated */
	if (tb[UTUN_POOL_A_PREFIX]) {
		a = nla_get_in6_addr(tb[UTUN_POOL_A_PREFIX]);
		pool->prefix = utun_wide(&a);
		pool->prefix_len = nla_get_u8(tb[UTUN_POOL_A_PREFIX_LEN]);
		pool->delegates = pool->size;
	}
	return utun_pool_fits(pool) ? 0 : utun_blame(info->extack, attr, -ERANGE, "the pool's ranges are not what they can be");
}

static int parse_config(struct utun_config *config, struct genl_info *info)
{
	struct nlattr **attrs = info->attrs;
	const struct nlattr *attr;
	int rest, err = 0;

	config->mtu = attrs[UTUN_A_MTU] ? nla_get_u32(attrs[UTUN_A_MTU]) : UTUN_MTU_DEFAULT;
	config->keep = attrs[UTUN_A_KEEP] ? nla_get_u32(attrs[UTUN_A_KEEP]) : UTUN_KEEP_FOREVER;
	config->flags = attrs[UTUN_A_FLAGS] ? nla_get_u32(attrs[UTUN_A_FLAGS]) : 0;
	if (attrs[UTUN_A_SERVER]) {
		config->has_server = true;
		config->server = nla_get_in6_addr(attrs[UTUN_A_SERVER]);
		if (utun_is_martian(&config->server))
			return utun_blame(info->extack, attrs[UTUN_A_SERVER], -EINVAL, "a global unicast address is expected");
	}
	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, rest) {
		if (nla_type(attr) == UTUN_A_LOCAL)
			err = parse_local(config, attr, info);
		else if (nla_type(attr) == UTUN_A_POOL)
			err = parse_pool(config, attr, info);
		if (err)
			return err;
	}
	if (!config->n_locals)
		return utun_blame(info->extack, NULL, -EINVAL, "a local end is expected");
	return 0;
}

int utun_netlink_dev_set(struct sk_buff *skb, struct genl_info *info)
{
	struct utun_refusal why = {};
	struct utun_config *config;
	struct net_device *dev;
	struct utun_hub *hub;
	int err = -ENOMEM;

	dev = utun_netlink_dev_of(info);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	hub = utun_netlink_hub(dev);
	config = kzalloc(sizeof(*config), GFP_KERNEL_ACCOUNT);
	if (!config)
		goto out;
	err = parse_config(config, info);
	if (err)
		goto out;
	err = utun_config_complete(config, &why);
	if (err) {
		utun_blame(info->extack, why.attr ? info->attrs[why.attr] : NULL, err, why.text);
		goto out;
	}
	mutex_lock(&hub->lock);
	if (hub->dead) {
		err = -ENODEV;
	} else {
		utun_config_apply(hub, config);
		config = NULL;
	}
	mutex_unlock(&hub->lock);
	if (!err)
		utun_udp_keep(hub);
out:
	utun_config_free(config);
	dev_put(dev);
	return err;
}

static int put_local(struct sk_buff *skb, const struct utun_local *local)
{
	struct nlattr *nest = nla_nest_start(skb, UTUN_A_LOCAL);

	if (!nest || nla_put_in_addr(skb, UTUN_LOCAL_A_ADDR, local->addr) || nla_put_be16(skb, UTUN_LOCAL_A_PORT, local->port))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int put_pool(struct sk_buff *skb, const struct utun_pool *pool)
{
	struct in6_addr endpoint = utun_narrow(pool->endpoint), prefix = utun_narrow(pool->prefix);
	struct nlattr *nest = nla_nest_start(skb, UTUN_A_POOL);

	if (!nest || nla_put_u32(skb, UTUN_POOL_A_FIRST, pool->first) || nla_put_u32(skb, UTUN_POOL_A_SIZE, pool->size) ||
	    nla_put_in6_addr(skb, UTUN_POOL_A_ENDPOINT, &endpoint))
		return -EMSGSIZE;
	if (pool->delegates && (nla_put_in6_addr(skb, UTUN_POOL_A_PREFIX, &prefix) ||
				nla_put_u8(skb, UTUN_POOL_A_PREFIX_LEN, pool->prefix_len)))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int put_config(struct sk_buff *skb, const struct utun_config *config)
{
	unsigned int n;

	if (nla_put_u32(skb, UTUN_A_MTU, config->mtu) || nla_put_u32(skb, UTUN_A_KEEP, config->keep) ||
	    nla_put_u32(skb, UTUN_A_FLAGS, config->flags))
		return -EMSGSIZE;
	if (config->has_server && nla_put_in6_addr(skb, UTUN_A_SERVER, &config->server))
		return -EMSGSIZE;
	for (n = 0; n < config->n_locals; n++)
		if (put_local(skb, &config->locals[n]))
			return -EMSGSIZE;
	for (n = 0; n < config->n_pools; n++)
		if (put_pool(skb, &config->pools[n]))
			return -EMSGSIZE;
	return 0;
}

static int put_sockets(struct sk_buff *skb, struct utun_hub *hub)
{
	struct utun_socket_info *info = kcalloc(2 * UTUN_SOCKETS_MAX, sizeof(*info), GFP_KERNEL);
	struct nlattr *nest;
	unsigned int n, m;

	if (!info)
		return -ENOMEM;
	m = utun_udp_list(hub, info, 2 * UTUN_SOCKETS_MAX);
	for (n = 0; n < m; n++) {
		nest = nla_nest_start(skb, UTUN_A_SOCKET);
		if (!nest || nla_put_in_addr(skb, UTUN_SOCKET_A_ADDR, info[n].addr) ||
		    nla_put_be16(skb, UTUN_SOCKET_A_PORT, info[n].port) ||
		    (info[n].kernel && nla_put_flag(skb, UTUN_SOCKET_A_KERNEL)))
			break;
		nla_nest_end(skb, nest);
	}
	kfree(info);
	return n < m ? -EMSGSIZE : 0;
}

int utun_netlink_dev_get(struct sk_buff *skb, struct genl_info *info)
{
	const struct utun_config *config;
	struct net_device *dev;
	struct sk_buff *answer;
	struct utun_hub *hub;
	void *message;
	int err = 0;

	dev = utun_netlink_dev_of(info);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	hub = utun_netlink_hub(dev);
	answer = utun_answer_begin(info, dev, &message);
	if (!answer) {
		dev_put(dev);
		return -ENOMEM;
	}
	mutex_lock(&hub->lock);
	config = rcu_dereference_protected(hub->config, lockdep_is_held(&hub->lock));
	if (config)
		err = put_config(answer, config);
	if (!err)
		err = nla_put_u32(answer, UTUN_A_TUNNELS, hub->tunnels);
	mutex_unlock(&hub->lock);
	if (!err)
		err = put_sockets(answer, hub);
	dev_put(dev);
	return utun_answer_finish(info, answer, message, err);
}
