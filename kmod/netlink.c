// SPDX-License-Identifier: GPL-2.0-only
#include <linux/net.h>
#include <net/sock.h>

#include "dev.h"
#include "drop.h"
#include "netlink.h"
#include "udp.h"

static struct netlink_range_validation mtu_range = { .min = UTUN_MTU_MIN, .max = UTUN_MTU_MAX };

static const struct nla_policy policy[UTUN_A_MAX + 1] = {
	[UTUN_A_IFINDEX] = { .type = NLA_U32 },
	[UTUN_A_FD] = { .type = NLA_S32 },
	[UTUN_A_LOCAL] = NLA_POLICY_NESTED(utun_local_policy),
	[UTUN_A_POOL] = NLA_POLICY_NESTED(utun_pool_policy),
	[UTUN_A_SERVER] = NLA_POLICY_EXACT_LEN(sizeof(struct in6_addr)),
	[UTUN_A_MTU] = NLA_POLICY_FULL_RANGE(NLA_U32, &mtu_range),
	[UTUN_A_KEEP] = { .type = NLA_U32 },
	[UTUN_A_FLAGS] = NLA_POLICY_MASK(NLA_U32, UTUN_F_CSUM | UTUN_F_PIPE | UTUN_F_TSP | UTUN_F_NATIVE),
	[UTUN_A_TUNNEL] = NLA_POLICY_NESTED(utun_tunnel_policy),
	[UTUN_A_ID] = { .type = NLA_U32 },
	[UTUN_A_START] = { .type = NLA_U32 },
};

struct net_device *utun_netlink_dev(struct net *net, struct nlattr *ifindex, struct netlink_ext_ack *extack)
{
	const struct utun_port *port;
	struct net_device *dev;

	if (!ifindex) {
		NL_SET_ERR_MSG(extack, "the device is not named");
		return ERR_PTR(-EINVAL);
	}
	dev = dev_get_by_index(net, nla_get_u32(ifindex));
	if (!dev) {
		NL_SET_ERR_MSG_ATTR(extack, ifindex, "there is no such device");
		return ERR_PTR(-ENODEV);
	}
	port = netdev_priv(dev);
	if (utun_is_dev(dev) && !port->client)
		return dev;
	dev_put(dev);
	NL_SET_ERR_MSG_ATTR(extack, ifindex, "a shared utun device is expected");
	return ERR_PTR(-EOPNOTSUPP);
}

struct net_device *utun_netlink_dev_of(struct genl_info *info)
{
	return utun_netlink_dev(genl_info_net(info), info->attrs[UTUN_A_IFINDEX], info->extack);
}

/* Says what is wrong with which attribute (NULL: none alone), and gives err. */
int utun_blame(struct netlink_ext_ack *extack, const struct nlattr *attr, int err, const char *text)
{
	if (!extack)
		return err;
	extack->bad_attr = attr;
	if (text)
		extack->_msg = text;
	return err;
}

/* Room for the largest answer to DEV_GET and DROPS_GET. */
#define ANSWER_SIZE 6144

/* Begins the answer to a command about a device; NULL: no memory. */
struct sk_buff *utun_answer_begin(struct genl_info *info, struct net_device *dev, void **message)
{
	struct sk_buff *skb = genlmsg_new(ANSWER_SIZE, GFP_KERNEL);

	if (!skb)
		return NULL;
	*message = genlmsg_put_reply(skb, info, &utun_family, 0, info->genlhdr->cmd);
	if (*message && !nla_put_u32(skb, UTUN_A_IFINDEX, dev->ifindex))
		return skb;
	nlmsg_free(skb);
	return NULL;
}

/* Sends it, or gives it up. */
int utun_answer_finish(struct genl_info *info, struct sk_buff *answer, void *message, int err)
{
	if (err) {
		nlmsg_free(answer);
		return err;
	}
	genlmsg_end(answer, message);
	return genlmsg_reply(answer, info);
}

/*
 * The id a dump goes on with, from UTUN_A_START on; false: it has come to its end. Between two calls the position is an id, so that
 * whatever happens meanwhile leaves it right.
 */
