// SPDX-License-Identifier: GPL-2.0-only
#include <linux/slab.h>

#include "dev.h"
#include "netlink.h"
#include "table.h"

static struct netlink_range_validation mtu_range = { .max = UTUN_MTU_MAX };

const struct nla_policy utun_tunnel_policy[UTUN_TUNNEL_A_MAX + 1] = {
	[UTUN_TUNNEL_A_ID] = { .type = NLA_U32 },
	[UTUN_TUNNEL_A_SESSION] = { .type = NLA_U64 },
	[UTUN_TUNNEL_A_ENCAP] = NLA_POLICY_RANGE(NLA_U8, UTUN_ENCAP_UDP, UTUN_ENCAP_IP),
	[UTUN_TUNNEL_A_LOCAL] = { .type = NLA_BE32 },
	[UTUN_TUNNEL_A_LOCAL_PORT] = { .type = NLA_BE16 },
	[UTUN_TUNNEL_A_REMOTE] = { .type = NLA_BE32 },
	[UTUN_TUNNEL_A_REMOTE_PORT] = { .type = NLA_BE16 },
	[UTUN_TUNNEL_A_ENDPOINT] = NLA_POLICY_EXACT_LEN(sizeof(struct in6_addr)),
	[UTUN_TUNNEL_A_PREFIX] = NLA_POLICY_EXACT_LEN(sizeof(struct in6_addr)),
	[UTUN_TUNNEL_A_PREFIX_LEN] = NLA_POLICY_RANGE(NLA_U8, 1, 127),
	[UTUN_TUNNEL_A_MTU] = NLA_POLICY_FULL_RANGE(NLA_U32, &mtu_range),
	[UTUN_TUNNEL_A_IFINDEX] = { .type = NLA_U32 },
	[UTUN_TUNNEL_A_RX_RATE] = { .type = NLA_U64 },
	[UTUN_TUNNEL_A_TX_RATE] = { .type = NLA_U64 },
	[UTUN_TUNNEL_A_RX_BURST] = { .type = NLA_U32 },
	[UTUN_TUNNEL_A_TX_BURST] = { .type = NLA_U32 },
	[UTUN_TUNNEL_A_ROUTE] = NLA_POLICY_NESTED(utun_route_policy),
};

static u32 get_u32(const struct nlattr *attr)
{
	return attr ? nla_get_u32(attr) : 0;
}

static u64 get_u64(const struct nlattr *attr)
{
	return attr ? nla_get_u64(attr) : 0;
}

static int parse_limits(struct nlattr **tb, struct utun_wish *w, struct netlink_ext_ack *extack)
{
	w->rx = (struct utun_limit){ get_u64(tb[UTUN_TUNNEL_A_RX_RATE]), get_u32(tb[UTUN_TUNNEL_A_RX_BURST]) };
	w->tx = (struct utun_limit){ get_u64(tb[UTUN_TUNNEL_A_TX_RATE]), get_u32(tb[UTUN_TUNNEL_A_TX_BURST]) };
	if (w->rx.rate && w->rx.rate < UTUN_RATE_MIN)
		return utun_blame(extack, tb[UTUN_TUNNEL_A_RX_RATE], -ERANGE, "the rate is too low");
	if (w->tx.rate && w->tx.rate < UTUN_RATE_MIN)
		return utun_blame(extack, tb[UTUN_TUNNEL_A_TX_RATE], -ERANGE, "the rate is too low");
	return 0;
}

