/* SPDX-License-Identifier: GPL-2.0-only */
/* The generic netlink family. netlink.c has the family, sockets and drops. */
#ifndef _UTUN_NETLINK_H
#define _UTUN_NETLINK_H

#include <net/genetlink.h>

#include "hub.h"

struct utun_tunnel;
struct utun_wish;

extern struct genl_family utun_family;
extern const struct nla_policy utun_local_policy[UTUN_LOCAL_A_MAX + 1];
extern const struct nla_policy utun_pool_policy[UTUN_POOL_A_MAX + 1];
extern const struct nla_policy utun_route_policy[UTUN_ROUTE_A_MAX + 1];
extern const struct nla_policy utun_tunnel_policy[UTUN_TUNNEL_A_MAX + 1];

int utun_netlink_init(void);
void utun_netlink_exit(void);

/* The shared device a message names, with a reference; else an ERR_PTR. */
struct net_device *utun_netlink_dev(struct net *net, struct nlattr *ifindex, struct netlink_ext_ack *extack);
struct net_device *utun_netlink_dev_of(struct genl_info *info);

int utun_blame(struct netlink_ext_ack *extack, const struct nlattr *attr, int err, const char *text);
struct sk_buff *utun_answer_begin(struct genl_info *info, struct net_device *dev, void **message);
int utun_answer_finish(struct genl_info *info, struct sk_buff *answer, void *message, int err);

bool utun_dump_at(struct netlink_callback *cb, u32 *id);
void utun_dump_past(struct netlink_callback *cb, u32 id);

/* netlink_dev.c */
int utun_netlink_dev_set(struct sk_buff *skb, struct genl_info *info);
int utun_netlink_dev_get(struct sk_buff *skb, struct genl_info *info);

/* netlink_put.c */
int utun_put_identity(struct sk_buff *skb, const struct utun_tunnel *t);
int utun_put_tunnel(struct sk_buff *skb, struct utun_hub *hub, const struct utun_tunnel *t);

/* netlink_route.c */
int utun_routes_parse(const struct nlattr *attr, struct utun_wish *w, struct netlink_ext_ack *extack);
const struct nlattr *utun_routes_nth(const struct nlattr *tunnel, const struct nlattr *attr, unsigned int nth);
int utun_routes_put(struct sk_buff *skb, const struct utun_tunnel *t);

/* netlink_tunnel.c */
int utun_netlink_set(struct sk_buff *skb, struct genl_info *info);
int utun_netlink_del(struct sk_buff *skb, struct genl_info *info);
int utun_netlink_get(struct sk_buff *skb, struct genl_info *info);
int utun_netlink_dump(struct sk_buff *skb, struct netlink_callback *cb);

static inline struct utun_hub *utun_netlink_hub(struct net_device *dev)
{
	return ((struct utun_port *)netdev_priv(dev))->hub;
}

#endif
