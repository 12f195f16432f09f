// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hash table of prefixes, asked once for each length in use, the longest first. Few sites have more than two or three
 * lengths, and only addresses that the pools do not know get here.
 */
#include <linux/rhashtable.h>
#include <linux/slab.h>
#include <net/ipv6.h>

#include "foreign.h"
#include "utun.h"

struct foreign_key {
	struct in6_addr prefix;
	u32 len;
};

struct foreigner {
	struct rhash_head node;
	struct foreign_key key;
	u32 id;
	struct rcu_head rcu;
};

static const struct rhashtable_params params = {
	.head_offset = offsetof(struct foreigner, node),
	.key_offset = offsetof(struct foreigner, key),
	.key_len = sizeof(struct foreign_key),
	.max_size = UTUN_FOREIGN_MAX,
	.automatic_shrinking = true,
};

static struct foreign_key make_key(const struct in6_addr *a, u8 len)
{
	struct foreign_key key = { .len = len };

	ipv6_addr_prefix(&key.prefix, a, len);
	return key;
}

/* Under RCU, or the lock of whoever changes the table. */
static struct foreigner *lookup(const struct utun_foreigners *f, const struct in6_addr *a, u8 len)
{
	struct foreign_key key = make_key(a, len);

	return rhashtable_lookup((struct rhashtable *)&f->table, &key, params);
}

int utun_foreigners_init(struct utun_foreigners *f)
{
	return rhashtable_init(&f->table, &params);
}

static void free_entry(void *entry, void *arg)
{
	kfree(entry);
}

/* No packet may be looking. */
void utun_foreigners_free(struct utun_foreigners *f)
{
	rhashtable_free_and_destroy(&f->table, free_entry, NULL);
}

/* Nobody may hold the prefix. */
int utun_foreigners_add(struct utun_foreigners *f, const struct in6_addr *prefix, u8 len, u32 id)
{
	struct foreigner *e;
	int err;

	if (f->count >= UTUN_FOREIGN_MAX)
		return -ENOSPC;
	e = kzalloc(sizeof(*e), GFP_KERNEL_ACCOUNT);
	if (!e)
		return -ENOMEM;
	e->key = make_key(prefix, len);
	e->id = id;
	err = rhashtable_insert_fast(&f->table, &e->node, params);
	if (err) {
		kfree(e);
		return err;
	}
	WRITE_ONCE(f->count, f->count + 1);
	if (!f->of_length[len]++)
		set_bit(128 - len, f->lengths);
	return 0;
}

void utun_foreigners_remove(struct utun_foreigners *f, const struct in6_addr *prefix, u8 len)
{
	struct foreigner *e;

	rcu_read_lock();
	e = lookup(f, prefix, len);
	rcu_read_unlock();
	if (!e || rhashtable_remove_fast(&f->table, &e->node, params))
		return;
	WRITE_ONCE(f->count, f->count - 1);
	if (!--f->of_length[len])
		clear_bit(128 - len, f->lengths);
	kfree_rcu(e, rcu);
}

/* Whose exactly this prefix is. */
bool utun_foreigners_holder(struct utun_foreigners *f, const struct in6_addr *prefix, u8 len, u32 *id)
{
	struct foreigner *e;

	rcu_read_lock();
	e = lookup(f, prefix, len);
	if (e)
		*id = e->id;
	rcu_read_unlock();
	return e;
}

/* Whose the longest prefix is that holds an address. Under RCU. */
bool utun_foreigners_find(const struct utun_foreigners *f, const struct in6_addr *a, u32 *id)
{
	DECLARE_BITMAP(lengths, 129);
	struct foreigner *e;
	unsigned int bit, n;

	if (!READ_ONCE(f->count))
		return false;
	for (n = 0; n < ARRAY_SIZE(lengths); n++)
		lengths[n] = READ_ONCE(f->lengths[n]); /* they may change at any time */
	for_each_set_bit(bit, lengths, 129) {
		e = lookup(f, a, 128 - bit);
		if (e) {
			*id = e->id;
			return true;
		}
	}
	return false;
}
