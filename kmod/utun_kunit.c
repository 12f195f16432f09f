// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of what needs no packets: index arithmetic, ECN, addresses, token buckets. It is a module of its own. */
#include <kunit/test.h>
#include <linux/inet.h>
#include <linux/module.h>

#include "packet.h"
#include "police.h"
#include "pool.c"
#include "utun.h"

static struct in6_addr ip(const char *text)
{
	struct in6_addr a = {};

	in6_pton(text, -1, a.s6_addr, -1, NULL);
	return a;
}

static struct utun_wide wide(const char *text)
{
	struct in6_addr a = ip(text);

	return utun_wide(&a);
}

static struct utun_pool make_pool(u32 first, u32 size, const char *endpoint, const char *prefix, u8 len)
{
	struct utun_pool p = { .first = first, .size = size, .endpoint = wide(endpoint), .prefix_len = 64 };

	if (prefix) {
		p.prefix = wide(prefix);
		p.prefix_len = len;
		p.delegates = size;
	}
	return p;
}

/* Every length, every index: an address of a block has its index, the ones before and behind have none. */
static void index_of_prefix(struct kunit *test)
{
	static const u32 sizes[] = { 1, 2, 3, 255, 1 << 24 };
	unsigned int len, n, has_carry;
	u32 index;

	for (len = 1; len <= 127; len++) {
		for (n = 0; n < ARRAY_SIZE(sizes); n++) {
			struct utun_wide base = len <= 26 ? (struct utun_wide){} : wide("2001:db8::"), last, before;
			u32 size = sizes[n], last_index = size - 1;

			if (len < 25 && size > 1U << len)
				continue;
			base.hi &= len >= 64 ? U64_MAX : ~(U64_MAX >> len);
			last = sum(utun_plus(base, 128 - len, last_index), low_bits(128 - len));
			KUNIT_EXPECT_TRUE(test, utun_index(base, base, 128 - len, size, &index));
			KUNIT_EXPECT_EQ(test, index, 0);
			KUNIT_EXPECT_TRUE_MSG(test, utun_index(last, base, 128 - len, size, &index), "len %u size %u", len, size);
			KUNIT_EXPECT_EQ(test, index, last_index);
			has_carry = !(last.hi == U64_MAX && last.lo == U64_MAX);
			last = sum(last, (struct utun_wide){ 0, 1 });
			if (has_carry)
				KUNIT_EXPECT_FALSE_MSG(test, utun_index(last, base, 128 - len, size, &index),
						       "len %u size %u", len, size);
			before = sum(base, (struct utun_wide){ U64_MAX, U64_MAX });
			if (base.hi)
				KUNIT_EXPECT_FALSE(test, utun_index(before, base, 128 - len, size, &index));
		}
	}
}

