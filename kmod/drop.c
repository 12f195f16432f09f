// SPDX-License-Identifier: GPL-2.0-only
/*
 * One record a reason and CPU, so that a flood of forged packets costs its CPU a line it has anyway. Written with bottom
 * halves off, by one writer a CPU therefore; the sequence count lets readers on other CPUs see whole records.
 */
#include <linux/ktime.h>
#include <linux/percpu.h>
#include <linux/seqlock.h>

#include "drop.h"
#include "hub.h"
#include "tunnel.h"

struct utun_drops {
	seqcount_t seq;
	struct utun_drop_record records[UTUN_DROP_MAX + 1];
};

int utun_drops_init(struct utun_hub *hub)
{
	int cpu;

	hub->drops = alloc_percpu_gfp(struct utun_drops, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!hub->drops)
		return -ENOMEM;
	for_each_possible_cpu(cpu)
		seqcount_init(&per_cpu_ptr(hub->drops, cpu)->seq);
	return 0;
}

void utun_drops_free(struct utun_hub *hub)
{
	free_percpu(hub->drops);
}

/* Counts; the packet is the caller's. With bottom halves off, under RCU. */
void utun_drop(struct utun_hub *hub, enum utun_drop reason, const struct utun_offence *o)
{
	struct utun_drops *drops = this_cpu_ptr(hub->drops);
	struct utun_drop_record *r = &drops->records[reason];

	write_seqcount_begin(&drops->seq);
	r->packets++;
	r->last = ktime_get_ns();
	r->encap = o->ends ? o->ends->encap : 0;
	if (o->ends) {
		r->remote = o->ends->remote;
		r->remote_port = o->ends->remote_port;
	}
	r->has_id = o->id;
	if (o->id)
		r->id = *o->id;
	r->has_inner = o->inner;
	if (o->inner)
		r->inner = *o->inner;
	write_seqcount_end(&drops->seq);
	if (o->id)
		utun_tallies_note(&hub->tallies, *o->id, reason);
}

/* Adds up one reason; the offender is the last of all CPUs. packets 0: it never occurred. */
void utun_drops_sum(const struct utun_hub *hub, enum utun_drop reason, struct utun_drop_record *sum)
{
	struct utun_drop_record r;
	unsigned int seq;
	u64 packets = 0;
	int cpu;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu) {
		const struct utun_drops *drops = per_cpu_ptr(hub->drops, cpu);

		do {
			seq = read_seqcount_begin(&drops->seq);
			r = drops->records[reason];
		} while (read_seqcount_retry(&drops->seq, seq));
		packets += r.packets;
		if (r.packets && r.last >= sum->last)
			*sum = r;
	}
	sum->packets = packets;
}
