// SPDX-License-Identifier: GPL-2.0-only
/*
 * A socket that is attached has a struct utun_socket as its sk_user_data; the hub lists those. Two things end that, and either
 * may come first: the hub goes (utun_udp_stop()) or the socket does.
 *
 * We hold no reference to a daemon's socket: it would keep the network namespace alive, and the namespace our device, and
 * nobody would ever let go. Instead the socket tells us. When its last file is closed the UDP layer calls encap_destroy while the
 * socket is still bound: then keep.c opens one of our own on the same port, which does not hold the namespace, unless another
 * daemon's is there already; both receive until the old one is unbound. sk_destruct, which nobody else sets, tells us before the
 * memory goes; it alone ends what we have of a closed socket. encap_destroy may not come at all: UDP_ENCAP is open to everybody
 * who has the socket.
 *
 * utun_sockets_lock serializes attach, detach, stop and encap_destroy. The lists themselves are under utun_socket_list, because
 * sk_destruct runs in softirq. A socket on a list may be dying, so who takes it from there must get a reference first.
 *
 * Never release a socket with utun_sockets_lock held: encap_destroy is called with the inode of a socket locked.
 */
#include <linux/rcupdate.h>
#include <linux/wait.h>
#include <net/inet_sock.h>
#include <net/udp.h>
#include <net/udp_tunnel.h>

#include "drop.h"
#include "gro.h"
#include "rx.h"
#include "socket.h"
#include "udp.h"

/* See above. */
DEFINE_MUTEX(utun_sockets_lock);
DEFINE_SPINLOCK(utun_socket_list);

/* Daemons' sockets that may still call us; the module stays until there are none. */
static atomic_t callers = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(no_callers);

static struct utun_socket *of_sock(const struct sock *sk)
{
	return rcu_dereference_raw(__sk_user_data(sk));
}

/* Takes a datagram: 0, or leaves it to the socket: 1. */
static int receive(struct sock *sk, struct sk_buff *skb)
{
	struct utun_socket *s = rcu_dereference_sk_user_data(sk);
	struct utun_hub *hub = s ? READ_ONCE(s->hub) : NULL;
	const struct udphdr *udp = udp_hdr(skb);
	const struct utun_config *config;
	struct utun_ends ends = { .encap = UTUN_ENCAP_UDP };
	const u8 *first;
	u8 buffer;

	if (unlikely(!hub))
		return 1;
	ends.local = ip_hdr(skb)->daddr;
	ends.remote = ip_hdr(skb)->saddr;
	ends.local_port = udp->dest;
	ends.remote_port = udp->source;
	first = skb_header_pointer(skb, sizeof(*udp), sizeof(buffer), &buffer);
	if (likely(first && *first >> 4 == 6)) {
		utun_rx(hub, skb, sizeof(*udp), &ends);
		return 0;
	}
	config = rcu_dereference(hub->config);
	if (config && config->flags & UTUN_F_TSP && !(first && *first >> 4 == 0xf))
		utun_drop(hub, UTUN_DROP_MALFORMED, &(struct utun_offence){ .ends = &ends });
	else if (s->own)
		utun_drop(hub, UTUN_DROP_UNATTENDED, &(struct utun_offence){ .ends = &ends });
	else
		return 1;
	kfree_skb(skb);
	return 0;
}

/* Only what is still ours: setsockopt(UDP_ENCAP) may have put something else in its place. */
static void disarm(struct utun_socket *s)
{
	struct udp_sock *up = udp_sk(s->sk);

	if (up->encap_rcv == receive) {
		WRITE_ONCE(up->encap_type, 0);
		WRITE_ONCE(up->encap_rcv, NULL);
	}
	if (up->gro_receive == utun_gro_receive)
		WRITE_ONCE(up->gro_receive, NULL);
	if (up->gro_complete == utun_gro_complete)
		WRITE_ONCE(up->gro_complete, NULL);
	WRITE_ONCE(up->encap_destroy, NULL);
	s->sk->sk_destruct = s->destruct;
	rcu_assign_sk_user_data(s->sk, NULL);
}

static void forget(struct utun_socket *s)
{
	spin_lock_bh(&utun_socket_list);
	list_del_init(&s->list);
	spin_unlock_bh(&utun_socket_list);
	kfree_rcu(s, rcu);
	if (atomic_dec_and_test(&callers))
		wake_up(&no_callers);
}

