// SPDX-License-Identifier: GPL-2.0-only
/*
 * The source address of a packet that came out of a tunnel is checked; the same packet sent to us natively would not be, and
 * behind us nobody could tell the two apart. So the first hook of IPv6 drops those that come in by other devices.
 */
#include <linux/netfilter_ipv6.h>
#include <net/ipv6.h>

#include "dev.h"
#include "drop.h"
#include "guard.h"
#include "hub.h"

static noinline unsigned int judge_native(struct utun_hub *hub, const struct sk_buff *skb, const struct net_device *in)
{
	const struct utun_config *config = rcu_dereference(hub->config);
	const struct in6_addr *source = &ipv6_hdr(skb)->saddr;
	struct utun_owner owner;

	if (!config || config->flags & UTUN_F_NATIVE || in->flags & IFF_LOOPBACK)
		return NF_ACCEPT;
	if (likely(!utun_find(hub, config, source, &owner)))
		return NF_ACCEPT;
	utun_drop(hub, UTUN_DROP_NATIVE_SOURCE, &(struct utun_offence){ NULL, source, &owner.id });
	return NF_DROP;
}

/* Every packet from a tunnel comes here. */
static unsigned int judge(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	return utun_is_dev(state->in) ? NF_ACCEPT : judge_native(priv, skb, state->in);
}

int utun_guard_start(struct utun_hub *hub)
{
	hub->guard = (struct nf_hook_ops){
		.hook = judge, .priv = hub, .pf = NFPROTO_IPV6, .hooknum = NF_INET_PRE_ROUTING, .priority = NF_IP6_PRI_FIRST,
	};
	return nf_register_net_hook(dev_net(hub->dev), &hub->guard);
}

/* Packets may be in the hook until a grace period has passed. */
void utun_guard_stop(struct utun_hub *hub)
{
	nf_unregister_net_hook(dev_net(hub->dev), &hub->guard);
}
