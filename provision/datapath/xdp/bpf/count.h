/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is counted of a tunnel: drops, packets and octets, and whether they are within its rate. */
#pragma once

#include "packet.h"

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
