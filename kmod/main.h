/* SPDX-License-Identifier: GPL-2.0-only */
/* What a network namespace has. */
#ifndef _UTUN_MAIN_H
#define _UTUN_MAIN_H

#include <linux/list.h>
#include <net/net_namespace.h>

struct utun_net {
	struct list_head hubs;		/* RCU; changed under RTNL */
};

struct utun_net *utun_net(const struct net *net);

#endif
