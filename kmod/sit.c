// SPDX-License-Identifier: GPL-2.0-only
/*
 * What comes to a local end of one of the namespace's hubs is ours, all of it; the rest goes on to sit and whoever else asked for
 * protocol 41. We are asked first: a hub's ends are named by an administrator, sit takes any packet.
 */
#include <net/ip.h>
#include <net/xfrm.h>

#include "main.h"
#include "rx.h"
#include "sit.h"

#define PRIORITY 0

static bool is_local(const struct utun_config *config, __be32 addr)
{
	unsigned int n;

	for (n = 0; n < config->n_locals; n++)
		if (config->locals[n].addr == addr)
			return true;
	return false;
}

/* 0: taken; else the next one is asked. Under RCU. */
static int receive(struct sk_buff *skb)
{
	const struct iphdr *ip = ip_hdr(skb);
	struct utun_ends ends = { .local = ip->daddr, .remote = ip->saddr, .encap = UTUN_ENCAP_IP };
	const struct utun_config *config;
	struct utun_hub *hub;

	list_for_each_entry_rcu(hub, &utun_net(dev_net(skb->dev))->hubs, list) {
		config = rcu_dereference(hub->config);
		if (config && is_local(config, ends.local)) {
			utun_rx(hub, skb, 0, &ends);
			return 0;
		}
	}
	return -ENOENT;
}

/* ICMP errors about what we sent: the MTU is static and a client that is away comes back, so none is ours. */
static int receive_error(struct sk_buff *skb, u32 info)
{
	return -ENOENT;
}

static struct xfrm_tunnel handler __read_mostly = {
	.handler = receive,
	.err_handler = receive_error,
	.priority = PRIORITY,
};

int utun_sit_init(void)
{
	return xfrm4_tunnel_register(&handler, AF_INET6);
}

/* No packet is in the handler afterwards. */
void utun_sit_exit(void)
{
	xfrm4_tunnel_deregister(&handler, AF_INET6);
}