static void pool_find(struct kunit *test)
{
	struct utun_pool p = make_pool(1000, 4096, "2001:db8:e::ff00", "2001:db8:1000::", 48);
	static const struct {
		const char *a;
		int index;
		u8 has;
	} cases[] = {
		{ "2001:db8:e::ff00", 0, UTUN_HAS_ENDPOINT }, { "2001:db8:e::1:eff", 4095, UTUN_HAS_ENDPOINT },
		{ "2001:db8:e::1:f00", -1 }, { "2001:db8:e::feff", -1 }, { "2001:db8:e:1::ff00", -1 },
		{ "2001:db8:1000::", 0, UTUN_HAS_PREFIX }, { "2001:db8:1000:ffff:ffff:ffff:ffff:ffff", 0, UTUN_HAS_PREFIX },
		{ "2001:db8:1fff::1", 4095, UTUN_HAS_PREFIX }, { "2001:db8:2000::", -1 }, { "2001:db8:fff:ffff::", -1 },
		{ "::", -1 }, { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", -1 },
	};
	unsigned int n;
	u32 index;
	u8 has;

	for (n = 0; n < ARRAY_SIZE(cases); n++) {
		bool found = utun_pool_find(&p, wide(cases[n].a), &index, &has);

		KUNIT_EXPECT_EQ_MSG(test, found, cases[n].index >= 0, "%s", cases[n].a);
		if (found) {
			KUNIT_EXPECT_EQ_MSG(test, (int)index, cases[n].index, "%s", cases[n].a);
			KUNIT_EXPECT_EQ_MSG(test, has, cases[n].has, "%s", cases[n].a);
		}
	}
	p = make_pool(1, 10, "2001:db8::", NULL, 0);
	KUNIT_EXPECT_FALSE(test, utun_pool_find(&p, wide("::1"), &index, &has));
}

static void pool_fits(struct kunit *test)
{
	static const struct {
		u32 first, size;
		const char *endpoint, *prefix;
		u8 len;
		bool fits;
	} cases[] = {
		{ 0, 1, "2001:db8::", NULL, 0, true },
		{ 0, 0, "2001:db8::", NULL, 0, false },
		{ U32_MAX, 1, "2001:db8::", NULL, 0, true },
		{ U32_MAX, 2, "2001:db8::", NULL, 0, false },
		{ 0, 2, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL, 0, false },
		{ 0, 256, "2001:db8::", "ff00::", 16, true },
		{ 0, 257, "2001:db8::", "ff00::", 16, false },
		{ 0, 2, "8000::", "::", 1, false },		/* the endpoints lie in the prefixes */
		{ 0, 4, "2001:db8::", "::", 1, false },		/* more than there are */
		{ 0, 16, "2001:db8::", "2001:db8:1000::1", 48, false },
		{ 0, 16, "2001:db8:1000::5", "2001:db8:1000::", 48, false },
		{ 0, 16, "2001:db8::", "2001:db8:1000::", 127, true },
	};
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(cases); n++) {
		struct utun_pool p = make_pool(cases[n].first, cases[n].size, cases[n].endpoint, cases[n].prefix, cases[n].len);

		KUNIT_EXPECT_EQ_MSG(test, utun_pool_fits(&p), cases[n].fits, "case %u", n);
	}
}

static void pools_collide(struct kunit *test)
{
	struct utun_pool p = make_pool(100, 10, "2001:db8::", "2001:db8:1000::", 48);
	struct utun_pool apart = make_pool(110, 10, "2001:db8::a", "2001:db8:100a::", 48);
	struct utun_pool id = make_pool(109, 1, "2001:db9::", NULL, 0), endpoint = make_pool(0, 1, "2001:db8::9", NULL, 0);
	struct utun_pool inside = make_pool(0, 1, "2001:db8:1009::9", NULL, 0);
	struct utun_pool prefix = make_pool(0, 1, "2001:db9::", "2001:db8::", 32);
	struct in6_addr a;

	KUNIT_EXPECT_FALSE(test, utun_pools_collide(&p, &apart));
	KUNIT_EXPECT_FALSE(test, utun_pools_collide(&apart, &p));
	KUNIT_EXPECT_TRUE(test, utun_pools_collide(&p, &id));
	KUNIT_EXPECT_TRUE(test, utun_pools_collide(&id, &p));
	KUNIT_EXPECT_TRUE(test, utun_pools_collide(&p, &endpoint));
	KUNIT_EXPECT_TRUE(test, utun_pools_collide(&inside, &p));
	KUNIT_EXPECT_TRUE(test, utun_pools_collide(&p, &inside));
	KUNIT_EXPECT_TRUE(test, utun_pools_collide(&p, &prefix));
	a = ip("2001:db8::");
	KUNIT_EXPECT_TRUE(test, utun_pool_overlaps(&p, &a, 32));
	KUNIT_EXPECT_TRUE(test, utun_pool_overlaps(&p, &a, 128));
	a = ip("2001:db8::a");
	KUNIT_EXPECT_FALSE(test, utun_pool_overlaps(&p, &a, 128));
	KUNIT_EXPECT_TRUE(test, utun_is_prefix(&a, 127));
	KUNIT_EXPECT_FALSE(test, utun_is_prefix(&a, 126));
	a = ip("::");
	KUNIT_EXPECT_TRUE(test, utun_pool_overlaps(&p, &a, 1));
}

/* RFC 6040 section 4.2, figure 4; rows are inner, columns outer: Not-ECT, ECT(1), ECT(0), CE. */
static void ecn(struct kunit *test)
{
	static const int merged[4][4] = { { 0, 0, 0, -1 }, { 1, 1, 1, 3 }, { 2, 1, 2, 3 }, { 3, 3, 3, 3 } };
	u8 inner, outer;

	for (inner = 0; inner < 4; inner++)
		for (outer = 0; outer < 4; outer++)
			KUNIT_EXPECT_EQ_MSG(test, utun_merge_ecn(0xb8 | inner, 0x48 | outer), merged[inner][outer],
					    "%u in %u", inner, outer);
}

