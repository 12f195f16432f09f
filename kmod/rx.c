// SPDX-License-Identifier: GPL-2.0-only
#include <linux/if_tunnel.h>
#include <net/ip_tunnels.h>

#include "coalesced.h"
#include "drop.h"
#include "event.h"
#include "packet.h"
#include "police.h"
#include "rx.h"
#include "tx.h"

/* A packet on its way in. Of what admit() has not come to yet only ip6 and owner.slot are set, to NULL. */
struct inbound {
	struct sk_buff *skb;
	const struct utun_ends *ends;
	const struct ipv6hdr *ip6;
	struct utun_owner owner;
	struct utun_tunnel *tunnel;
	struct utun_size size;
	int ecn;
};

#define ADMIT UTUN_DROP_UNSPEC

/* Finds the inner header behind the outer octets, and whether the lengths agree. */
static enum utun_drop parse(struct inbound *in, unsigned int outer)
{
	const struct ipv6hdr *ip6;

	if (!pskb_may_pull(in->skb, outer + sizeof(*ip6)))
		return UTUN_DROP_MALFORMED;
	ip6 = (const struct ipv6hdr *)(in->skb->data + outer);
	if (ip6->version != 6 || outer + utun_length(ip6) > in->skb->len)
		return UTUN_DROP_MALFORMED;
	/* What GRO put together has no padding. */
	if (skb_is_gso(in->skb) && outer + utun_length(ip6) != in->skb->len)
		return UTUN_DROP_MALFORMED;
	in->ip6 = ip6;
	return ADMIT;
}

/*
 * Checks who sent the packet: its tunnel is found by the inner source, and that the outer source is the one recorded for the
 * tunnel is the proof that the sender may use that inner source.
 */
static enum utun_drop check_source(struct utun_hub *hub, const struct utun_config *config, struct inbound *in)
{
	const struct in6_addr *source = &in->ip6->saddr;
	struct utun_tunnel *t;

	if (!utun_find(hub, config, source, &in->owner)) {
		in->owner.slot = NULL;
		return utun_is_link_local(source) || ipv6_addr_any(source) ? UTUN_DROP_LINK_LOCAL : UTUN_DROP_INNER_SOURCE;
	}
	t = rcu_dereference(*in->owner.slot);
	if (!t)
		return UTUN_DROP_NO_TUNNEL;
	if (!(READ_ONCE(t->rx_ends.has) & in->owner.has))
		return UTUN_DROP_INNER_SOURCE;
	if (unlikely(!utun_same_ends(&t->rx_ends, in->ends))) {
		utun_event_mismatch(hub, t, in->ends, source);
		return t->rx_ends.encap == in->ends->encap ? UTUN_DROP_OUTER_SOURCE : UTUN_DROP_ENCAPSULATION;
	}
	in->tunnel = t;
	return ADMIT;
}

/* Takes the outer header off. The skb's network header is the inner one afterwards, and nothing follows the packet. */
static enum utun_drop strip(struct inbound *in, unsigned int outer)
{
	unsigned int length = utun_length(in->ip6);
	struct sk_buff *skb = in->skb;

	in->ip6 = NULL; /* somebody else may have a clone: then the octets move */
	if (iptunnel_pull_header(skb, outer, htons(ETH_P_IPV6), false) || pskb_trim_rcsum(skb, length))
		return UTUN_DROP_FAILED;
	skb_reset_network_header(skb);
	skb_reset_mac_header(skb);
	if (!pskb_may_pull(skb, sizeof(struct ipv6hdr))) /* for later readers; it is there */
		return UTUN_DROP_FAILED;
	in->ip6 = ipv6_hdr(skb);
	in->size = utun_size(skb);
	return ADMIT;
}

static enum utun_drop police(struct utun_tunnel *t, u32 octets)
{
	u64 cost = READ_ONCE(t->rx_cost);

	if (likely(!cost) || utun_take(&t->rx_full, ktime_get_ns(), utun_cost_of(cost, octets), READ_ONCE(t->rx_burst)))
		return ADMIT;
	return UTUN_DROP_POLICED;
}

static enum utun_drop admit(struct utun_hub *hub, const struct utun_config *config, struct inbound *in, unsigned int outer)
{
	u8 tos = ip_hdr(in->skb)->tos;
	enum utun_drop verdict;

	verdict = parse(in, outer);
	if (verdict)
		return verdict;
	verdict = check_source(hub, config, in);
	if (verdict)
		return verdict;
	if (utun_is_martian(&in->ip6->daddr))
		return UTUN_DROP_MARTIAN;
	in->ecn = utun_merge_ecn(ipv6_get_dsfield(in->ip6), tos);
	if (in->ecn < 0)
		return UTUN_DROP_ILLEGAL_ECN;
	verdict = strip(in, outer);
	if (verdict)
		return verdict;
	return police(in->tunnel, in->size.octets);
}

static void count(struct utun_hub *hub, struct inbound *in)
{
	struct utun_tunnel *t = in->tunnel;
	unsigned long seen = READ_ONCE(t->seen), now = jiffies | UTUN_SEEN;

	atomic64_add(in->size.packets, &t->rx_packets);
	atomic64_add(in->size.octets, &t->rx_bytes);
	/* Of several CPUs with a first packet one tells. */
	if (unlikely(!(seen & UTUN_SEEN)) && try_cmpxchg(&t->seen, &seen, now))
		utun_event_first(hub, t);
	else if (seen != now)
		WRITE_ONCE(t->seen, now);
}