bool utun_dump_at(struct netlink_callback *cb, u32 *id)
{
	const struct nlattr *start = genl_info_dump(cb)->attrs[UTUN_A_START];
	u64 *next = (u64 *)cb->ctx; /* 0 at the beginning, else one more than the id */

	if (!*next)
		*next = 1 + (u64)(start ? nla_get_u32(start) : 0);
	*id = *next - 1;
	return *next <= U32_MAX + 1ULL;
}

/* The dump has done with an id. */
void utun_dump_past(struct netlink_callback *cb, u32 id)
{
	*(u64 *)cb->ctx = id + 2ULL;
}

/* Finds a socket by its descriptor in the sender's table. */
static struct socket *socket_of(struct genl_info *info, int *err)
{
	struct socket *socket;

	if (!info->attrs[UTUN_A_FD]) {
		*err = -EINVAL;
		NL_SET_ERR_MSG(info->extack, "the descriptor of a socket is expected");
		return NULL;
	}
	socket = sockfd_lookup(nla_get_s32(info->attrs[UTUN_A_FD]), err);
	if (!socket)
		utun_blame(info->extack, info->attrs[UTUN_A_FD], *err, "that is no socket");
	return socket;
}

static int socket_change(struct sk_buff *skb, struct genl_info *info)
{
	const char *why = NULL;
	struct socket *socket;
	struct net_device *dev;
	int err;

	dev = utun_netlink_dev_of(info);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	socket = socket_of(info, &err);
	if (socket) {
		if (info->genlhdr->cmd == UTUN_CMD_SOCKET_ATTACH)
			err = utun_udp_attach(utun_netlink_hub(dev), socket, &why);
		else
			err = utun_udp_detach(utun_netlink_hub(dev), socket);
		if (err)
			utun_blame(info->extack, info->attrs[UTUN_A_FD], err, why);
		sockfd_put(socket);
	}
	dev_put(dev);
	return err;
}

static int put_drop(struct sk_buff *skb, enum utun_drop reason, const struct utun_drop_record *r)
{
	struct nlattr *nest = nla_nest_start(skb, UTUN_A_DROP);
	u64 age = div_u64(ktime_get_ns() - r->last, NSEC_PER_MSEC);

	if (!nest || nla_put_u8(skb, UTUN_DROP_A_REASON, reason) ||
	    nla_put_u64_64bit(skb, UTUN_DROP_A_PACKETS, r->packets, UTUN_DROP_A_PAD) ||
	    nla_put_u64_64bit(skb, UTUN_DROP_A_AGE, age, UTUN_DROP_A_PAD))
		return -EMSGSIZE;
	if (r->has_id && nla_put_u32(skb, UTUN_DROP_A_ID, r->id))
		return -EMSGSIZE;
	if (r->encap && (nla_put_u8(skb, UTUN_DROP_A_ENCAP, r->encap) ||
			 nla_put_in_addr(skb, UTUN_DROP_A_REMOTE, r->remote) ||
			 nla_put_be16(skb, UTUN_DROP_A_REMOTE_PORT, r->remote_port)))
		return -EMSGSIZE;
	if (r->has_inner && nla_put_in6_addr(skb, UTUN_DROP_A_INNER, &r->inner))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int drops_get(struct sk_buff *skb, struct genl_info *info)
{
	struct utun_drop_record r;
	struct net_device *dev;
	struct sk_buff *answer;
	void *message;
	int reason, err = 0;

	dev = utun_netlink_dev_of(info);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	answer = utun_answer_begin(info, dev, &message);
	if (!answer) {
		dev_put(dev);
		return -ENOMEM;
	}
	for (reason = 1; reason <= UTUN_DROP_MAX && !err; reason++) {
		utun_drops_sum(utun_netlink_hub(dev), reason, &r);
		if (r.packets)
			err = put_drop(answer, reason, &r);
	}
	dev_put(dev);
	return utun_answer_finish(info, answer, message, err);
}

static int put_tally(struct sk_buff *skb, const struct utun_tally *t)
{
	struct nlattr *nest;
	u32 packets;
	int reason;

	for (reason = 1; reason <= UTUN_DROP_MAX; reason++) {
		packets = atomic_read(&t->packets[reason]);
		if (!packets)
			continue;
		nest = nla_nest_start(skb, UTUN_A_DROP);
		if (!nest || nla_put_u8(skb, UTUN_DROP_A_REASON, reason) ||
		    nla_put_u64_64bit(skb, UTUN_DROP_A_PACKETS, packets, UTUN_DROP_A_PAD))
			return -EMSGSIZE;
		nla_nest_end(skb, nest);
	}
	return 0;
}

static int dump_tally(struct sk_buff *skb, struct netlink_callback *cb, const struct net_device *dev, const struct utun_tally *t)
{
	void *message = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &utun_family, NLM_F_MULTI,
				    UTUN_CMD_DROPS_GET);

	if (!message)
		return -EMSGSIZE;
	if (nla_put_u32(skb, UTUN_A_IFINDEX, dev->ifindex) || nla_put_u32(skb, UTUN_A_ID, t->id) || put_tally(skb, t)) {
		genlmsg_cancel(skb, message);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, message);
	return 0;
}