static void addresses(struct kunit *test)
{
	static const char * const martians[] = { "::", "::1", "::ffff:192.0.2.1", "fe80::1", "febf::1", "ff02::1" };
	static const char * const others[] = { "2001:db8::1", "fec0::1", "fd00::1", "0:0:1::", "64:ff9b::1" };
	struct ipv6hdr ip6 = { .nexthdr = IPPROTO_ICMPV6, .saddr = ip("2001:db8::1"), .payload_len = htons(8) };
	struct icmp6hdr icmp = { .icmp6_type = ICMPV6_TIME_EXCEED };
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(martians); n++) {
		struct in6_addr a = ip(martians[n]);

		KUNIT_EXPECT_TRUE_MSG(test, utun_is_martian(&a), "%s", martians[n]);
	}
	for (n = 0; n < ARRAY_SIZE(others); n++) {
		struct in6_addr a = ip(others[n]);

		KUNIT_EXPECT_FALSE_MSG(test, utun_is_martian(&a), "%s", others[n]);
	}
	KUNIT_EXPECT_EQ(test, utun_length(&ip6), 48);
	KUNIT_EXPECT_FALSE(test, utun_may_answer(&ip6, &icmp));
	KUNIT_EXPECT_FALSE(test, utun_may_answer(&ip6, NULL));
	icmp.icmp6_type = ICMPV6_ECHO_REQUEST;
	KUNIT_EXPECT_TRUE(test, utun_may_answer(&ip6, &icmp));
	ip6.saddr = ip("fe80::1");
	KUNIT_EXPECT_FALSE(test, utun_may_answer(&ip6, &icmp));
}

/* 1 Mbit/s in packets of 1250 octets: 100 a second, and 10 from a burst of 12500. */
static void bucket(struct kunit *test)
{
	u64 cost = utun_cost(125000), burst = utun_burst(125000, 12500), now = 5 * NSEC_PER_SEC;
	atomic64_t full = ATOMIC64_INIT(0);
	unsigned int n, taken = 0;

	KUNIT_EXPECT_EQ(test, utun_cost(0), 0);
	for (n = 0; n < 100; n++)
		taken += utun_take(&full, now, utun_cost_of(cost, 1250), burst);
	KUNIT_EXPECT_EQ(test, taken, 10);
	for (taken = 0, n = 0; n < 10000; n++, now += NSEC_PER_MSEC)
		taken += utun_take(&full, now, utun_cost_of(cost, 1250), burst);
	KUNIT_EXPECT_GE(test, taken, 999);
	KUNIT_EXPECT_LE(test, taken, 1001);
	/* One longer than the burst passes, and is paid for. */
	now += 10 * NSEC_PER_SEC;
	KUNIT_EXPECT_TRUE(test, utun_take(&full, now, utun_cost_of(cost, 25000), burst));
	KUNIT_EXPECT_FALSE(test, utun_take(&full, now, 1, burst));
	KUNIT_EXPECT_TRUE(test, utun_take(&full, now + 110 * NSEC_PER_MSEC, 1, burst));
	/* The extremes do not overflow: 1 octet/s and 100 Gbit/s, the largest burst, the largest packet. */
	KUNIT_EXPECT_EQ(test, utun_cost_of(utun_cost(1), 524280), 524280 * NSEC_PER_SEC);
	KUNIT_EXPECT_EQ(test, utun_cost_of(utun_cost(12500000000ULL), 1250000000), 99999904);
	KUNIT_EXPECT_EQ(test, utun_burst(1, U32_MAX), (u64)U32_MAX * NSEC_PER_SEC);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(index_of_prefix), KUNIT_CASE(pool_find), KUNIT_CASE(pool_fits), KUNIT_CASE(pools_collide),
	KUNIT_CASE(ecn), KUNIT_CASE(addresses), KUNIT_CASE(bucket), {}
};

static struct kunit_suite suite = {
	.name = "utun",
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KUnit tests of utun");