/* sk_destruct: the socket's memory goes, and no packet is in receive() with it any more. */
static void last_call(struct sock *sk)
{
	struct utun_socket *s = of_sock(sk);
	void (*destruct)(struct sock *sk) = s->destruct;

	rcu_assign_sk_user_data(sk, NULL);
	forget(s);
	destruct(sk);
}

static void listed(struct utun_hub *hub, struct utun_socket *s)
{
	spin_lock_bh(&utun_socket_list);
	list_add_tail(&s->list, &hub->sockets);
	spin_unlock_bh(&utun_socket_list);
}

/* How many open ones of daemons are attached. */
unsigned int utun_sockets_attended(struct utun_hub *hub)
{
	const struct utun_socket *s;
	unsigned int n = 0;

	spin_lock_bh(&utun_socket_list);
	list_for_each_entry(s, &hub->sockets, list)
		n += !s->own && !s->closed;
	spin_unlock_bh(&utun_socket_list);
	return n;
}

/* Makes a socket an encapsulation socket of a hub. */
void utun_socket_arm(struct utun_socket *s, struct utun_hub *hub, struct socket *socket)
{
	struct udp_tunnel_sock_cfg cfg = {
		.sk_user_data = s, .encap_type = 1, .encap_rcv = receive,
		.gro_receive = utun_gro_receive, .gro_complete = utun_gro_complete,
	};

	s->hub = hub;
	s->sk = socket->sk;
	setup_udp_tunnel_sock(sock_net(s->sk), socket, &cfg);
}

/* encap_destroy: the last file of a daemon's socket is closed. */
static void closed(struct sock *sk)
{
	struct utun_socket *s;

	mutex_lock(&utun_sockets_lock);
	s = of_sock(sk);
	if (s && s->hub && !s->closed) {
		WRITE_ONCE(s->closed, true); /* utun_udp_list() looks without the lock */
		utun_keep_bereaved(s->hub, sk);
	}
	mutex_unlock(&utun_sockets_lock);
}

static int check_socket(struct utun_hub *hub, struct sock *sk, const char **why)
{
	const struct utun_socket *s;

	if (sk->sk_protocol != IPPROTO_UDP || sk->sk_type != SOCK_DGRAM) {
		*why = "a UDP socket is expected";
		return -EPROTONOSUPPORT;
	}
	if (sk->sk_family != AF_INET) {
		*why = "a socket of family AF_INET is expected";
		return -EAFNOSUPPORT;
	}
	if (!net_eq(sock_net(sk), dev_net(hub->dev))) {
		*why = "the socket is of another network namespace";
		return -EXDEV;
	}
	if (sock_flag(sk, SOCK_DEAD)) {
		*why = "the socket is closed";
		return -EINVAL;
	}
	if (!__sk_user_data(sk) && !udp_sk(sk)->encap_type)
		return 0;
	*why = "the socket is attached already";
	if (udp_sk(sk)->encap_rcv != receive)
		return -EBUSY;
	s = of_sock(sk);
	return s && s->hub == hub ? -EALREADY : -EBUSY;
}

static int attach(struct utun_hub *hub, struct socket *socket, const char **why)
{
	struct sock *sk = socket->sk;
	struct utun_socket *s;
	int err;

	if (utun_sockets_attended(hub) >= UTUN_SOCKETS_MAX) {
		*why = "too many sockets are attached";
		return -EMFILE;
	}
	s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);
	if (!s)
		return -ENOMEM;
	lock_sock(sk);
	err = check_socket(hub, sk, why);
	if (err) {
		release_sock(sk);
		kfree(s);
		return err;
	}
	atomic_inc(&callers);
	s->destruct = sk->sk_destruct;
	utun_socket_arm(s, hub, socket);
	sk->sk_destruct = last_call;
	udp_sk(sk)->encap_destroy = closed;
	release_sock(sk);
	listed(hub, s);
	return 0;
}

/*
 * Attaches a daemon's socket; our own on the same port are not needed any more. One that is not bound yet has no port: it is
 * attached again when it has. The caller holds the socket's file.
 */