/* Reads a tunnel, but for its client device. tb points into the message afterwards. */
static int parse(const struct nlattr *attr, struct nlattr **tb, struct utun_wish *w, struct netlink_ext_ack *extack)
{
	int err = nla_parse_nested(tb, UTUN_TUNNEL_A_MAX, attr, utun_tunnel_policy, extack);

	if (err)
		return err;
	memset(w, 0, sizeof(*w));
	if (!tb[UTUN_TUNNEL_A_ID] || !tb[UTUN_TUNNEL_A_ENCAP] || !tb[UTUN_TUNNEL_A_LOCAL] || !tb[UTUN_TUNNEL_A_REMOTE] ||
	    !tb[UTUN_TUNNEL_A_ENDPOINT])
		return utun_blame(extack, attr, -EINVAL, "a tunnel has an id, an encapsulation, two ends and an endpoint");
	if (!tb[UTUN_TUNNEL_A_PREFIX] != !tb[UTUN_TUNNEL_A_PREFIX_LEN])
		return utun_blame(extack, attr, -EINVAL, "a prefix has a length");
	w->id = nla_get_u32(tb[UTUN_TUNNEL_A_ID]);
	w->session = get_u64(tb[UTUN_TUNNEL_A_SESSION]);
	w->ends.encap = nla_get_u8(tb[UTUN_TUNNEL_A_ENCAP]);
	w->ends.local = nla_get_in_addr(tb[UTUN_TUNNEL_A_LOCAL]);
	w->ends.remote = nla_get_in_addr(tb[UTUN_TUNNEL_A_REMOTE]);
	if (tb[UTUN_TUNNEL_A_LOCAL_PORT])
		w->ends.local_port = nla_get_be16(tb[UTUN_TUNNEL_A_LOCAL_PORT]);
	if (tb[UTUN_TUNNEL_A_REMOTE_PORT])
		w->ends.remote_port = nla_get_be16(tb[UTUN_TUNNEL_A_REMOTE_PORT]);
	w->endpoint = nla_get_in6_addr(tb[UTUN_TUNNEL_A_ENDPOINT]);
	if (tb[UTUN_TUNNEL_A_PREFIX]) {
		w->prefix = nla_get_in6_addr(tb[UTUN_TUNNEL_A_PREFIX]);
		w->prefix_len = nla_get_u8(tb[UTUN_TUNNEL_A_PREFIX_LEN]);
	}
	w->mtu = get_u32(tb[UTUN_TUNNEL_A_MTU]);
	if (w->mtu && w->mtu < UTUN_MTU_MIN)
		return utun_blame(extack, tb[UTUN_TUNNEL_A_MTU], -ERANGE, "the MTU is below what IPv6 demands");
	err = utun_routes_parse(attr, w, extack);
	return err ? err : parse_limits(tb, w, extack);
}

/* The client device a tunnel names, with a reference; NULL: none; else an ERR_PTR. */
static struct net_device *client_of(struct utun_hub *hub, struct nlattr *attr, struct netlink_ext_ack *extack)
{
	const struct utun_port *port;
	struct net_device *dev;

	if (!get_u32(attr))
		return NULL;
	dev = dev_get_by_index(dev_net(hub->dev), nla_get_u32(attr));
	if (!dev)
		return ERR_PTR(utun_blame(extack, attr, -ENODEV, "there is no such device"));
	port = netdev_priv(dev);
	if (utun_is_dev(dev) && port->client && port->hub == hub)
		return dev;
	dev_put(dev);
	return ERR_PTR(utun_blame(extack, attr, -EOPNOTSUPP, "a client device of this shared device is expected"));
}

/* With hub->lock held. */
static int set_one(struct utun_hub *hub, const struct nlattr *attr, struct utun_batch *batch, struct netlink_ext_ack *extack)
{
	struct nlattr *tb[UTUN_TUNNEL_A_MAX + 1];
	struct utun_refusal why = {};
	struct net_device *client;
	struct utun_wish wish;
	int err;

	err = parse(attr, tb, &wish, extack);
	if (err)
		return err;
	client = client_of(hub, tb[UTUN_TUNNEL_A_IFINDEX], extack);
	if (IS_ERR(client))
		return PTR_ERR(client);
	wish.port = client ? netdev_priv(client) : NULL;
	err = utun_table_set(hub, &wish, batch, &why);
	if (err)
		utun_blame(extack, why.attr && tb[why.attr] ? utun_routes_nth(attr, tb[why.attr], why.nth) : attr, err, why.text);
	dev_put(client);
	return err;
}

/* How many attributes of a type a message has. */
static unsigned int count(struct genl_info *info, int type)
{
	const struct nlattr *attr;
	unsigned int n = 0;
	int rest;

	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, rest)
		n += nla_type(attr) == type;
	return n;
}

/* The device, if a message has 1 to UTUN_BATCH_MAX attributes of a type; else an ERR_PTR. */
static struct net_device *batch_dev(struct genl_info *info, int type)
{
	unsigned int n = count(info, type);

	if (n && n <= UTUN_BATCH_MAX)
		return utun_netlink_dev_of(info);
	NL_SET_ERR_MSG(info->extack, "a batch is of 1 to 512 tunnels");
	return ERR_PTR(n ? -E2BIG : -EINVAL);
}

int utun_netlink_set(struct sk_buff *skb, struct genl_info *info)
{
	const struct nlattr *attr;
	struct utun_batch batch;
	struct net_device *dev;
	struct utun_hub *hub;
	int rest, err;

	dev = batch_dev(info, UTUN_A_TUNNEL);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	hub = utun_netlink_hub(dev);
	utun_batch_init(&batch);
	mutex_lock(&hub->lock);
	err = hub->dead ? -ENODEV : 0;
	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, rest) {
		if (!err && nla_type(attr) == UTUN_A_TUNNEL)
			err = set_one(hub, attr, &batch, info->extack);
	}
	utun_batch_settle(&batch);
	mutex_unlock(&hub->lock);
	dev_put(dev);
	return err;
}

/* A tunnel in an answer to DEL: its id, session and four counters, each u64 perhaps padded. */
#define LAST_SIZE (nla_total_size(nla_total_size(sizeof(u32)) + 5 * nla_total_size_64bit(sizeof(u64))))

