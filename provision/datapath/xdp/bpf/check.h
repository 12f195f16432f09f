/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is checked before a packet may pass. */
#pragma once

#include "core.h"

/* Finds the inner packet. Signalling, fragments, options and everything that is not for a tunnel end of ours is left alone. */
inline_always int parse(struct iphdr *ip, void *end, __u32 available, struct packet *p)
{
	struct udphdr *udp = (void *)(ip + 1);
	__u32 total, datagram, local;

	if ((void *)(ip + 1) > end || *(__u8 *)ip != 0x45 || ip->frag_off & bpf_htons(0x3fff))
		return PASS;
	total = bpf_ntohs(ip->tot_len);
	p->key = ip->saddr;
	if (ip->protocol == IPPROTO_UDP) {
		if ((void *)(udp + 1) > end)
			return PASS;
		local = find_local(ip->daddr, udp->dest, true);
		if (local == MISS)
			return PASS;
		p->key |= (__u64)udp->source << 32;
		p->room = sizeof(*ip) + sizeof(*udp);
		p->inner = (void *)(udp + 1);
		datagram = sizeof(*ip) + bpf_ntohs(udp->len);
		if ((void *)p->inner + 1 > end || datagram <= p->room)
			return MALFORMED;
		if (*(__u8 *)p->inner >> 4 == 0xf)
			return PASS; /* TSP (RFC 5572 section 5.2) */
	} else if (ip->protocol == IPPROTO_IPV6) {
		local = find_local(ip->daddr, 0, false);
		if (local == MISS)
			return PASS;
		p->key |= KIND_WORD(KIND_SIT);
		p->room = sizeof(*ip);
		p->inner = (void *)(ip + 1);
		datagram = total;
	} else {
		return PASS;
	}
	p->key |= KIND_WORD(local << KIND_LOCAL);
	if ((void *)(p->inner + 1) > end || p->inner->version != 6)
		return MALFORMED;
	p->length = length_of(p->inner);
	if (p->room + p->length > datagram || datagram > total || total > available)
		return MALFORMED;
	p->spare = available - p->room - p->length;
	return ADMIT;
}

/* The ECN field of the packet that goes on (RFC 6040 section 4.2, figure 4). */
inline_always int merge_ecn(const struct iphdr *ip, struct packet *p)
{
	__u8 outer = ip->tos & 3, inner = traffic_class(p->inner) & 3;

	p->ecn = inner;
	if (outer == 3) {
		if (!inner)
			return ILLEGAL_ECN;
		p->ecn = 3;
	} else if (outer == 1 && inner == 2) {
		p->ecn = 1;
	}
	return ADMIT;
}

inline_always void write_ecn(struct ipv6hdr *ip6, __u8 ecn)
{
	__u8 *second = (__u8 *)ip6 + 1;

	*second = (*second & ~0x30) | ecn << 4;
}

/*
 * Checks a packet that arrived on an uplink: ADMIT if a tunnel vouches for it. The tunnel is found by the inner source; that
 * the outer source is the one recorded for it is the proof that the sender may use that inner source.
 */
inline_always int admit(struct iphdr *ip, void *end, __u32 available, struct packet *p)
{
	struct record *in;
	__u8 needs = 0;
	int verdict;
	__u64 key;

	verdict = parse(ip, end, available, p);
	if (verdict != ADMIT)
		return verdict;
	p->slot = find(&p->inner->saddr, &needs);
	if (p->slot == MISS)
		return is_link_local(&p->inner->saddr) || !(high_of(&p->inner->saddr) | low_of(&p->inner->saddr)) ?
			LINK_LOCAL : INNER_SOURCE;
	in = get_inbound(p->slot);
	if (!in)
		return NO_TUNNEL;
	key = *(volatile __u64 *)&in->key;
	if (!IN_FORCE(key))
		return NO_TUNNEL;
	if (!(KIND(key) & needs))
		return INNER_SOURCE;
	if ((key & KEY_OUTER) != p->key)
		return (key ^ p->key) & KIND_WORD(KIND_SIT) ? ENCAPSULATION : OUTER_SOURCE;
	p->in = in;
	p->rated = KIND(key) & KIND_RATED;
	if (is_martian(&p->inner->daddr))
		return MARTIAN;
	return merge_ecn(ip, p);
}

/*
 * Judges a native packet on the core side: ADMIT if p->out takes it as it is. What needs an answer or a second look goes to
 * the stack: hop limit 1, hop-by-hop options, too big. segment is the largest packet that will be made of it, 0 if it is one.
 */
inline_always int judge_native(struct ipv6hdr *ip6, __u32 available, __u32 segment, struct packet *p)
{
	__u8 needs;

	if (ip6->version != 6)
		return PASS;
	p->slot = find(&ip6->saddr, &needs);
	if (p->slot != MISS)
		return NATIVE_SOURCE;
	if (!encap || !find_destination(ip6, p))
		return PASS;
	if ((segment ?: p->length) > p->mtu)
		return (segment ?: p->length) <= device_mtu || may_complain() ? PASS : TOO_BIG;
	if (nexthop == NEXTHOP_STACK || ip6->hop_limit <= 1 || ip6->nexthdr == IPPROTO_HOPOPTS || is_martian(&ip6->saddr) ||
	    p->length > available)
		return PASS;
	return ADMIT;
}

/* Whether an admitted packet may take the short way past the stack. */
inline_always bool may_forward(const struct packet *p)
{
	__u8 needs;

	return nexthop != NEXTHOP_STACK && p->inner->hop_limit > 1 && p->inner->nexthdr != IPPROTO_HOPOPTS &&
	       find(&p->inner->daddr, &needs) == MISS; /* from tunnel to tunnel: the device encapsulates it */
}
