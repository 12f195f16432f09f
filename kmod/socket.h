/* SPDX-License-Identifier: GPL-2.0-only */
/* What udp.c and keep.c share: attached sockets. The rules are in udp.c. */
#ifndef _UTUN_SOCKET_H
#define _UTUN_SOCKET_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <net/sock.h>

#include "hub.h"

struct utun_socket {
	struct list_head list;		/* hub->sockets, under utun_socket_list */
	struct utun_hub *hub;		/* NULL: the hub is gone, or let the socket go */
	struct sock *sk;
	struct socket *own;		/* we opened it; NULL: a daemon's */
	bool closed;			/* a daemon's whose last file is closed */
	void (*destruct)(struct sock *sk);
	struct rcu_head rcu;
};

extern struct mutex utun_sockets_lock;
extern spinlock_t utun_socket_list;

/* udp.c */
void utun_socket_arm(struct utun_socket *s, struct utun_hub *hub, struct socket *socket);
unsigned int utun_sockets_attended(struct utun_hub *hub);

/* keep.c; with utun_sockets_lock held, but for release */
void utun_keep_init(struct utun_hub *hub);
void utun_keep_bereaved(struct utun_hub *hub, struct sock *dying);
void utun_keep_collect(struct utun_hub *hub, const struct sock *sk, struct list_head *collected);
void utun_keep_release(struct list_head *collected);

#endif
