/* SPDX-License-Identifier: GPL-2.0-only */
/* What can be told from headers alone. */
#ifndef _UTUN_PACKET_H
#define _UTUN_PACKET_H

#include <linux/icmpv6.h>
#include <linux/ipv6.h>
#include <net/inet_ecn.h>
#include <net/ipv6.h>

static inline bool utun_is_link_local(const struct in6_addr *a)
{
	return (a->s6_addr32[0] & htonl(0xffc00000)) == htonl(0xfe800000);
}

/* No router sends to or from these: multicast, link-local, ::/64 (unspecified, loopback, IPv4-mapped; RFC 4291 section 2.5). */
static inline bool utun_is_martian(const struct in6_addr *a)
{
	return a->s6_addr[0] == 0xff || utun_is_link_local(a) || !(a->s6_addr32[0] | a->s6_addr32[1]);
}

static inline u32 utun_length(const struct ipv6hdr *ip6)
{
	return sizeof(*ip6) + ntohs(ip6->payload_len);
}

/*
 * The ECN field of the packet that goes on after decapsulation, or -1: it must be dropped (RFC 6040 section 4.2, figure 4).
 */
static inline int utun_merge_ecn(u8 inner, u8 outer)
{
	inner &= INET_ECN_MASK;
	outer &= INET_ECN_MASK;
	if (outer == INET_ECN_CE)
		return inner == INET_ECN_NOT_ECT ? -1 : INET_ECN_CE;
	if (outer == INET_ECN_ECT_1 && inner == INET_ECN_ECT_0)
		return INET_ECN_ECT_1;
	return inner;
}

/* Whether an error may be sent about a packet (RFC 4443 section 2.4 (e)); icmp is what follows its header, NULL if too short. */
static inline bool utun_may_answer(const struct ipv6hdr *ip6, const struct icmp6hdr *icmp)
{
	if (utun_is_martian(&ip6->saddr))
		return false;
	return ip6->nexthdr != IPPROTO_ICMPV6 || (icmp && icmp->icmp6_type & ICMPV6_INFOMSG_MASK);
}

#endif
