// SPDX-License-Identifier: GPL-2.0-only
#include <net/dst.h>
#include <net/icmp.h>
#include <net/ip_tunnels.h>
#include <net/udp_tunnel.h>

#include "coalesced.h"
#include "drop.h"
#include "packet.h"
#include "police.h"
#include "tx.h"

#define OUTER_TTL 64
#define OUTER_ROOM (sizeof(struct iphdr) + sizeof(struct udphdr))

/* Packet Too Big: one in a millisecond, a hundred at once. */
#define COMPLAINT_COST NSEC_PER_MSEC
#define COMPLAINT_BURST (100 * NSEC_PER_MSEC)

static struct rtable *look_up(const struct utun_hub *hub, const struct utun_ends *ends)
{
	struct flowi4 flow = {
		.daddr = ends->remote, .saddr = ends->local,
		.flowi4_proto = ends->encap == UTUN_ENCAP_UDP ? IPPROTO_UDP : IPPROTO_IPV6,
		.fl4_sport = ends->local_port, .fl4_dport = ends->remote_port,
	};
	struct rtable *rt = ip_route_output_key(dev_net(hub->dev), &flow);

	if (IS_ERR(rt))
		return NULL;
	/* To a broadcast address, or round and round. */
	if (rt->rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST) || rt->dst.dev->netdev_ops == hub->dev->netdev_ops) {
		ip_rt_put(rt);
		return NULL;
	}
	return rt;
}

/*
 * The route to a client, with a reference for the caller; NULL: there is none. The last one is kept with the tunnel, as sockets
 * do: one pointer, not a struct dst_cache, which would cost a million tunnels 48 octets a CPU each, in lines of their own.
 * Whoever exchanges the pointer owns what was there. A dst is freed by RCU, so one that is seen here can be tried.
 */
static struct rtable *get_route(const struct utun_hub *hub, struct utun_tunnel *t)
{
	struct rtable *rt = rcu_dereference(t->route), *old;

	if (likely(rt && dst_check(&rt->dst, 0) && dst_hold_safe(&rt->dst)))
		return rt;
	rt = look_up(hub, &t->tx_ends);
	if (!rt)
		return NULL;
	dst_hold(&rt->dst);
	old = unrcu_pointer(xchg(&t->route, RCU_INITIALIZER(rt)));
	if (old)
		dst_release(&old->dst);
	return rt;
}

/* Makes room for the outer headers and tells GSO what becomes of the packet. */
static bool prepare(const struct utun_config *config, const struct utun_ends *ends, struct sk_buff *skb, const struct rtable *rt)
{
	unsigned int room = LL_RESERVED_SPACE(rt->dst.dev) + rt->dst.header_len + OUTER_ROOM;

	skb_scrub_packet(skb, false);
	if (skb_cow_head(skb, room))
		return false;
	if (ends->encap == UTUN_ENCAP_UDP) {
		if (udp_tunnel_handle_offloads(skb, config->flags & UTUN_F_CSUM))
			return false;
		skb_set_inner_protocol(skb, htons(ETH_P_IPV6));
	} else {
		if (iptunnel_handle_offloads(skb, SKB_GSO_IPXIP4))
			return false;
		skb_set_inner_ipproto(skb, IPPROTO_IPV6);
	}
	return true;
}

static void refuse(struct utun_hub *hub, enum utun_drop reason, const struct utun_tunnel *t, struct sk_buff *skb)
{
	utun_drop(hub, reason, &(struct utun_offence){ &t->tx_ends, &ipv6_hdr(skb)->saddr, &t->id });
	dev_core_stats_tx_dropped_inc(skb->dev);
	kfree_skb(skb);
}

/*
 * Sends a packet through a tunnel that takes it as it is; skb->dev is one of ours. The skb is consumed. With bottom halves off,
 * under RCU.
 */
