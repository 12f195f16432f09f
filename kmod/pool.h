/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pools: ranges of tunnels whose inner addresses follow from their number by arithmetic. Nothing here sleeps, allocates or
 * knows of devices and packets, so that KUnit can test it alone.
 */
#ifndef _UTUN_POOL_H
#define _UTUN_POOL_H

#include <linux/in6.h>
#include <linux/types.h>
#include <linux/unaligned.h>

struct utun_tunnel;

/* An IPv6 address as a number. */
struct utun_wide {
	u64 hi, lo;
};

/* Which of its addresses a tunnel has. */
enum {
	UTUN_HAS_ENDPOINT = 1,	/* the endpoint of its id */
	UTUN_HAS_PREFIX = 2,	/* the prefix of its id */
	UTUN_HAS_FOREIGN = 4,	/* some outside the pools */
};

struct utun_pool {
	struct utun_wide endpoint, prefix;	/* of the first tunnel */
	u32 first;				/* its id */
	u32 size;
	u32 delegates;				/* size, or 0 if the pool has no prefixes */
	u8 prefix_len;
	struct utun_tunnel __rcu **slots;
};

static inline struct utun_wide utun_wide(const struct in6_addr *a)
{
	return (struct utun_wide){ get_unaligned_be64(a->s6_addr), get_unaligned_be64(a->s6_addr + 8) };
}

static inline struct in6_addr utun_narrow(struct utun_wide w)
{
	struct in6_addr a;

	put_unaligned_be64(w.hi, a.s6_addr);
	put_unaligned_be64(w.lo, a.s6_addr + 8);
	return a;
}

/*
 * Which of size blocks of 2^shift addresses (shift at most 127) from base on a is in. A range never wraps
 * (utun_pool_fits()), so that an address below base has a difference above every index.
 */
static __always_inline bool utun_index(struct utun_wide a, struct utun_wide base, unsigned int shift, u32 size, u32 *index)
{
	u64 lo = a.lo - base.lo, hi = a.hi - base.hi - (a.lo < base.lo);

	if (shift >= 64) {
		lo = hi >> (shift - 64);
		hi = 0;
	} else if (shift) {
		lo = lo >> shift | hi << (64 - shift);
		hi >>= shift;
	}
	*index = lo;
	return !hi && lo < size;
}

/* Finds the number of the tunnel an address belongs to, in force or not, and which of the tunnel's addresses it is. */
static __always_inline bool utun_pool_find(const struct utun_pool *p, struct utun_wide a, u32 *index, u8 *has)
{
	if (utun_index(a, p->endpoint, 0, p->size, index)) {
		*has = UTUN_HAS_ENDPOINT;
		return true;
	}
	if (utun_index(a, p->prefix, 128 - p->prefix_len, p->delegates, index)) {
		*has = UTUN_HAS_PREFIX;
		return true;
	}
	return false;
}

struct utun_wide utun_plus(struct utun_wide base, unsigned int shift, u32 index);
struct in6_addr utun_pool_endpoint(const struct utun_pool *p, u32 index);
struct in6_addr utun_pool_prefix(const struct utun_pool *p, u32 index);
bool utun_pool_fits(const struct utun_pool *p);
bool utun_pool_overlaps(const struct utun_pool *p, const struct in6_addr *a, u8 len);
bool utun_pools_collide(const struct utun_pool *a, const struct utun_pool *b);
bool utun_is_prefix(const struct in6_addr *a, u8 len);

#endif
