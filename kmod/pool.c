// SPDX-License-Identifier: GPL-2.0-only
#include <linux/limits.h>

#include "pool.h"

/* A range of addresses, both ends included. */
struct utun_span {
	struct utun_wide first, last;
};

static bool less(struct utun_wide a, struct utun_wide b)
{
	return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo);
}

static struct utun_wide shifted(u64 n, unsigned int shift)
{
	if (shift >= 64)
		return (struct utun_wide){ n << (shift - 64), 0 };
	return (struct utun_wide){ shift ? n >> (64 - shift) : 0, n << shift };
}

static struct utun_wide sum(struct utun_wide a, struct utun_wide b)
{
	u64 lo = a.lo + b.lo;

	return (struct utun_wide){ a.hi + b.hi + (lo < a.lo), lo };
}

/* The low bits that are not of a prefix; shift at most 128. */
static struct utun_wide low_bits(unsigned int shift)
{
	if (shift >= 128)
		return (struct utun_wide){ U64_MAX, U64_MAX };
	return sum(shifted(1, shift), (struct utun_wide){ U64_MAX, U64_MAX });
}

/* base + index * 2^shift; shift at most 127 */
struct utun_wide utun_plus(struct utun_wide base, unsigned int shift, u32 index)
{
	return sum(base, shifted(index, shift));
}

struct in6_addr utun_pool_endpoint(const struct utun_pool *p, u32 index)
{
	return utun_narrow(utun_plus(p->endpoint, 0, index));
}

/* Only of a pool that delegates. */
struct in6_addr utun_pool_prefix(const struct utun_pool *p, u32 index)
{
	return utun_narrow(utun_plus(p->prefix, 128 - p->prefix_len, index));
}

/* All of the size blocks of 2^shift addresses from base on; size at least 1. */
static struct utun_span blocks(struct utun_wide base, unsigned int shift, u32 size)
{
	return (struct utun_span){ base, sum(utun_plus(base, shift, size - 1), low_bits(shift)) };
}

static struct utun_span endpoints(const struct utun_pool *p)
{
	return blocks(p->endpoint, 0, p->size);
}

static struct utun_span prefixes(const struct utun_pool *p)
{
	return blocks(p->prefix, 128 - p->prefix_len, p->delegates);
}

static bool overlap(struct utun_span a, struct utun_span b)
{
	return !less(a.last, b.first) && !less(b.last, a.first);
}

/* Whether the numbers from base on, as many as size blocks of 2^shift, end before 2^128. */
static bool in_space(struct utun_wide base, unsigned int shift, u32 size)
{
	/* size * 2^shift alone may be too large. */
	if (shift >= 96 && ((u64)size - 1) >> (128 - shift))
		return false;
	return !less(utun_plus(base, shift, size - 1), base);
}

/* Whether len leading bits of an address are all that is set in it. */
bool utun_is_prefix(const struct in6_addr *a, u8 len)
{
	struct utun_wide w = utun_wide(a), low;

	if (len > 128)
		return false;
	low = low_bits(128 - len);
	return !(w.hi & low.hi) && !(w.lo & low.lo);
}

/* Whether a pool's ranges stay below 2^128, its ids below 2^32, and its first prefix is one. */
bool utun_pool_fits(const struct utun_pool *p)
{
	struct in6_addr prefix = utun_narrow(p->prefix);

	if (!p->size || p->first + (p->size - 1) < p->first || !in_space(p->endpoint, 0, p->size))
		return false;
	if (!p->delegates)
		return true;
	return p->delegates == p->size && p->prefix_len >= 1 && p->prefix_len <= 127 &&
	       utun_is_prefix(&prefix, p->prefix_len) && in_space(p->prefix, 128 - p->prefix_len, p->size) &&
	       !overlap(endpoints(p), prefixes(p));
}

/* Whether a prefix (or an address: len 128) shares an address with a pool. */
bool utun_pool_overlaps(const struct utun_pool *p, const struct in6_addr *a, u8 len)
{
	struct utun_span r = { utun_wide(a), sum(utun_wide(a), low_bits(128 - len)) };

	return overlap(r, endpoints(p)) || (p->delegates && overlap(r, prefixes(p)));
}

/* Whether two pools share an id or an address. */
bool utun_pools_collide(const struct utun_pool *a, const struct utun_pool *b)
{
	if (a->first <= b->first + (b->size - 1) && b->first <= a->first + (a->size - 1))
		return true;
	if (overlap(endpoints(a), endpoints(b)))
		return true;
	if (a->delegates && (overlap(prefixes(a), endpoints(b)) || (b->delegates && overlap(prefixes(a), prefixes(b)))))
		return true;
	return b->delegates && overlap(endpoints(a), prefixes(b));
}