/* The drops of single tunnels. */
static int drops_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct utun_tally *t;
	struct net_device *dev;
	u32 id;

	if (!utun_dump_at(cb, &id))
		return 0;
	dev = utun_netlink_dev(sock_net(skb->sk), genl_info_dump(cb)->attrs[UTUN_A_IFINDEX], cb->extack);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	rcu_read_lock();
	while (utun_dump_at(cb, &id)) {
		t = utun_tallies_next(&utun_netlink_hub(dev)->tallies, id);
		if (!t || dump_tally(skb, cb, dev, t))
			break;
		utun_dump_past(cb, t->id);
	}
	rcu_read_unlock();
	dev_put(dev);
	return skb->len;
}

static const struct genl_ops ops[] = {
	{ .cmd = UTUN_CMD_DEV_SET, .flags = GENL_UNS_ADMIN_PERM, .doit = utun_netlink_dev_set },
	{ .cmd = UTUN_CMD_DEV_GET, .flags = GENL_UNS_ADMIN_PERM, .doit = utun_netlink_dev_get },
	{ .cmd = UTUN_CMD_SOCKET_ATTACH, .flags = GENL_UNS_ADMIN_PERM, .doit = socket_change },
	{ .cmd = UTUN_CMD_SOCKET_DETACH, .flags = GENL_UNS_ADMIN_PERM, .doit = socket_change },
	{ .cmd = UTUN_CMD_TUNNEL_SET, .flags = GENL_UNS_ADMIN_PERM, .doit = utun_netlink_set },
	{ .cmd = UTUN_CMD_TUNNEL_DEL, .flags = GENL_UNS_ADMIN_PERM, .doit = utun_netlink_del },
	{ .cmd = UTUN_CMD_TUNNEL_GET, .flags = GENL_UNS_ADMIN_PERM, .doit = utun_netlink_get, .dumpit = utun_netlink_dump },
	{ .cmd = UTUN_CMD_DROPS_GET, .flags = GENL_UNS_ADMIN_PERM, .doit = drops_get, .dumpit = drops_dump },
};

static const struct genl_multicast_group groups[] = {
	{ .name = UTUN_GENL_EVENTS, .flags = GENL_MCAST_CAP_NET_ADMIN },
};

struct genl_family utun_family __ro_after_init = {
	.name = UTUN_GENL_NAME,
	.version = UTUN_GENL_VERSION,
	.maxattr = UTUN_A_MAX,
	.policy = policy,
	.netnsok = true,
	.parallel_ops = true,	/* hub->lock is what they need */
	.module = THIS_MODULE,
	.ops = ops,
	.n_ops = ARRAY_SIZE(ops),
	.resv_start_op = UTUN_CMD_DEV_SET,
	.mcgrps = groups,
	.n_mcgrps = ARRAY_SIZE(groups),
};

int __init utun_netlink_init(void)
{
	return genl_register_family(&utun_family);
}

void utun_netlink_exit(void)
{
	genl_unregister_family(&utun_family);
}
