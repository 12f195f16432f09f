/* SPDX-License-Identifier: GPL-2.0-only */
/* What was dropped of the packets of single tunnels. */
#ifndef _UTUN_TALLY_H
#define _UTUN_TALLY_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/rcupdate.h>
#include <linux/xarray.h>

#include "utun.h"

struct utun_tally {
	u32 id;
	atomic_t packets[UTUN_DROP_MAX + 1];
	struct list_head age;
	struct rcu_head rcu;
};

/* Looked through under RCU, changed under the lock of by_id, with bottom halves off. */
struct utun_tallies {
	struct xarray by_id;
	struct list_head ages;		/* the oldest first */
	u32 count;
};

void utun_tallies_init(struct utun_tallies *s);
void utun_tallies_free(struct utun_tallies *s);
void utun_tallies_note(struct utun_tallies *s, u32 id, enum utun_drop reason);
void utun_tallies_forget(struct utun_tallies *s, u32 id);
struct utun_tally *utun_tallies_next(struct utun_tallies *s, u32 id);

#endif
