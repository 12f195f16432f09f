/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the next hop of a packet is found. */
#pragma once

#include "core.h"

struct hop {
	__u32 ifindex;
	__u8 macs[12];
};

inline_always bool can_send_to(const struct state *s, __u32 ifindex)
{
	for (__u32 i = 0; i < MAX_PORTS; i++) {
		if (s->ports[i].ifindex == ifindex)
			return s->ports[i].flags & can_send;
	}
	return false;
}

inline_always bool take_fixed(const struct state *s, const struct fixed *f, __u32 length, struct hop *hop)
{
	if (length > f->mtu || !can_send_to(s, f->ifindex))
		return false;
	hop->ifindex = f->ifindex;
	__builtin_memcpy(hop->macs, f->macs, sizeof(hop->macs));
	return true;
}

inline_always bool is_core_exception(const struct state *s, const struct in6_addr *destination)
{
	__u64 high = high_of(destination);

#pragma unroll
	for (__u32 i = 0; i < MAX_EXCEPTIONS; i++) {
		if (i >= s->core.exceptions)
			break;
		if ((high & s->core_exceptions[i].mask) == s->core_exceptions[i].prefix)
			return true;
	}
	return false;
}

inline_always bool is_uplink_exception(const struct state *s, __be32 destination)
{
#pragma unroll
	for (__u32 i = 0; i < MAX_EXCEPTIONS; i++) {
		if (i >= s->uplink.exceptions)
			break;
		if ((destination & s->uplink_exceptions[i].mask) == s->uplink_exceptions[i].prefix)
			return true;
	}
	return false;
}

inline_always void take_lookup(const struct bpf_fib_lookup *f, struct hop *hop)
{
	hop->ifindex = f->ifindex;
	__builtin_memcpy(hop->macs, f->dmac, 6);
	__builtin_memcpy(hop->macs + 6, f->smac, 6);
}

/* Where a decapsulated packet goes; false: the stack knows. The device stands for the interface it came from. */
inline_always bool route_inner(void *ctx, const struct ipv6hdr *ip6, __u32 length, __u64 now, struct hop *hop)
{
	struct state *s = get_state();
	struct bpf_fib_lookup f = {};

	if (!s)
		return false;
	if (nexthop == NEXTHOP_FIXED && s->core.until > now && !is_core_exception(s, &ip6->daddr))
		return take_fixed(s, &s->core, length, hop);
	f.family = AF_INET6;
	f.ifindex = device;
	f.l4_protocol = ip6->nexthdr;
	f.tot_len = length;
	f.flowinfo = *(__be32 *)ip6 & bpf_htonl(0x0fffffff);
	__builtin_memcpy(f.ipv6_src, &ip6->saddr, 16);
	__builtin_memcpy(f.ipv6_dst, &ip6->daddr, 16);
	if (bpf_fib_lookup(ctx, &f, sizeof(f), 0) != BPF_FIB_LKUP_RET_SUCCESS || !can_send_to(s, f.ifindex))
		return false;
	take_lookup(&f, hop);
	return true;
}

/* What is known about the way to a client. */
enum {
	ROUTED,       /* all of it */
	NEEDS_HEADER, /* the interface; the stack has to find the link layer header */
	UNROUTED,
};

/* length is that of the outer packet, 0: of no concern. */
inline_always int route_outer(void *ctx, const struct packet *p, __u8 tos, __u32 length, struct hop *hop)
{
	struct state *s = get_state();
	struct bpf_fib_lookup f = {};
	int found;

	if (!s)
		return UNROUTED;
	if (nexthop == NEXTHOP_FIXED && s->uplink.until > bpf_ktime_get_coarse_ns() &&
	    !is_uplink_exception(s, (__u32)p->key) && take_fixed(s, &s->uplink, length, hop))
		return ROUTED;
	f.family = AF_INET;
	f.ifindex = device;
	f.l4_protocol = protocol_of(p->key);
	f.tot_len = length;
	f.tos = tos & ~3;
	f.ipv4_src = local_of(p->key)->address;
	f.ipv4_dst = (__u32)p->key;
	found = bpf_fib_lookup(ctx, &f, sizeof(f), 0);
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return UNROUTED;
	take_lookup(&f, hop);
	return found == BPF_FIB_LKUP_RET_SUCCESS && can_send_to(s, f.ifindex) ? ROUTED : NEEDS_HEADER;
}

