/* SPDX-License-Identifier: GPL-2.0-only */
/* Addresses and prefixes of clients that lie outside every pool, and the ids of their tunnels. */
#ifndef _UTUN_FOREIGN_H
#define _UTUN_FOREIGN_H

#include <linux/in6.h>
#include <linux/rhashtable-types.h>
#include <linux/types.h>

struct utun_foreigners {
	struct rhashtable table;
	u32 count;
	u32 of_length[129];
	DECLARE_BITMAP(lengths, 129);	/* bit 128 - length: the longest first */
};

int utun_foreigners_init(struct utun_foreigners *f);
void utun_foreigners_free(struct utun_foreigners *f);
int utun_foreigners_add(struct utun_foreigners *f, const struct in6_addr *prefix, u8 len, u32 id);
void utun_foreigners_remove(struct utun_foreigners *f, const struct in6_addr *prefix, u8 len);
bool utun_foreigners_holder(struct utun_foreigners *f, const struct in6_addr *prefix, u8 len, u32 *id);
bool utun_foreigners_find(const struct utun_foreigners *f, const struct in6_addr *a, u32 *id);

#endif