static struct sk_buff *begin_last(struct genl_info *info, struct net_device *dev, void **message)
{
	struct sk_buff *skb;

	skb = genlmsg_new(nla_total_size(sizeof(u32)) + count(info, UTUN_A_ID) * LAST_SIZE, GFP_KERNEL);
	if (!skb)
		return NULL;
	*message = genlmsg_put_reply(skb, info, &utun_family, 0, UTUN_CMD_TUNNEL_DEL);
	if (*message && !nla_put_u32(skb, UTUN_A_IFINDEX, dev->ifindex))
		return skb;
	nlmsg_free(skb);
	return NULL;
}

static void put_last(struct sk_buff *skb, const struct utun_tunnel *t)
{
	struct nlattr *nest = nla_nest_start(skb, UTUN_A_TUNNEL);

	if (WARN_ON_ONCE(!nest || utun_put_identity(skb, t)))
		return;
	nla_nest_end(skb, nest);
}

int utun_netlink_del(struct sk_buff *skb, struct genl_info *info)
{
	const struct nlattr *attr;
	const struct utun_tunnel *t;
	struct utun_batch batch;
	struct net_device *dev;
	struct sk_buff *answer;
	struct utun_hub *hub;
	void *message;
	int rest;

	dev = batch_dev(info, UTUN_A_ID);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	hub = utun_netlink_hub(dev);
	answer = begin_last(info, dev, &message);
	if (!answer) {
		dev_put(dev);
		return -ENOMEM;
	}
	utun_batch_init(&batch);
	mutex_lock(&hub->lock);
	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, rest)
		if (nla_type(attr) == UTUN_A_ID)
			utun_table_take(hub, nla_get_u32(attr), &batch);
	mutex_unlock(&hub->lock);
	if (batch.first)
		synchronize_net();
	for (t = batch.first; t; t = t->next)
		put_last(answer, t);
	mutex_lock(&hub->lock);
	utun_table_remember(hub, &batch);
	mutex_unlock(&hub->lock);
	utun_batch_free(&batch);
	dev_put(dev);
	genlmsg_end(answer, message);
	return genlmsg_reply(answer, info);
}

int utun_netlink_get(struct sk_buff *skb, struct genl_info *info)
{
	struct utun_tunnel *t;
	struct net_device *dev;
	struct sk_buff *answer;
	struct utun_hub *hub;
	void *message = NULL;
	int err = -EINVAL;

	if (GENL_REQ_ATTR_CHECK(info, UTUN_A_ID))
		return -EINVAL;
	dev = utun_netlink_dev_of(info);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	hub = utun_netlink_hub(dev);
	answer = genlmsg_new(NLMSG_GOODSIZE, GFP_KERNEL);
	if (answer)
		message = genlmsg_put_reply(answer, info, &utun_family, 0, UTUN_CMD_TUNNEL_GET);
	err = message ? nla_put_u32(answer, UTUN_A_IFINDEX, dev->ifindex) : -ENOMEM;
	mutex_lock(&hub->lock);
	t = utun_table_get(hub, nla_get_u32(info->attrs[UTUN_A_ID]));
	if (!err)
		err = t ? utun_put_tunnel(answer, hub, t) : -ENOENT;
	mutex_unlock(&hub->lock);
	dev_put(dev);
	if (err) {
		nlmsg_free(answer);
		return err;
	}
	genlmsg_end(answer, message);
	return genlmsg_reply(answer, info);
}

static int dump_one(struct sk_buff *skb, struct netlink_callback *cb, struct utun_hub *hub, const struct utun_tunnel *t)
{
	void *message = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &utun_family, NLM_F_MULTI,
				    UTUN_CMD_TUNNEL_GET);

	if (!message)
		return -EMSGSIZE;
	if (nla_put_u32(skb, UTUN_A_IFINDEX, hub->dev->ifindex) || utun_put_tunnel(skb, hub, t)) {
		genlmsg_cancel(skb, message);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, message);
	return 0;
}

int utun_netlink_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct utun_tunnel *t;
	struct net_device *dev;
	struct utun_hub *hub;
	u32 id;

	if (!utun_dump_at(cb, &id))
		return 0;
	dev = utun_netlink_dev(sock_net(skb->sk), genl_info_dump(cb)->attrs[UTUN_A_IFINDEX], cb->extack);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	hub = utun_netlink_hub(dev);
	mutex_lock(&hub->lock);
	while (utun_dump_at(cb, &id)) {
		t = utun_table_next(hub, id);
		if (!t || dump_one(skb, cb, hub, t))
			break;
		utun_dump_past(cb, t->id);
	}
	mutex_unlock(&hub->lock);
	dev_put(dev);
	return skb->len;
}