/* Whether a packet is a keepalive for the server's address (RFC 5572 section 4.5.4) that can be turned round where it is. */
static bool is_echo(const struct utun_config *config, const struct inbound *in)
{
	const struct ipv6hdr *ip6 = in->ip6;
	const struct icmp6hdr *icmp;
	struct icmp6hdr buffer;

	if (!config->has_server || ip6->nexthdr != IPPROTO_ICMPV6 || !ipv6_addr_equal(&ip6->daddr, &config->server) ||
	    skb_is_gso(in->skb) || in->skb->ip_summed == CHECKSUM_PARTIAL)
		return false;
	icmp = skb_header_pointer(in->skb, sizeof(*ip6), sizeof(buffer), &buffer);
	return icmp && icmp->icmp6_type == ICMPV6_ECHO_REQUEST && !icmp->icmp6_code;
}

/* Turns it round. Its checksum, right or wrong, stays what it was. */
static void answer(struct utun_hub *hub, const struct utun_config *config, struct inbound *in)
{
	struct sk_buff *skb = in->skb;
	struct icmp6hdr *icmp;
	struct in6_addr client;
	struct ipv6hdr *ip6;

	if (skb_ensure_writable(skb, sizeof(*ip6) + sizeof(*icmp))) {
		utun_drop(hub, UTUN_DROP_FAILED, &(struct utun_offence){ in->ends, NULL, &in->owner.id });
		kfree_skb(skb);
		return;
	}
	ip6 = ipv6_hdr(skb);
	icmp = (struct icmp6hdr *)(ip6 + 1);
	ip6_flow_hdr(ip6, 0, 0);
	ip6->hop_limit = 64;
	client = ip6->saddr;
	ip6->saddr = ip6->daddr;
	ip6->daddr = client;
	icmp->icmp6_type = ICMPV6_ECHO_REPLY;
	csum_replace2(&icmp->icmp6_cksum, htons(ICMPV6_ECHO_REQUEST << 8), htons(ICMPV6_ECHO_REPLY << 8));
	skb->ip_summed = CHECKSUM_NONE;
	skb->dev = hub->dev;
	skb_set_transport_header(skb, sizeof(*ip6));
	utun_tx_tunnel(hub, config, in->tunnel, skb);
}

/*
 * Hands a packet to the stack as if it had come in by the device: at once, in the same softirq. GRO was done on the outer
 * headers, so there is nothing to collect it for, and the stack is not left deeper than a bridge leaves it.
 */
static void deliver(struct utun_hub *hub, struct inbound *in)
{
	struct net_device *dev = rcu_dereference(in->tunnel->dev);
	struct sk_buff *skb = in->skb;
	u8 tos = (ipv6_get_dsfield(in->ip6) & ~INET_ECN_MASK) | in->ecn;

	if (!dev)
		dev = hub->dev;
	if (unlikely(!(READ_ONCE(dev->flags) & IFF_UP)))
		goto failed;
	if (unlikely(ipv6_get_dsfield(in->ip6) != tos)) {
		if (skb_ensure_writable(skb, sizeof(struct ipv6hdr)))
			goto failed;
		ipv6_change_dsfield(ipv6_hdr(skb), 0, tos);
	}
	skb->dev = dev;
	skb->pkt_type = PACKET_HOST;
	dev_sw_netstats_rx_add(dev, skb->len);
	netif_receive_skb(skb);
	return;
failed:
	utun_drop(hub, UTUN_DROP_FAILED, &(struct utun_offence){ in->ends, NULL, &in->owner.id });
	dev_core_stats_rx_dropped_inc(dev);
	kfree_skb(skb);
}

/* Not admitted. Apart, so that what is needed here only costs no other packet anything. */
static noinline void reject(struct utun_hub *hub, const struct inbound *in, enum utun_drop verdict)
{
	utun_drop(hub, verdict, &(struct utun_offence){
		in->ends, in->ip6 ? &in->ip6->saddr : NULL, in->owner.slot ? &in->owner.id : NULL,
	});
	dev_core_stats_rx_dropped_inc(hub->dev);
	kfree_skb(in->skb);
}

/*
 * Takes a packet whose inner header is expected behind so many outer octets, counted from skb->data; the network header is still
 * the outer one. The skb is consumed. With bottom halves off, under RCU.
 */
void utun_rx(struct utun_hub *hub, struct sk_buff *skb, unsigned int outer, const struct utun_ends *ends)
{
	const struct utun_config *config = rcu_dereference(hub->config);
	enum utun_drop verdict;
	struct inbound in;

	if (unlikely(!config)) {
		kfree_skb(skb);
		return;
	}
	in.skb = skb;
	in.ends = ends;
	in.ip6 = NULL;
	in.owner.slot = NULL;
	verdict = admit(hub, config, &in, outer);
	if (unlikely(verdict)) {
		reject(hub, &in, verdict);
		return;
	}
	count(hub, &in);
	if (is_echo(config, &in))
		answer(hub, config, &in);
	else
		deliver(hub, &in);
}