void utun_tx_tunnel(struct utun_hub *hub, const struct utun_config *config, struct utun_tunnel *t, struct sk_buff *skb)
{
	const struct utun_ends *ends = &t->tx_ends;
	u8 tos = ipv6_get_dsfield(ipv6_hdr(skb));
	struct utun_size size = utun_size(skb);
	u64 cost = READ_ONCE(t->tx_cost);
	struct rtable *rt;

	if (unlikely(cost) &&
	    !utun_take(&t->tx_full, ktime_get_ns(), utun_cost_of(cost, size.octets), READ_ONCE(t->tx_burst))) {
		refuse(hub, UTUN_DROP_POLICED, t, skb);
		return;
	}
	rt = get_route(hub, t);
	if (unlikely(!rt)) {
		refuse(hub, UTUN_DROP_NO_ROUTE, t, skb);
		return;
	}
	if (unlikely(!prepare(config, ends, skb, rt))) {
		ip_rt_put(rt);
		refuse(hub, UTUN_DROP_FAILED, t, skb);
		return;
	}
	if (config->flags & UTUN_F_PIPE)
		tos &= INET_ECN_MASK;
	atomic64_add(size.packets, &t->tx_packets);
	atomic64_add(size.octets, &t->tx_bytes);
	if (ends->encap == UTUN_ENCAP_UDP)
		udp_tunnel_xmit_skb(rt, NULL, skb, ends->local, ends->remote, tos, OUTER_TTL, 0, ends->local_port,
				    ends->remote_port, false, !(config->flags & UTUN_F_CSUM));
	else
		iptunnel_xmit(NULL, rt, skb, ends->local, ends->remote, IPPROTO_IPV6, tos, OUTER_TTL, 0, false);
}

static bool fits(const struct sk_buff *skb, u32 mtu)
{
	return skb_is_gso(skb) ? skb_gso_validate_network_len(skb, mtu) : skb->len <= mtu;
}

/* Tells the sender of a packet that it is too big, if he may be told and the budget allows it. */
static void complain(struct utun_hub *hub, const struct utun_tunnel *t, struct sk_buff *skb, u32 mtu)
{
	const struct ipv6hdr *ip6 = ipv6_hdr(skb);
	const struct icmp6hdr *icmp;
	struct icmp6hdr buffer;

	icmp = skb_header_pointer(skb, sizeof(*ip6), sizeof(buffer), &buffer);
	if (!utun_may_answer(ip6, icmp) || !utun_take(&hub->complaints, ktime_get_ns(), COMPLAINT_COST, COMPLAINT_BURST)) {
		refuse(hub, UTUN_DROP_TOO_BIG, t, skb);
		return;
	}
	icmpv6_ndo_send(skb, ICMPV6_PKT_TOOBIG, 0, mtu);
	kfree_skb(skb);
}

/* Finds the tunnel a packet is for. By a client device go only packets for its tunnel. */
static struct utun_tunnel *find(const struct utun_hub *hub, const struct utun_config *config, const struct sk_buff *skb,
				struct utun_owner *owner)
{
	const struct utun_port *port = netdev_priv(skb->dev);
	struct utun_tunnel *t;

	if (!config || !utun_find(hub, config, &ipv6_hdr(skb)->daddr, owner)) {
		owner->slot = NULL;
		return NULL;
	}
	t = rcu_dereference(*owner->slot);
	if (!t || !(READ_ONCE(t->tx_ends.has) & owner->has))
		return NULL;
	return port->client && rcu_access_pointer(t->dev) != skb->dev ? NULL : t;
}

static void transmit(struct utun_hub *hub, struct sk_buff *skb)
{
	const struct utun_config *config = rcu_dereference(hub->config);
	struct utun_offence offence = {};
	struct utun_owner owner;
	struct utun_tunnel *t;
	u32 mtu;

	if (utun_is_martian(&ipv6_hdr(skb)->daddr)) {
		dev_core_stats_tx_dropped_inc(skb->dev);
		kfree_skb(skb);
		return;
	}
	t = find(hub, config, skb, &owner);
	if (unlikely(!t)) {
		offence.inner = &ipv6_hdr(skb)->saddr;
		offence.id = owner.slot ? &owner.id : NULL;
		utun_drop(hub, UTUN_DROP_NO_DESTINATION, &offence);
		dev_core_stats_tx_dropped_inc(skb->dev);
		kfree_skb(skb);
		return;
	}
	mtu = READ_ONCE(t->mtu) ?: config->mtu;
	if (unlikely(!fits(skb, mtu)))
		complain(hub, t, skb, mtu);
	else
		utun_tx_tunnel(hub, config, t, skb);
}

/* ndo_start_xmit of both kinds. */
netdev_tx_t utun_xmit(struct sk_buff *skb, struct net_device *dev)
{
	const struct utun_port *port = netdev_priv(dev);

	if (skb->protocol != htons(ETH_P_IPV6) || !pskb_network_may_pull(skb, sizeof(struct ipv6hdr)) ||
	    ipv6_hdr(skb)->version != 6) {
		dev_core_stats_tx_dropped_inc(dev);
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	rcu_read_lock();
	transmit(port->hub, skb);
	rcu_read_unlock();
	return NETDEV_TX_OK;
}
