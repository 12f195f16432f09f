/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all hooks share: how a tunnel is found, what is counted, what the outer headers are. */
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

/* What stands in a tunnel's tally, 0 if there is none. */
inline_always __u32 *get_tally(__u32 slot, __u32 n)
{
	union entry *e;

	if (slot >= slots)
		return 0;
	e = get_entry(((2 * slots << spread) + slots * LEDGER_ENTRIES + 3) / 4 * 4 + slot * TALLY_ENTRIES + n / 4);
	return e ? &e->tally[n % 4] : 0;
}

/* The session whose drops a tunnel's tally counts. */
inline_always __u32 tally_session(__u32 slot)
{
	__u32 *session = get_tally(slot, TALLY_SESSION);

	return session ? *(volatile __u32 *)session : 0;
}

/* Adds what a CPU dropped of a tunnel in a row to its tally, if it still has the same session. */
static __noinline void tally(struct drop *d, __u32 reason)
{
	__u32 *count = d ? get_tally(d->slot, reason) : 0;

	if (!d)
		return;
	if (count && tally_session(d->slot) == d->session)
		__sync_fetch_and_add(count, d->packets - d->tallied);
	d->tallied = d->packets;
}

/*
 * Counts a packet that is dropped. ip6 is the head of the inner packet as far as it is there, or 0.
 *
 * A flood mostly goes on for one tunnel: only when there comes another one is the tunnel's tally written. One that changes
 * with every packet has its tally brought into the cache by the look at the session, a packet before it is written.
 */
static __noinline void note_drop(__u32 reason, __u32 slot, __u64 remote, const struct ipv6hdr *ip6, void *end)
{
	struct drop *d = bpf_map_lookup_elem(&drops, &reason);
	__u32 session = tally_session(slot);

	if (!d)
		return;
	if (d->slot != slot || d->session != session) {
		tally(d, reason);
		d->slot = slot;
		d->session = session;
	}
	d->packets++;
	d->last = bpf_ktime_get_ns(); /* exact: of two CPUs' last offenders the later one is asked for */
	d->remote = remote;
	if (ip6 && (void *)(ip6 + 1) <= end)
		__builtin_memcpy(&d->inner, &ip6->saddr, sizeof(d->inner));
	else
		__builtin_memset(&d->inner, 0, sizeof(d->inner));
}

inline_always void count_drop(__u32 reason, const struct packet *p, const struct ipv6hdr *ip6, void *end)
{
	note_drop(reason, p->slot, p->key, ip6, end);
}

inline_always struct record *get_inbound(__u32 slot)
{
	return get_entry(slot << spread);
}

inline_always struct record *get_outbound(__u32 slot)
{
	return get_entry((slots + slot) << spread);
}

inline_always __u32 ledger_of(__u32 slot)
{
	return (2 * slots << spread) + slot * LEDGER_ENTRIES;
}

/* Moves a count to the ledger. Who finds that it has changed meanwhile leaves it to the next packet. */
static __noinline void move_count(struct record *r, __u32 slot, __u32 sums, __u64 count)
{
	union entry *total = get_entry(ledger_of(slot) + sums), *moves = get_entry(ledger_of(slot) + LEDGER_MOVES);

	if (!r || !total || !moves)
		return;
	__sync_fetch_and_add(&moves->moves.begun, 1);
	if (__sync_val_compare_and_swap(&r->count, count, 0) == count) {
		__sync_fetch_and_add(&total->sums.packets, COUNT_PACKETS(count));
		__sync_fetch_and_add(&total->sums.octets, COUNT_OCTETS(count));
	}
	__sync_fetch_and_add(&moves->moves.ended, 1);
}

/*
 * Packets are counted last. The first atomic operation makes the processor wait until the line has come from memory; all that
 * is done before is done meanwhile.
 */
inline_always void count(struct record *r, __u32 slot, __u32 sums, __u32 packets, __u32 octets)
{
	__u64 add = packets * COUNT_PACKET + octets, before = __sync_fetch_and_add(&r->count, add);

	if (before & COUNT_FULL)
		move_count(r, slot, sums, before + add);
}

inline_always void count_rx(const struct packet *p, __u32 packets, __u32 octets, __u64 now)
{
	((__u8 *)&p->in->key)[7] = now >> SEEN_UNIT;
	count(p->in, p->slot, LEDGER_IN, packets, octets);
}

inline_always void count_tx(const struct packet *p, __u32 packets, __u32 octets)
{
	count(p->out, p->slot, LEDGER_OUT, packets, octets);
}

#define SECOND 1000000000ULL
#define BURST_TIME (SECOND / 10)
#define BURST_LEAST (32 * 1024) /* octets */

/*
 * Whether octets are within a rate (datapath.Burst); then they are charged. The bucket is full at the time it is due and
 * empty a burst before. Two CPUs that charge it at once both do.
 */
static __noinline bool charge(__u32 slot, __u32 ledger, __u32 octets)
{
	union entry *e = get_entry(ledger_of(slot) + ledger);
	__u64 now = bpf_ktime_get_ns(), rate, due, cost, burst, start;

	if (!e)
		return true;
	rate = *(volatile __u64 *)&e->bucket.rate;
	due = *(volatile __u64 *)&e->bucket.due;
	if (!rate)
		return true; /* it has just been lifted */
	burst = BURST_LEAST * 8 * SECOND / rate;
	if (burst < BURST_TIME)
		burst = BURST_TIME;
	start = due > now ? due : now;
	if (start - now >= burst)
		return false;
	cost = octets * 8 * SECOND / rate;
	if (__sync_val_compare_and_swap(&e->bucket.due, due, start + cost) != due)
		__sync_fetch_and_add(&e->bucket.due, cost);
	return true;
}

/* Whether the rate of a tunnel lets a packet pass, with its octets after segmentation. Without a rate it costs a branch. */
inline_always bool may_enter(const struct packet *p, __u32 octets)
{
	return !p->rated || charge(p->slot, LEDGER_RATE_IN, octets);
}

inline_always bool may_leave(const struct packet *p, __u32 octets)
{
	return !(KIND(*(volatile __u64 *)&p->out->key) & KIND_RATED) || charge(p->slot, LEDGER_RATE_OUT, octets);
}

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
