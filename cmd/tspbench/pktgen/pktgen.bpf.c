// SPDX-License-Identifier: GPL-2.0-or-later

//go:build ignore

/*
 * Packet generator, sinks, and the client's end of a tunnel, for benchmarks.
 *
 * generate  makes packets under BPF_PROG_TEST_RUN with live frames: each run writes one whole frame (the pages are
 *           recycled, so whatever the datapath did to the last frame is still there) and redirects it to a device
 * sink_xdp  counts and drops what leaves a datapath as an XDP frame
 * sink_tc   counts and drops what leaves it as an skb
 * client_out, client_in   v6udpv4 for one tunnel: encapsulate at a virtual Ethernet device, decapsulate on the ingress
 *           of the uplink. So a measurement of the server is not one of a userspace client.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

#define INLINE static __always_inline
#define TEMPLATE 128 /* octets of a template; a frame is 64 to 128 of them */
#define HALF 64
#define PORTS 16 /* tunnels a client address has, one source port each */

#define ENCAP_OVERHEAD (sizeof(struct iphdr) + sizeof(struct udphdr))

#ifndef BPF_F_ADJ_ROOM_DECAP_L3_IPV6
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)
#endif

struct counter {
	__u64 packets;
};

struct generator {
	__u32 random; /* xorshift32 state, never 0 */
	__u32 sequence;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[TEMPLATE]);
} templates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct generator);
} state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

/* generator: one per load */
volatile const __u32 gen_device;    /* ifindex */
volatile const __u32 gen_length;    /* octets of a frame, 64..128 */
volatile const __u32 gen_templates; /* sent in turn */
volatile const __u32 gen_tunnels;   /* random tunnel of so many; 0: the templates as they are */
volatile const __u32 gen_outer;     /* offset of an IPv4 header whose source is the tunnel's, 0: none */
volatile const __u32 gen_ports;     /* the source is PORTS tunnels an address, else one */
volatile const __u32 gen_inner;     /* offset of the 64-bit half of an IPv6 address that holds the tunnel's index, 0: none */
volatile const __u32 gen_shift;     /* of the index in that half */

/* sinks: only packets with this 16-bit word (network order) at this offset are counted, the rest passes */
volatile const __u32 sink_offset;
volatile const __u16 sink_word;

/* client: addresses and ports as they stand on the wire */
volatile const __u32 client_local, client_remote;
volatile const __u16 client_port, client_server_port;
volatile const __u32 client_uplink;
volatile const __u64 client_mac, client_gateway_mac;

INLINE void checksum4(struct iphdr *ip)
{
	__u16 *word = (__u16 *)ip;
	__u32 sum = 0;

	ip->check = 0;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
}

INLINE __u32 pick(struct generator *g)
{
	__u32 x = g->random;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	g->random = x;
	return ((__u64)x * gen_tunnels) >> 32;
}

INLINE int patch(void *data, void *end, __u32 index)
{
	if (gen_outer) {
		struct iphdr *ip = data + gen_outer;
		struct udphdr *udp = (void *)(ip + 1);

		if ((void *)(udp + 1) > end)
			return -1;
		if (gen_ports) {
			ip->saddr = bpf_htonl(bpf_ntohl(ip->saddr) + index / PORTS);
			udp->source = bpf_htons(bpf_ntohs(udp->source) + index % PORTS);
		} else {
			ip->saddr = bpf_htonl(bpf_ntohl(ip->saddr) + index);
		}
		checksum4(ip);
	}
	if (gen_inner) {
		__u64 *half = data + gen_inner;

		if ((void *)(half + 1) > end)
			return -1;
		*half = bpf_cpu_to_be64(bpf_be64_to_cpu(*half) + ((__u64)index << gen_shift));
	}
	return 0;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0, turn = 0;
	struct generator *g = bpf_map_lookup_elem(&state, &zero);

	if (!g)
		return XDP_ABORTED;
	if (gen_templates > 1) {
		turn = g->sequence++;
		if (turn + 1 >= gen_templates)
			g->sequence = 0;
	}
	__u8 *template = bpf_map_lookup_elem(&templates, &turn);
	__u32 tail = gen_length - HALF;

	if (!template || tail > TEMPLATE - HALF || data + tail + HALF > end)
		return XDP_ABORTED;
	__builtin_memcpy(data, template, HALF);
	__builtin_memcpy(data + tail, template + tail, HALF);
	if (gen_tunnels && patch(data, end, pick(g)))
		return XDP_ABORTED;
	return bpf_redirect(gen_device, 0);
}

/* count says whether the packet is one of the generator's */
INLINE int count(void *data, void *end, __u32 packets)
{
	__u16 *word = data + sink_offset;
	__u32 zero = 0;

	if ((void *)(word + 1) > end || *word != sink_word)
		return 0;
	struct counter *c = bpf_map_lookup_elem(&counters, &zero);
	if (c)
		c->packets += packets;
	return 1;
}

SEC("xdp")
int sink_xdp(struct xdp_md *ctx)
{
	return count((void *)(long)ctx->data, (void *)(long)ctx->data_end, 1) ? XDP_DROP : XDP_PASS;
}

SEC("tc")
int sink_tc(struct __sk_buff *skb)
{
	__u32 packets = skb->gso_segs ? skb->gso_segs : 1;

	return count((void *)(long)skb->data, (void *)(long)skb->data_end, packets) ? TC_ACT_SHOT : TC_ACT_OK;
}

INLINE void set_mac(unsigned char *to, __u64 mac)
{
	__builtin_memcpy(to, &mac, ETH_ALEN);
}

SEC("tc")
int client_out(struct __sk_buff *skb)
{
	if (skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_SHOT;
	__u32 inner = skb->len - ETH_HLEN;

	if (bpf_skb_adjust_room(skb, ENCAP_OVERHEAD, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_FIXED_GSO))
		return TC_ACT_SHOT;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end)
		return TC_ACT_SHOT;
	*ip = (struct iphdr){
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP,
		.tot_len = bpf_htons(inner + ENCAP_OVERHEAD), .frag_off = bpf_htons(0x4000),
		.saddr = client_local, .daddr = client_remote,
	};
	checksum4(ip);
	*udp = (struct udphdr){
		.source = client_port, .dest = client_server_port, .len = bpf_htons(inner + sizeof(*udp)),
	};
	set_mac(eth->h_source, client_mac);
	set_mac(eth->h_dest, client_gateway_mac);
	eth->h_proto = bpf_htons(ETH_P_IP);
	return bpf_redirect(client_uplink, 0);
}

SEC("tc")
int client_in(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u8 *version = (void *)(udp + 1);

	if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)(version + 1) > end)
		return TC_ACT_OK;
	if (ip->ihl != 5 || ip->protocol != IPPROTO_UDP || ip->saddr != client_remote ||
	    udp->source != client_server_port || udp->dest != client_port || *version >> 4 != 6)
		return TC_ACT_OK;
	if (bpf_skb_adjust_room(skb, -(int)ENCAP_OVERHEAD, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_DECAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO))
		return TC_ACT_SHOT;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	eth = data;
	if ((void *)(eth + 1) > end)
		return TC_ACT_SHOT;
	eth->h_proto = bpf_htons(ETH_P_IPV6);
	return TC_ACT_OK;
}
