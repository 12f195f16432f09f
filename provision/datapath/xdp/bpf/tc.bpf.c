/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tc: ddtb_ingress on uplinks and core interfaces, ddtb_device on the egress of the virtual device.
 *
 * Behind XDP, ddtb_ingress takes what XDP left: it decapsulates and, where the short way is not open, hands the inner packet
 * to the stack as if it had come in through the device. Without XDP it does all that XDP would have done.
 */
#include <linux/pkt_cls.h>
#include "check.h"
#include "route.h"

char LICENSE[] SEC("license") = "GPL";

#define NEXT TC_ACT_UNSPEC     /* the next program, or the stack */
#define DECAP_L3_IPV6 (1 << 8) /* BPF_F_ADJ_ROOM_DECAP_L3_IPV6, since Linux 6.3 */
#define TCP_HEADER 20
#define QUOTED (1280 - sizeof(struct ipv6hdr) - sizeof(struct icmp6hdr)) /* RFC 4443 section 3.2 */

inline_always void *data_of(const struct __sk_buff *skb)
{
	return (void *)(long)skb->data;
}

inline_always void *end_of(const struct __sk_buff *skb)
{
	return (void *)(long)skb->data_end;
}

/* Makes the first octets readable, as many as there are. Pointers into the packet are void afterwards. */
inline_always void pull(struct __sk_buff *skb, __u32 octets)
{
	if (octets > skb->len)
		octets = skb->len;
	if (data_of(skb) + octets > end_of(skb))
		bpf_skb_pull_data(skb, octets);
}

/* The octets of IP and transport header that each packet of an skb will have. */
inline_always __u32 header_of(const struct ipv6hdr *ip6, void *end)
{
	const __u8 *tcp = (void *)(ip6 + 1);

	if (ip6->nexthdr == IPPROTO_TCP && (void *)(tcp + TCP_HEADER) <= end)
		return sizeof(*ip6) + (tcp[12] >> 4) * 4;
	return sizeof(*ip6) + sizeof(struct udphdr);
}

/* How many packets an skb will be; gso_segs is not always there. */
inline_always __u32 segments_of(const struct __sk_buff *skb, const struct ipv6hdr *ip6, void *end)
{
	__u32 header = header_of(ip6, end), length = length_of(ip6);

	if (!skb->gso_size || length <= header)
		return 1;
	return (length - header + skb->gso_size - 1) / skb->gso_size;
}

/* The largest packet of an skb. */
inline_always __u32 segment_of(const struct __sk_buff *skb, const struct ipv6hdr *ip6, void *end)
{
	return skb->gso_size ? skb->gso_size + header_of(ip6, end) : length_of(ip6);
}

/* The octets they will have together. */
inline_always __u32 octets_of(__u32 segments, const struct ipv6hdr *ip6, void *end)
{
	return length_of(ip6) + (segments - 1) * header_of(ip6, end);
}

inline_always int refuse(struct __sk_buff *skb, int verdict, const struct packet *p, const struct ipv6hdr *ip6)
{
	count_drop(verdict, p, ip6, end_of(skb));
	return TC_ACT_SHOT;
}

/* Puts an Ethernet header where there is room for one and sends. */
inline_always int send(struct __sk_buff *skb, const struct hop *hop, __be16 protocol)
{
	struct ethhdr *eth = data_of(skb);

	if ((void *)(eth + 1) > end_of(skb))
		return TC_ACT_SHOT;
	__builtin_memcpy(eth, hop->macs, sizeof(hop->macs));
	eth->h_proto = protocol;
	return bpf_redirect(hop->ifindex, 0);
}

inline_always long strip_outer(struct __sk_buff *skb, int room)
{
	if (shrink_l3)
		return bpf_skb_adjust_room(skb, -room, BPF_ADJ_ROOM_MAC, DECAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO);
	/* Before Linux 6.3 only this turns an IPv4 skb into an IPv6 one; it makes the header 20 octets longer. */
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0))
		return -1;
	return bpf_skb_adjust_room(skb, -(room + 20), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
}

