/* SPDX-License-Identifier: GPL-2.0-only */
/* What tunnels counted that were deleted, should their sessions go on. Everything wants hub->lock held. */
#ifndef _UTUN_REMAINS_H
#define _UTUN_REMAINS_H

#include <linux/list.h>
#include <linux/xarray.h>

struct utun_tunnel;

struct utun_remains {
	struct xarray by_id;
	struct list_head ages;		/* the oldest first */
	u32 count;
};

void utun_remains_init(struct utun_remains *r);
void utun_remains_free(struct utun_remains *r);
void utun_remains_keep(struct utun_remains *r, const struct utun_tunnel *t);
bool utun_remains_claim(struct utun_remains *r, struct utun_tunnel *t);

#endif
