/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A packet on its way, and small helpers. */
#pragma once

#include "tables.h"

/* A packet and what is known about it. */
struct packet {
	struct ipv6hdr *inner;
	struct record *in;
	struct record *out;
	__u64 key;    /* of the record, as far as the outer header shows it */
	__u32 slot;   /* MISS if not known */
	__u32 mtu;    /* of the tunnel, for native packets */
	__u32 length; /* of the inner packet */
	__u32 room;   /* of the outer headers */
	__u32 spare;  /* octets behind the inner packet */
	__u8 ecn;     /* of the inner packet, after RFC 6040 */
	bool rated;   /* inbound */
};

inline_always struct state *get_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&state, &zero);
}

inline_always __u64 high_of(const struct in6_addr *a)
{
	__u64 v;

	__builtin_memcpy(&v, a, 8);
	return v;
}

inline_always __u64 low_of(const struct in6_addr *a)
{
	__u64 v;

	__builtin_memcpy(&v, (const void *)a + 8, 8);
	return v;
}

inline_always __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

inline_always void *get_entry(__u32 index)
{
	return bpf_map_lookup_elem(&tunnels, &index);
}