inline_always int from_client(struct __sk_buff *skb)
{
	struct packet p = { .slot = MISS };
	struct hop hop;
	__u32 segments, octets;
	bool forward;
	int verdict;
	__u64 now;

	pull(skb, ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr) + sizeof(struct ipv6hdr) + TCP_HEADER);
	verdict = admit(data_of(skb) + ETH_HLEN, end_of(skb), skb->len - ETH_HLEN, &p);
	if (verdict == PASS)
		return NEXT;
	if (verdict != ADMIT)
		return refuse(skb, verdict, &p, p.inner);
	if (skb->gso_size && p.room != sizeof(struct iphdr))
		return NEXT; /* several datagrams in one: the socket gets them one by one */
	now = bpf_ktime_get_coarse_ns();
	forward = may_forward(&p) && route_inner(skb, p.inner, segment_of(skb, p.inner, end_of(skb)), now, &hop);
	segments = segments_of(skb, p.inner, end_of(skb));
	octets = octets_of(segments, p.inner, end_of(skb));
	if (!may_enter(&p, octets))
		return refuse(skb, RATE, &p, p.inner);
	count_rx(&p, segments, octets, now);
	write_ecn(p.inner, p.ecn);
	if (forward)
		p.inner->hop_limit--;
	if (p.spare && bpf_skb_change_tail(skb, skb->len - p.spare, 0))
		return refuse(skb, FAILED, &p, 0);
	if (strip_outer(skb, p.room))
		return refuse(skb, FAILED, &p, 0);
	return forward ? send(skb, &hop, bpf_htons(ETH_P_IPV6)) : bpf_redirect(device, BPF_F_INGRESS);
}

/* Puts the outer headers between link layer and inner packet. */
inline_always long add_outer(struct __sk_buff *skb, const struct packet *p, __u32 offset, __u8 tos)
{
	__u64 flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_FIXED_GSO;
	struct iphdr *ip;

	if (p->room != sizeof(*ip))
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	if (bpf_skb_adjust_room(skb, p->room, BPF_ADJ_ROOM_MAC, flags))
		return -1;
	ip = data_of(skb) + offset;
	return write_outer(ip, end_of(skb), p, tos, identification(p)) ? 0 : -1;
}

inline_always int to_client(struct __sk_buff *skb)
{
	struct packet p = { .slot = MISS };
	struct ipv6hdr *ip6;
	struct hop hop;
	int verdict, way;
	__u32 segments, octets;
	__u8 tos;

	pull(skb, ETH_HLEN + sizeof(*ip6) + TCP_HEADER);
	ip6 = data_of(skb) + ETH_HLEN;
	if ((void *)(ip6 + 1) > end_of(skb))
		return NEXT;
	verdict = judge_native(ip6, skb->len - ETH_HLEN, segment_of(skb, ip6, end_of(skb)), &p);
	if (verdict == PASS)
		return NEXT;
	if (verdict != ADMIT)
		return refuse(skb, verdict, &p, ip6);
	tos = outer_tos(traffic_class(ip6));
	way = route_outer(skb, &p, tos, 0, &hop);
	if (way == UNROUTED)
		return NEXT;
	segments = segments_of(skb, ip6, end_of(skb));
	octets = octets_of(segments, ip6, end_of(skb));
	if (!may_leave(&p, octets))
		return refuse(skb, RATE, &p, ip6);
	ip6->hop_limit--;
	if (skb->len > ETH_HLEN + p.length && bpf_skb_change_tail(skb, ETH_HLEN + p.length, 0))
		return refuse(skb, FAILED, &p, 0);
	if (add_outer(skb, &p, ETH_HLEN, tos))
		return refuse(skb, FAILED, &p, 0);
	count_tx(&p, segments, octets);
	return way == ROUTED ? send(skb, &hop, bpf_htons(ETH_P_IP)) : bpf_redirect_neigh(hop.ifindex, 0, 0, 0);
}

SEC("tc")
int ddtb_ingress(struct __sk_buff *skb)
{
	if (skb->pkt_type != 0 /* PACKET_HOST */ || skb->vlan_present)
		return NEXT;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return to_client(skb);
	if (decap && skb->protocol == bpf_htons(ETH_P_IP))
		return from_client(skb);
	return NEXT;
}

/* Whether an error may be sent about a packet (RFC 4443 section 2.4 (e)). */
inline_always bool may_answer(const struct ipv6hdr *ip6, void *end)
{
	const struct icmp6hdr *icmp = (void *)(ip6 + 1);

	if (is_martian(&ip6->saddr))
		return false;
	return ip6->nexthdr != IPPROTO_ICMPV6 || ((void *)(icmp + 1) <= end && icmp->icmp6_type >= 128);
}

