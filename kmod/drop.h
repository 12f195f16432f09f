/* SPDX-License-Identifier: GPL-2.0-only */
/* Why packets were dropped, and the last offender for each reason. */
#ifndef _UTUN_DROP_H
#define _UTUN_DROP_H

#include <linux/in6.h>
#include <linux/types.h>

#include "utun.h"

struct utun_hub;
struct utun_ends;

/* What is known about a packet that is dropped; anything may be NULL. */
struct utun_offence {
	const struct utun_ends *ends;
	const struct in6_addr *inner;
	const u32 *id;			/* of the tunnel whose address it has */
};

struct utun_drop_record {
	u64 packets;
	u64 last;			/* ktime, ns */
	u32 id;
	__be32 remote;
	__be16 remote_port;
	u8 encap;			/* 0: remote is not known */
	bool has_id, has_inner;
	struct in6_addr inner;
};

int utun_drops_init(struct utun_hub *hub);
void utun_drops_free(struct utun_hub *hub);
void utun_drop(struct utun_hub *hub, enum utun_drop reason, const struct utun_offence *o);
void utun_drops_sum(const struct utun_hub *hub, enum utun_drop reason, struct utun_drop_record *sum);

#endif
