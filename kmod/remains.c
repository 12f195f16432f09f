// SPDX-License-Identifier: GPL-2.0-only
/*
 * A daemon that is killed behind TUNNEL_DEL has perhaps told nobody what the tunnel had counted. The next one sets it again, with
 * the same session, and finds the counters here. An id that gets another session has no use for them; else the oldest go.
 */
#include <linux/slab.h>

#include "remains.h"
#include "tunnel.h"
#include "utun.h"

struct remnant {
	struct list_head age;
	u64 session;
	struct utun_counters counters;
	u32 id;
};

void utun_remains_init(struct utun_remains *r)
{
	xa_init_flags(&r->by_id, XA_FLAGS_ACCOUNT);
	INIT_LIST_HEAD(&r->ages);
}

static void drop(struct utun_remains *r, struct remnant *e)
{
	xa_erase(&r->by_id, e->id);
	list_del(&e->age);
	r->count--;
	kfree(e);
}

void utun_remains_free(struct utun_remains *r)
{
	struct remnant *e, *next;

	list_for_each_entry_safe(e, next, &r->ages, age)
		drop(r, e);
	xa_destroy(&r->by_id);
}

/* Keeps what a tunnel counted; no packet may be in it any more, and its slot is empty. */
void utun_remains_keep(struct utun_remains *r, const struct utun_tunnel *t)
{
	struct remnant *e = kmalloc(sizeof(*e), GFP_KERNEL_ACCOUNT), *before;

	if (!e)
		return;
	before = xa_load(&r->by_id, t->id);
	if (before)
		drop(r, before);
	e->id = t->id;
	e->session = t->session;
	e->counters = utun_tunnel_counters(t);
	if (xa_err(xa_store(&r->by_id, e->id, e, GFP_KERNEL_ACCOUNT))) {
		kfree(e);
		return;
	}
	list_add_tail(&e->age, &r->ages);
	if (++r->count > UTUN_REMAINS_MAX)
		drop(r, list_first_entry(&r->ages, struct remnant, age));
}

/*
 * A tunnel that is in no slot yet takes what its session had counted, and whatever there is for its id goes. Tells whether the
 * session goes on.
 */
bool utun_remains_claim(struct utun_remains *r, struct utun_tunnel *t)
{
	struct remnant *e = xa_load(&r->by_id, t->id);

	bool goes_on = e && e->session == t->session;

	if (goes_on)
		utun_tunnel_add(t, &e->counters);
	if (e)
		drop(r, e);
	return goes_on;
}