int utun_udp_attach(struct utun_hub *hub, struct socket *socket, const char **why)
{
	LIST_HEAD(unneeded);
	int err;

	mutex_lock(&utun_sockets_lock);
	err = READ_ONCE(hub->dead) ? -ENODEV : attach(hub, socket, why);
	if (!err)
		cancel_delayed_work(&hub->expiry);
	if (!err || err == -EALREADY)
		utun_keep_collect(hub, socket->sk, &unneeded);
	mutex_unlock(&utun_sockets_lock);
	utun_keep_release(&unneeded);
	return err == -EALREADY ? 0 : err;
}

/* From now on nothing arrives at the hub by it, but for what is on its way. */
static void unlist(struct utun_socket *s)
{
	WRITE_ONCE(s->hub, NULL);
	list_del_init(&s->list);
}

/*
 * Lets a socket go to which the caller has a reference. If it is being closed at this moment, the UDP layer may have decided
 * already to call closed(), and the rest is left to last_call().
 */
static void let_go(struct utun_socket *s)
{
	struct sock *sk = s->sk;
	bool dead;

	spin_lock_bh(&utun_socket_list);
	unlist(s);
	spin_unlock_bh(&utun_socket_list);
	lock_sock(sk);
	dead = sock_flag(sk, SOCK_DEAD);
	if (!dead)
		disarm(s);
	release_sock(sk);
	if (!dead)
		forget(s);
}

int utun_udp_detach(struct utun_hub *hub, struct socket *socket)
{
	struct utun_socket *s;
	int err = -ENOENT;

	mutex_lock(&utun_sockets_lock);
	spin_lock_bh(&utun_socket_list);
	list_for_each_entry(s, &hub->sockets, list) {
		if (s->sk == socket->sk) {
			err = 0;
			break;
		}
	}
	spin_unlock_bh(&utun_socket_list);
	if (!err)
		let_go(s);
	mutex_unlock(&utun_sockets_lock);
	return err;
}

/* What DEV_GET tells; how many there are, at most max. */
unsigned int utun_udp_list(struct utun_hub *hub, struct utun_socket_info *info, unsigned int max)
{
	const struct utun_socket *s;
	unsigned int n = 0;

	spin_lock_bh(&utun_socket_list);
	list_for_each_entry(s, &hub->sockets, list) {
		if (n == max)
			break;
		if (READ_ONCE(s->closed) || !inet_sk(s->sk)->inet_num)
			continue;
		info[n].addr = inet_sk(s->sk)->inet_rcv_saddr;
		info[n].port = inet_sk(s->sk)->inet_sport;
		info[n++].kernel = s->own;
	}
	spin_unlock_bh(&utun_socket_list);
	return n;
}

/* One socket less on the list; false: there is none but ours. */
static bool let_one_go(struct utun_hub *hub)
{
	struct utun_socket *s, *next;
	struct sock *sk;

	spin_lock_bh(&utun_socket_list);
	list_for_each_entry_safe(s, next, &hub->sockets, list) {
		if (s->own)
			continue;
		if (!refcount_inc_not_zero(&s->sk->sk_refcnt)) {
			unlist(s); /* last_call() is on its way */
			continue;
		}
		spin_unlock_bh(&utun_socket_list);
		sk = s->sk;
		let_go(s); /* s may be gone then */
		sock_put(sk);
		return true;
	}
	spin_unlock_bh(&utun_socket_list);
	return false;
}

void utun_udp_start(struct utun_hub *hub)
{
	INIT_LIST_HEAD(&hub->sockets);
	utun_keep_init(hub);
}

/* Ends the sockets of a hub. Packets may be in utun_rx() until a grace period has passed. */
void utun_udp_stop(struct utun_hub *hub)
{
	LIST_HEAD(own);

	mutex_lock(&utun_sockets_lock);
	while (let_one_go(hub))
		;
	utun_keep_collect(hub, NULL, &own);
	mutex_unlock(&utun_sockets_lock);
	cancel_delayed_work_sync(&hub->expiry);
	utun_keep_release(&own);
}

/* Waits until no socket can call us any more. All hubs are gone. */
void utun_udp_exit(void)
{
	wait_event(no_callers, !atomic_read(&callers));
	/* The last one may not have left yet closed(), where it may sleep, or last_call(), where it may not. */
	synchronize_rcu_tasks();
	rcu_barrier();
}
