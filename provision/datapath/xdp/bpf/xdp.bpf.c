/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XDP on uplinks and core interfaces: the short way. It forwards, answers keepalives and drops what is forged; everything
 * else it leaves as it came, for the stack and the tc programs.
 */
#include "check.h"
#include "route.h"

char LICENSE[] SEC("license") = "GPL";

inline_always void write_ethernet(struct ethhdr *eth, const struct hop *hop, __be16 protocol)
{
	__builtin_memcpy(eth, hop->macs, sizeof(hop->macs));
	eth->h_proto = protocol;
}

inline_always int send(struct xdp_md *ctx, const struct hop *hop)
{
	if (bounce && hop->ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect(hop->ifindex, 0);
}

inline_always int refuse(struct xdp_md *ctx, int verdict, const struct packet *p, const struct ipv6hdr *ip6)
{
	count_drop(verdict, p, ip6, (void *)(long)ctx->data_end);
	return XDP_DROP;
}

inline_always bool is_echo_request(const struct packet *p, void *end)
{
	const struct icmp6hdr *icmp = (void *)(p->inner + 1);

	return nexthop != NEXTHOP_STACK && p->inner->nexthdr == IPPROTO_ICMPV6 && is_server(&p->inner->daddr) &&
	       p->length >= sizeof(*p->inner) + sizeof(*icmp) && (void *)(icmp + 1) <= end &&
	       icmp->icmp6_type == ICMPV6_ECHO_REQUEST && !icmp->icmp6_code;
}

/* Turns a keepalive round where it is (RFC 5572 section 4.5.4). Its checksum, right or wrong, stays what it was. */
inline_always int answer_echo(struct xdp_md *ctx, struct ethhdr *eth, void *end, struct packet *p, __u64 now)
{
	struct iphdr *ip = (void *)(eth + 1);
	struct ipv6hdr *ip6 = p->inner;
	struct icmp6hdr *icmp = (void *)(ip6 + 1);
	struct in6_addr client = ip6->saddr;
	struct hop hop;

	p->out = get_outbound(p->slot);
	if (!p->out || route_outer(ctx, p, 0, p->length + p->room, &hop) != ROUTED)
		return XDP_PASS;
	if (!may_enter(p, p->length) || !may_leave(p, p->length))
		return refuse(ctx, RATE, p, ip6);
	*(__be32 *)ip6 = bpf_htonl(6 << 28);
	ip6->hop_limit = HOP_LIMIT;
	ip6->saddr = ip6->daddr;
	ip6->daddr = client;
	icmp->icmp6_type = ICMPV6_ECHO_REPLY;
	icmp->icmp6_cksum = ~fold((__u16)~icmp->icmp6_cksum + bpf_htons((ICMPV6_ECHO_REPLY - ICMPV6_ECHO_REQUEST) << 8));
	if (!write_outer(ip, end, p, 0, identification(p)))
		return XDP_DROP;
	write_ethernet(eth, &hop, bpf_htons(ETH_P_IP));
	count_rx(p, 1, p->length, now);
	count_tx(p, 1, p->length);
	if (p->spare && bpf_xdp_adjust_tail(ctx, -(int)p->spare))
		return XDP_DROP;
	return send(ctx, &hop);
}

inline_always int forward_inner(struct xdp_md *ctx, struct packet *p, __u64 now)
{
	struct ethhdr *eth;
	struct hop hop;
	int action;

	if (!may_forward(p) || !route_inner(ctx, p->inner, p->length, now, &hop))
		return XDP_PASS;
	if (!may_enter(p, p->length))
		return refuse(ctx, RATE, p, p->inner);
	p->inner->hop_limit--;
	write_ecn(p->inner, p->ecn);
	if (p->spare && bpf_xdp_adjust_tail(ctx, -(int)p->spare))
		return XDP_DROP;
	if (bpf_xdp_adjust_head(ctx, p->room))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	write_ethernet(eth, &hop, bpf_htons(ETH_P_IPV6));
	action = send(ctx, &hop);
	count_rx(p, 1, p->length, now);
	return action;
}

inline_always int from_client(struct xdp_md *ctx, struct ethhdr *eth, void *end)
{
	struct iphdr *ip = (void *)(eth + 1);
	struct packet p = { .slot = MISS };
	int verdict = admit(ip, end, end - (void *)ip, &p);
	__u64 now;

	if (verdict == PASS)
		return XDP_PASS;
	if (verdict != ADMIT)
		return refuse(ctx, verdict, &p, p.inner);
	now = bpf_ktime_get_coarse_ns();
	if (is_echo_request(&p, end))
		return answer_echo(ctx, eth, end, &p, now);
	return forward_inner(ctx, &p, now);
}

inline_always int to_client(struct xdp_md *ctx, struct ethhdr *eth, void *end)
{
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct packet p = { .slot = MISS };
	struct iphdr *ip;
	struct hop hop;
	int verdict, action;
	__u32 spare;
	__u8 tos;

	if ((void *)(ip6 + 1) > end)
		return XDP_PASS;
	verdict = judge_native(ip6, end - (void *)ip6, 0, &p);
	if (verdict == PASS)
		return XDP_PASS;
	if (verdict != ADMIT)
		return refuse(ctx, verdict, &p, ip6);
	tos = outer_tos(traffic_class(ip6));
	if (route_outer(ctx, &p, tos, p.length + p.room, &hop) != ROUTED)
		return XDP_PASS;
	if (!may_leave(&p, p.length))
		return refuse(ctx, RATE, &p, ip6);
	ip6->hop_limit--;
	spare = end - (void *)ip6 - p.length;
	if (spare && bpf_xdp_adjust_tail(ctx, -(int)spare))
		return XDP_DROP;
	if (bpf_xdp_adjust_head(ctx, -(int)p.room))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	ip = (void *)(eth + 1);
	end = (void *)(long)ctx->data_end;
	if ((void *)ip > end || !write_outer(ip, end, &p, tos, identification(&p)))
		return XDP_DROP;
	write_ethernet(eth, &hop, bpf_htons(ETH_P_IP));
	action = send(ctx, &hop);
	count_tx(&p, 1, p.length);
	return action;
}

SEC("xdp")
int ddtb_xdp(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct state *s = get_state();

	if (!s || (void *)(eth + 1) > end)
		return XDP_PASS;
	if ((*(__u64 *)eth & 0xffffffffffffULL) != s->ports[own_port % MAX_PORTS].mac)
		return XDP_PASS; /* flooded, or for another host behind this interface */
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return to_client(ctx, eth, end);
	if (decap && eth->h_proto == bpf_htons(ETH_P_IP))
		return from_client(ctx, eth, end);
	return XDP_PASS;
}