inline_always __u16 icmp_checksum(struct ipv6hdr *ip6, struct icmp6hdr *icmp)
{
	__u32 sum = bpf_htons(sizeof(*icmp) + QUOTED) + bpf_htons(IPPROTO_ICMPV6);
	void *at = icmp;

	sum = bpf_csum_diff(0, 0, (void *)&ip6->saddr, 32, sum);
	sum = bpf_csum_diff(0, 0, at, 512, sum);
	sum = bpf_csum_diff(0, 0, at + 512, 512, sum);
	sum = bpf_csum_diff(0, 0, at + 1024, sizeof(*icmp) + QUOTED - 1024, sum);
	return ~fold(sum);
}

/* Turns a packet that is too big into the Packet Too Big about it, and hands that to the stack to be sent. */
inline_always int complain(struct __sk_buff *skb, const struct packet *p)
{
	struct ipv6hdr *ip6, *quoted;
	struct icmp6hdr *icmp;
	__u64 server[2] = { server_high, server_low };

	if (bpf_skb_change_tail(skb, QUOTED, 0) ||
	    bpf_skb_adjust_room(skb, sizeof(*ip6) + sizeof(*icmp), BPF_ADJ_ROOM_MAC, 0))
		return refuse(skb, FAILED, p, 0);
	bpf_skb_pull_data(skb, 1280);
	ip6 = data_of(skb);
	icmp = (void *)(ip6 + 1);
	quoted = (void *)(icmp + 1);
	if ((void *)ip6 + 1280 > end_of(skb))
		return refuse(skb, FAILED, p, 0);
	*(__be32 *)ip6 = bpf_htonl(6 << 28);
	ip6->payload_len = bpf_htons(sizeof(*icmp) + QUOTED);
	ip6->nexthdr = IPPROTO_ICMPV6;
	ip6->hop_limit = HOP_LIMIT;
	__builtin_memcpy(&ip6->saddr, server, sizeof(server));
	ip6->daddr = quoted->saddr;
	icmp->icmp6_type = ICMPV6_PKT_TOOBIG;
	icmp->icmp6_code = 0;
	icmp->icmp6_cksum = 0;
	icmp->icmp6_mtu = bpf_htonl(p->mtu);
	icmp->icmp6_cksum = icmp_checksum(ip6, icmp);
	return bpf_redirect(device, BPF_F_INGRESS);
}

SEC("tc")
int ddtb_device(struct __sk_buff *skb)
{
	struct packet p = { .slot = MISS };
	struct ipv6hdr *ip6;
	struct hop hop;
	__u32 segments, octets;
	__u8 tos;
	int way;

	pull(skb, sizeof(*ip6) + TCP_HEADER);
	ip6 = data_of(skb);
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || (void *)(ip6 + 1) > end_of(skb) || is_martian(&ip6->daddr))
		return TC_ACT_SHOT; /* the stack's own noise on a new device */
	if (!find_destination(ip6, &p))
		return refuse(skb, NO_DESTINATION, &p, ip6);
	if (segment_of(skb, ip6, end_of(skb)) > p.mtu) {
		if (may_answer(ip6, end_of(skb)) && may_complain())
			return complain(skb, &p);
		return refuse(skb, TOO_BIG, &p, ip6);
	}
	tos = outer_tos(traffic_class(ip6));
	way = route_outer(skb, &p, tos, 0, &hop);
	if (way == UNROUTED)
		return refuse(skb, NO_ROUTE, &p, ip6);
	segments = segments_of(skb, ip6, end_of(skb));
	octets = octets_of(segments, ip6, end_of(skb));
	if (!may_leave(&p, octets))
		return refuse(skb, RATE, &p, ip6);
	if (add_outer(skb, &p, 0, tos) || bpf_skb_change_head(skb, ETH_HLEN, 0))
		return refuse(skb, FAILED, &p, 0);
	count_tx(&p, segments, octets);
	return way == ROUTED ? send(skb, &hop, bpf_htons(ETH_P_IP)) : bpf_redirect_neigh(hop.ifindex, 0, 0, 0);
}
