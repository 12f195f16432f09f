/* SPDX-License-Identifier: GPL-2.0-only */
/* How many packets an skb stands for, and how many octets they have together. */
#ifndef _UTUN_COALESCED_H
#define _UTUN_COALESCED_H

#include <linux/ipv6.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <linux/udp.h>

struct utun_size {
	u32 packets, octets;
};

/* The skb's network header is IPv6 and all that is in it; the transport header need not be in its linear part. */
static inline struct utun_size utun_size(const struct sk_buff *skb)
{
	const struct skb_shared_info *shared = skb_shinfo(skb);
	struct utun_size size = { 1, skb->len };
	u32 header = sizeof(struct ipv6hdr);
	struct tcphdr tcp;
	const struct tcphdr *h;

	if (!skb_is_gso(skb))
		return size;
	if (shared->gso_type & (SKB_GSO_TCPV6 | SKB_GSO_TCPV4)) {
		h = skb_header_pointer(skb, skb_network_offset(skb) + header, sizeof(tcp), &tcp);
		header += h ? h->doff * 4 : sizeof(tcp);
	} else {
		header += sizeof(struct udphdr);
	}
	/* Whoever made the skb may have left out the number. */
	size.packets = shared->gso_segs ?: 1;
	if (!shared->gso_segs && skb->len > header)
		size.packets = DIV_ROUND_UP(skb->len - header, shared->gso_size);
	size.octets += (size.packets - 1) * header;
	return size;
}

#endif
