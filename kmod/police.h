/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Token buckets without a lock. A bucket is one number: the time at which it will be full again if nothing more is taken
 * (RFC 2697 turned round, as the generic cell rate algorithm of ITU-T I.371 does). Taking moves it on by the cost; who finds
 * that it lies further than the burst ahead of now may not take.
 */
#ifndef _UTUN_POLICE_H
#define _UTUN_POLICE_H

#include <linux/atomic.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/time64.h>
#include <linux/types.h>

/* Times an octet takes are in 2^-20 ns, so that 100 Gbit/s are exact to a part in 80,000. */
#define UTUN_COST_SHIFT 20

/* What so many octets cost, in ns. */
static inline u64 utun_cost_of(u64 cost, u32 octets)
{
	return mul_u64_u32_shr(cost, octets, UTUN_COST_SHIFT);
}

/* What one octet costs at a rate in octets a second; 0: there is no limit. */
static inline u64 utun_cost(u64 rate)
{
	return rate ? div64_u64((u64)NSEC_PER_SEC << UTUN_COST_SHIFT, rate) : 0;
}

/* The time it takes to fill a burst of octets, in ns. Above 2^32 s there is no difference. */
static inline u64 utun_burst(u64 rate, u32 burst)
{
	return rate ? div64_u64((u64)burst * NSEC_PER_SEC, rate) : 0;
}

/*
 * Takes cost ns from a bucket of burst ns. As long as anything is in the bucket a packet passes whole, and the bucket owes the
 * rest: else one longer than the burst would never pass.
 */
static inline bool utun_take(atomic64_t *full, u64 now, u64 cost, u64 burst)
{
	s64 before = atomic64_read(full), from;

	do {
		from = max_t(s64, before, now);
		if (from - (s64)now >= (s64)burst)
			return false;
	} while (!atomic64_try_cmpxchg(full, &before, from + (s64)cost));
	return true;
}

#endif
