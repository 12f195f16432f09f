// SPDX-License-Identifier: GPL-2.0-only
/*
 * A tally is made when the first packet of a tunnel is dropped, in force or not: few tunnels ever need one. Whoever forges the
 * addresses of many makes others' old tallies go, not more and more of them come.
 */
#include <linux/slab.h>

#include "tally.h"

void utun_tallies_init(struct utun_tallies *s)
{
	xa_init_flags(&s->by_id, XA_FLAGS_LOCK_BH);
	INIT_LIST_HEAD(&s->ages);
}

/* Nobody counts any more. */
void utun_tallies_free(struct utun_tallies *s)
{
	struct utun_tally *t, *next;

	list_for_each_entry_safe(t, next, &s->ages, age)
		kfree(t);
	xa_destroy(&s->by_id);
}

/* With the lock held. */
static void take_out(struct utun_tallies *s, struct utun_tally *t)
{
	__xa_erase(&s->by_id, t->id);
	list_del(&t->age);
	s->count--;
	kfree_rcu(t, rcu);
}

/* A tunnel's tally, NULL without memory. With bottom halves off. */
static struct utun_tally *make(struct utun_tallies *s, u32 id)
{
	struct utun_tally *t = kzalloc(sizeof(*t), GFP_ATOMIC | __GFP_NOWARN), *other;

	if (!t)
		return NULL;
	t->id = id;
	xa_lock(&s->by_id);
	other = __xa_cmpxchg(&s->by_id, id, NULL, t, GFP_ATOMIC | __GFP_NOWARN);
	if (!other) {
		list_add_tail(&t->age, &s->ages);
		if (++s->count > UTUN_TALLIES_MAX)
			take_out(s, list_first_entry(&s->ages, struct utun_tally, age));
	}
	xa_unlock(&s->by_id);
	if (!other)
		return t;
	kfree(t);
	return xa_is_err(other) ? NULL : other;
}

/* Counts a packet. With bottom halves off, under RCU. */
void utun_tallies_note(struct utun_tallies *s, u32 id, enum utun_drop reason)
{
	struct utun_tally *t = xa_load(&s->by_id, id);

	if (unlikely(!t))
		t = make(s, id);
	if (t)
		atomic_inc(&t->packets[reason]);
}

/* The tunnel begins anew. */
void utun_tallies_forget(struct utun_tallies *s, u32 id)
{
	struct utun_tally *t;

	if (!xa_load(&s->by_id, id))
		return;
	xa_lock_bh(&s->by_id);
	t = xa_load(&s->by_id, id);
	if (t)
		take_out(s, t);
	xa_unlock_bh(&s->by_id);
}

/* The tally with the smallest id from id on, NULL if there is none. Under RCU. */
struct utun_tally *utun_tallies_next(struct utun_tallies *s, u32 id)
{
	unsigned long index = id;

	return xa_find(&s->by_id, &index, U32_MAX, XA_PRESENT);
}
