// SPDX-License-Identifier: GPL-2.0-only
/* The keep policy: what happens when daemons' sockets close. See the head of udp.c. */
#include <net/inet_sock.h>
#include <net/udp_tunnel.h>

#include "event.h"
#include "socket.h"
#include "table.h"
#include "udp.h"

static u32 keep_of(struct utun_hub *hub)
{
	const struct utun_config *config;
	u32 keep = UTUN_KEEP_FOREVER;

	rcu_read_lock();
	config = rcu_dereference(hub->config);
	if (config)
		keep = config->keep;
	rcu_read_unlock();
	return keep;
}

/* Makes a socket that may be bound where a dying one still is. NULL: it could not be made. */
static struct socket *successor(struct sock *dying)
{
	struct socket *socket;

	if (sock_create_kern(sock_net(dying), AF_INET, SOCK_DGRAM, IPPROTO_UDP, &socket))
		return NULL;
	/* Sockets share a port if their owners are the same. */
	SOCK_INODE(socket)->i_uid = sock_i_uid(dying);
	socket->sk->sk_reuseport = dying->sk_reuseport;
	socket->sk->sk_bound_dev_if = dying->sk_bound_dev_if;
	return socket;
}

static void bind_successor(struct socket *socket, struct sock *dying)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_port = inet_sk(dying)->inet_sport, .sin_addr.s_addr = inet_sk(dying)->inet_rcv_saddr,
	};

	/* If it fails the socket stays on the list, to be released when that is allowed. */
	if (kernel_bind(socket, (struct sockaddr *)&addr, sizeof(addr)))
		pr_debug("utun: port %u is not kept\n", ntohs(addr.sin_port));
}

static void open_own(struct utun_hub *hub, struct sock *dying)
{
	struct utun_socket *s = kzalloc(sizeof(*s), GFP_KERNEL);

	if (!s)
		return;
	s->own = successor(dying);
	if (!s->own) {
		kfree(s);
		return;
	}
	/* Armed first: what comes between would be lost in its queue. */
	utun_socket_arm(s, hub, s->own);
	bind_successor(s->own, dying);
	spin_lock_bh(&utun_socket_list);
	list_add_tail(&s->list, &hub->sockets);
	spin_unlock_bh(&utun_socket_list);
}

static unsigned int count_own(struct utun_hub *hub)
{
	const struct utun_socket *s;
	unsigned int n = 0;

	spin_lock_bh(&utun_socket_list);
	list_for_each_entry(s, &hub->sockets, list)
		n += !!s->own;
	spin_unlock_bh(&utun_socket_list);
	return n;
}

/* Starts the time that tunnels have without a daemon. */
static void start_clock(struct utun_hub *hub, u32 keep)
{
	if (keep == UTUN_KEEP_FOREVER)
		cancel_delayed_work(&hub->expiry);
	else
		mod_delayed_work(system_wq, &hub->expiry, min_t(u64, (u64)keep * HZ, MAX_JIFFY_OFFSET));
}

static bool same_port(const struct sock *a, const struct sock *b)
{
	return inet_sk(a)->inet_num == inet_sk(b)->inet_num && inet_sk(a)->inet_rcv_saddr == inet_sk(b)->inet_rcv_saddr;
}

/* Whether another daemon's socket hears what comes to the port of a dying one. */
static bool has_heir(struct utun_hub *hub, const struct sock *dying)
{
	const struct utun_socket *s;
	bool found = false;

	spin_lock_bh(&utun_socket_list);
	list_for_each_entry(s, &hub->sockets, list)
		found |= !s->own && !s->closed && s->sk != dying && same_port(s->sk, dying);
	spin_unlock_bh(&utun_socket_list);
	return found;
}

/*
 * What follows from the end of a daemon's socket, which is still bound. Beside the next daemon's one of ours would take a part
 * of what that is to hear.
 */
void utun_keep_bereaved(struct utun_hub *hub, struct sock *dying)
{
	u32 keep = keep_of(hub);

	/* A connected one hears its peer only; ours would hear all. */
	if (keep && inet_sk(dying)->inet_num && !inet_sk(dying)->inet_daddr && !has_heir(hub, dying) &&
	    count_own(hub) < UTUN_SOCKETS_MAX)
		open_own(hub, dying);
	if (!utun_sockets_attended(hub))
		start_clock(hub, keep);
}

/* Takes our own sockets off a hub's list: those on a port, those that are bound nowhere, or with sk NULL all. */
void utun_keep_collect(struct utun_hub *hub, const struct sock *sk, struct list_head *collected)
{
	struct utun_socket *s, *next;

	spin_lock_bh(&utun_socket_list);
	list_for_each_entry_safe(s, next, &hub->sockets, list) {
		if (!s->own)
			continue;
		if (!sk || !inet_sk(s->sk)->inet_num || same_port(s->sk, sk))
			list_move(&s->list, collected);
	}
	spin_unlock_bh(&utun_socket_list);
}

/*
 * Releases what was collected. Not by udp_tunnel_sock_release(): that takes sk_user_data away and waits before it unbinds the
 * socket, and what comes meanwhile would be lost in its queue. As it is, each packet finds the socket armed or does not find it.
 */
void utun_keep_release(struct list_head *collected)
{
	struct utun_socket *s, *next;

	list_for_each_entry_safe(s, next, collected, list) {
		sock_release(s->own);
		kfree_rcu(s, rcu);
	}
}

/* The time is over. */
static void expire(struct work_struct *work)
{
	struct utun_hub *hub = container_of(to_delayed_work(work), struct utun_hub, expiry);
	LIST_HEAD(own);

	mutex_lock(&utun_sockets_lock);
	if (utun_sockets_attended(hub)) {
		mutex_unlock(&utun_sockets_lock);
		return;
	}
	utun_keep_collect(hub, NULL, &own);
	mutex_lock(&hub->lock);
	utun_config_flush(hub);
	mutex_unlock(&hub->lock);
	mutex_unlock(&utun_sockets_lock);
	utun_keep_release(&own);
	rcu_read_lock();
	utun_event_expired(hub);
	rcu_read_unlock();
}

void utun_keep_init(struct utun_hub *hub)
{
	INIT_DELAYED_WORK(&hub->expiry, expire);
}

/* The policy has changed: who is waiting for a daemon waits by the new one. */
void utun_udp_keep(struct utun_hub *hub)
{
	mutex_lock(&utun_sockets_lock);
	if (!list_empty(&hub->sockets) && !utun_sockets_attended(hub))
		start_clock(hub, keep_of(hub));
	mutex_unlock(&utun_sockets_lock);
}
