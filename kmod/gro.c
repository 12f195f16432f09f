// SPDX-License-Identifier: GPL-2.0-only
/*
 * The UDP layer has compared addresses and ports, so that packets of different clients never meet; IPv6's GRO compares the rest and
 * leaves alone what has octets behind it.
 */
#include <linux/netdevice.h>
#include <net/gro.h>

#include "gro.h"

/* IPv6's, which is built in wherever there is IP and so never goes; NULL: there is none. To find it takes a walk along a list. */
static const struct packet_offload *ipv6 __ro_after_init;

void __init utun_gro_init(void)
{
	rcu_read_lock();
	ipv6 = gro_find_receive_by_type(htons(ETH_P_IPV6));
	rcu_read_unlock();
}

struct sk_buff *utun_gro_receive(struct sock *sk, struct list_head *head, struct sk_buff *skb)
{
	unsigned int offset = skb_gro_offset(skb);
	struct sk_buff *flushed = NULL;
	int flush = 1;
	const u8 *first;

	first = skb_gro_header(skb, offset + 1, offset);
	if (!first || *first >> 4 != 6 || !ipv6)
		goto out;
	flushed = call_gro_receive(ipv6->callbacks.gro_receive, head, skb);
	flush = 0;
out:
	skb_gro_flush_final(skb, flushed, flush);
	return flushed;
}

int utun_gro_complete(struct sock *sk, struct sk_buff *skb, int offset)
{
	/* There is no link layer inside. */
	skb_set_inner_mac_header(skb, offset);
	return ipv6->callbacks.gro_complete(skb, offset);
}
