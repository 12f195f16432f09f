/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all hooks share: how a tunnel is found, what the outer headers are. */
#pragma once

#include "count.h"

inline_always __u32 slot_of(__u32 id)
{
#pragma unroll
	for (__u32 i = 0; i < MAX_POOLS; i++) {
		if (i >= pool_count)
			break;
		if (id - pools[i].first < pools[i].size)
			return pools[i].slot + (id - pools[i].first);
	}
	return MISS;
}

/*
 * The tunnel an inner address belongs to, in force or not: by arithmetic, else among the foreign ones. needs is the flag
 * its kind must have.
 */
inline_always __u32 find(const struct in6_addr *a, __u8 *needs)
{
	__u64 high = bpf_be64_to_cpu(high_of(a)), low = bpf_be64_to_cpu(low_of(a)), index;
	struct state *s;

#pragma unroll
	for (__u32 i = 0; i < MAX_POOLS; i++) {
		if (i >= pool_count)
			break;
		index = low - pools[i].endpoint_low;
		if (high == pools[i].endpoint_high && index < pools[i].size) {
			*needs = KIND_ENDPOINT;
			return pools[i].slot + index;
		}
		index = (high - pools[i].prefix_high) >> pools[i].shift;
		if (index < pools[i].prefixes) {
			*needs = KIND_PREFIX;
			return pools[i].slot + index;
		}
	}
	s = get_state();
	if (s && s->foreign) {
		struct foreign_key key = { .length = 128, .address = *a };
		__u32 *id = bpf_map_lookup_elem(&foreign, &key);

		if (id) {
			*needs = KIND_FOREIGN;
			return slot_of(*id);
		}
	}
	return MISS;
}

inline_always bool is_link_local(const struct in6_addr *a)
{
	return a->s6_addr[0] == 0xfe && (a->s6_addr[1] & 0xc0) == 0x80;
}

/* No router sends to or from these: multicast, link-local, ::/64 (unspecified, loopback, IPv4-mapped). */
inline_always bool is_martian(const struct in6_addr *a)
{
	return a->s6_addr[0] == 0xff || is_link_local(a) || !high_of(a);
}

inline_always bool is_server(const struct in6_addr *a)
{
	return low_of(a) == server_low && high_of(a) == server_high;
}

/* The index of a tunnel end of ours, MISS if it is none. Without UDP it is the first with the address. */
inline_always __u32 find_local(__be32 address, __be16 port, bool udp)
{
#pragma unroll
	for (__u32 i = 0; i < MAX_LOCAL; i++) {
		if (i >= local_count)
			break;
		if (address == locals[i].address && (!udp || port == locals[i].port))
			return i;
	}
	return MISS;
}

inline_always __u8 traffic_class(const struct ipv6hdr *ip6)
{
	return bpf_ntohs(*(__be16 *)ip6) >> 4;
}

inline_always __u32 length_of(const struct ipv6hdr *ip6)
{
	return bpf_ntohs(ip6->payload_len) + sizeof(*ip6);
}

/* Finds the tunnel a native packet is for. */
inline_always bool find_destination(const struct ipv6hdr *ip6, struct packet *p)
{
	struct state *s = get_state();
	__u8 needs = 0;

	p->slot = find(&ip6->daddr, &needs);
	if (p->slot == MISS || !s)
		return false;
	p->out = get_outbound(p->slot);
	if (!p->out)
		return false;
	p->key = *(volatile __u64 *)&p->out->key;
	if (!(KIND(p->key) & needs))
		return false;
	p->mtu = s->mtus[p->key >> 56];
	p->length = length_of(ip6);
	p->room = sizeof(struct iphdr);
	if (!(KIND(p->key) & KIND_SIT))
		p->room += sizeof(struct udphdr);
	return true;
}

/*
 * The identification of the next packet to a client: DF is not set, since the MTU is static (RFC 4213 section 3.2.1), so the
 * identifications between two addresses have to differ (RFC 6864 section 4.3). Clients behind one NAT share the address;
 * their ports keep them apart.
 */
inline_always __be16 identification(const struct packet *p)
{
	return bpf_htons((__u16)(COUNT_PACKETS(p->out->count) + (p->key >> 32) * 0x9e37));
}

inline_always __u8 outer_tos(__u8 class)
{
	return pipe ? class & 3 : class;
}

inline_always __u8 protocol_of(__u64 key)
{
	return KIND(key) & KIND_SIT ? IPPROTO_IPV6 : IPPROTO_UDP;
}

inline_always const volatile struct local *local_of(__u64 key)
{
	__u64 n = LOCAL_OF(key);

	/* Said once more where the compiler cannot fold it: Linux 6.1's verifier loses the bound in what it makes of the above. */
	asm volatile("%0 &= %1" : "+r"(n) : "i"(MAX_LOCAL - 1));
	return &locals[n];
}

/* Writes p->room octets of outer headers; false: they do not fit before end. */
inline_always bool write_outer(struct iphdr *ip, void *end, const struct packet *p, __u8 tos, __be16 id)
{
	const volatile struct local *local = local_of(p->key);
	__u32 total = p->length + p->room, remote = p->key, sum;
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)udp > end)
		return false;
	*(__u8 *)ip = 0x45;
	ip->tos = tos;
	ip->tot_len = bpf_htons(total);
	ip->id = id;
	ip->frag_off = 0;
	ip->ttl = HOP_LIMIT;
	ip->protocol = protocol_of(p->key);
	ip->saddr = local->address;
	ip->daddr = remote;
	sum = local->checksum + (remote & 0xffff) + (remote >> 16);
	sum += bpf_htons(total) + id + bpf_htons(tos) + bpf_htons(protocol_of(p->key));
	ip->check = ~fold(sum);
	if (p->room == sizeof(*ip))
		return true;
	if ((void *)(udp + 1) > end)
		return false;
	udp->source = local->port;
	udp->dest = p->key >> 32;
	udp->len = bpf_htons(p->length + sizeof(*udp));
	udp->check = 0; /* none (RFC 768); the inner packet has its own */
	return true;
}

/* Whether one more Packet Too Big is within the budget of this CPU (RFC 4443 section 2.4 (f)). */
inline_always bool may_complain(void)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u32 zero = 0;
	struct budget *b = bpf_map_lookup_elem(&budget, &zero);

	if (!b)
		return false;
	b->credit += now - b->last;
	if (b->credit > PTB_BURST)
		b->credit = PTB_BURST;
	b->last = now;
	if (b->credit < PTB_COST)
		return false;
	b->credit -= PTB_COST;
	return true;
}
