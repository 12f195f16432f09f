// SPDX-License-Identifier: GPL-2.0-only
/*
 * A tunnel in messages to user space. Its attributes are of a fixed size and put in line: nla_put() would call three functions for
 * each, a tunnel has some fifteen, and a dump is of up to a million.
 */
#include "netlink.h"
#include "tunnel.h"

static __always_inline int put(struct sk_buff *skb, int type, const void *value, u16 size)
{
	struct nlattr *a;

	if (unlikely(skb_tailroom(skb) < nla_total_size(size)))
		return -EMSGSIZE;
	a = __skb_put(skb, nla_total_size(size));
	a->nla_type = type;
	a->nla_len = nla_attr_size(size);
	memcpy(nla_data(a), value, size);
	memset(nla_data(a) + size, 0, nla_padlen(size));
	return 0;
}

/* Padded by an attribute of its own type where the machine wants that. */
static __always_inline int put_u64(struct sk_buff *skb, int type, u64 value)
{
	return nla_align_64bit(skb, UTUN_TUNNEL_A_PAD) ?: put(skb, type, &value, sizeof(value));
}

static int put_counters(struct sk_buff *skb, const struct utun_counters *c)
{
	if (put_u64(skb, UTUN_TUNNEL_A_RX_PACKETS, c->rx_packets) || put_u64(skb, UTUN_TUNNEL_A_RX_BYTES, c->rx_bytes) ||
	    put_u64(skb, UTUN_TUNNEL_A_TX_PACKETS, c->tx_packets) || put_u64(skb, UTUN_TUNNEL_A_TX_BYTES, c->tx_bytes))
		return -EMSGSIZE;
	return 0;
}

/* Its id, session and counters. */
int utun_put_identity(struct sk_buff *skb, const struct utun_tunnel *t)
{
	struct utun_counters c = utun_tunnel_counters(t);

	if (put(skb, UTUN_TUNNEL_A_ID, &t->id, sizeof(t->id)) || put_u64(skb, UTUN_TUNNEL_A_SESSION, t->session))
		return -EMSGSIZE;
	return put_counters(skb, &c);
}

static int put_outside(struct sk_buff *skb, const struct utun_tunnel *t)
{
	const struct utun_ends *e = &t->rx_ends;

	if (put(skb, UTUN_TUNNEL_A_ENCAP, &e->encap, sizeof(e->encap)) ||
	    put(skb, UTUN_TUNNEL_A_LOCAL, &e->local, sizeof(e->local)) ||
	    put(skb, UTUN_TUNNEL_A_REMOTE, &e->remote, sizeof(e->remote)))
		return -EMSGSIZE;
	if (e->encap == UTUN_ENCAP_UDP && (put(skb, UTUN_TUNNEL_A_LOCAL_PORT, &e->local_port, sizeof(e->local_port)) ||
					   put(skb, UTUN_TUNNEL_A_REMOTE_PORT, &e->remote_port, sizeof(e->remote_port))))
		return -EMSGSIZE;
	return 0;
}

static int put_inside(struct sk_buff *skb, const struct utun_tunnel *t)
{
	if (put(skb, UTUN_TUNNEL_A_ENDPOINT, &t->endpoint, sizeof(t->endpoint)))
		return -EMSGSIZE;
	if (t->prefix_len && (put(skb, UTUN_TUNNEL_A_PREFIX, &t->prefix, sizeof(t->prefix)) ||
			      put(skb, UTUN_TUNNEL_A_PREFIX_LEN, &t->prefix_len, sizeof(t->prefix_len))))
		return -EMSGSIZE;
	return utun_routes_put(skb, t);
}

static int put_limits(struct sk_buff *skb, const struct utun_tunnel *t)
{
	if ((t->rx.rate && nla_put_u64_64bit(skb, UTUN_TUNNEL_A_RX_RATE, t->rx.rate, UTUN_TUNNEL_A_PAD)) ||
	    (t->tx.rate && nla_put_u64_64bit(skb, UTUN_TUNNEL_A_TX_RATE, t->tx.rate, UTUN_TUNNEL_A_PAD)) ||
	    (t->rx.burst && nla_put_u32(skb, UTUN_TUNNEL_A_RX_BURST, t->rx.burst)) ||
	    (t->tx.burst && nla_put_u32(skb, UTUN_TUNNEL_A_TX_BURST, t->tx.burst)))
		return -EMSGSIZE;
	return 0;
}

/* All of it. With hub->lock held. */
int utun_put_tunnel(struct sk_buff *skb, struct utun_hub *hub, const struct utun_tunnel *t)
{
	const struct net_device *dev = rcu_dereference_protected(t->dev, lockdep_is_held(&hub->lock));
	struct nlattr *nest = nla_nest_start(skb, UTUN_A_TUNNEL);
	unsigned long seen = READ_ONCE(t->seen);
	long idle = (long)(jiffies - seen);

	if (!nest || utun_put_identity(skb, t) || put_outside(skb, t) || put_inside(skb, t) || put_limits(skb, t))
		return -EMSGSIZE;
	if ((t->mtu && nla_put_u32(skb, UTUN_TUNNEL_A_MTU, t->mtu)) ||
	    (dev && nla_put_u32(skb, UTUN_TUNNEL_A_IFINDEX, dev->ifindex)) ||
	    ((seen & UTUN_SEEN) && nla_put_flag(skb, UTUN_TUNNEL_A_SEEN)))
		return -EMSGSIZE;
	/* The bit in seen may make it later than now. */
	if (put_u64(skb, UTUN_TUNNEL_A_IDLE, div_u64((u64)max(idle, 0L) * MSEC_PER_SEC, HZ)))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}
