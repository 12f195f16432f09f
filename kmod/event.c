// SPDX-License-Identifier: GPL-2.0-only
/* Made where packets are, so without sleeping, and only if somebody listens. What cannot be told is not told. */
#include <net/genetlink.h>

#include "event.h"
#include "netlink.h"
#include "police.h"

#define EVENT_SIZE 256

/* Mismatches: a hundred in a second, ten at once. */
#define MISMATCH_COST (10 * NSEC_PER_MSEC)
#define MISMATCH_BURST (100 * NSEC_PER_MSEC)

struct event {
	struct sk_buff *skb;
	void *message;
	struct nlattr *tunnel;
};

static bool heard(const struct utun_hub *hub)
{
	return genl_has_listeners(&utun_family, dev_net(hub->dev), 0);
}

static bool begin(struct event *e, const struct utun_hub *hub, u8 command)
{
	e->tunnel = NULL;
	e->skb = genlmsg_new(EVENT_SIZE, GFP_ATOMIC);
	if (!e->skb)
		return false;
	e->message = genlmsg_put(e->skb, 0, 0, &utun_family, 0, command);
	if (e->message && !nla_put_u32(e->skb, UTUN_A_IFINDEX, hub->dev->ifindex))
		return true;
	nlmsg_free(e->skb);
	return false;
}

/* Sends it, or gives it up. */
static void end(struct event *e, const struct utun_hub *hub, bool good)
{
	if (!good) {
		nlmsg_free(e->skb);
		return;
	}
	if (e->tunnel)
		nla_nest_end(e->skb, e->tunnel);
	genlmsg_end(e->skb, e->message);
	genlmsg_multicast_netns(&utun_family, dev_net(hub->dev), e->skb, 0, 0, GFP_ATOMIC);
}

static bool put_tunnel(struct event *e, const struct utun_tunnel *t, const struct utun_ends *ends)
{
	struct sk_buff *skb = e->skb;

	e->tunnel = nla_nest_start(skb, UTUN_A_TUNNEL);
	return e->tunnel && !nla_put_u32(skb, UTUN_TUNNEL_A_ID, t->id) &&
	       !nla_put_u64_64bit(skb, UTUN_TUNNEL_A_SESSION, t->session, UTUN_TUNNEL_A_PAD) &&
	       !nla_put_u8(skb, UTUN_TUNNEL_A_ENCAP, ends->encap) &&
	       !nla_put_in_addr(skb, UTUN_TUNNEL_A_REMOTE, ends->remote) &&
	       !nla_put_be16(skb, UTUN_TUNNEL_A_REMOTE_PORT, ends->remote_port);
}

/* The first packet of a session came. Under RCU. */
void utun_event_first(struct utun_hub *hub, const struct utun_tunnel *t)
{
	struct event e;

	if (heard(hub) && begin(&e, hub, UTUN_CMD_FIRST))
		end(&e, hub, put_tunnel(&e, t, &t->rx_ends));
}

/* A packet for a tunnel came from elsewhere. Under RCU. */
void utun_event_mismatch(struct utun_hub *hub, const struct utun_tunnel *t, const struct utun_ends *from,
			 const struct in6_addr *inner)
{
	struct event e;

	if (!heard(hub) || !utun_take(&hub->mismatches, ktime_get_ns(), MISMATCH_COST, MISMATCH_BURST))
		return;
	if (begin(&e, hub, UTUN_CMD_MISMATCH))
		end(&e, hub, put_tunnel(&e, t, from) && !nla_put_in6_addr(e.skb, UTUN_TUNNEL_A_ENDPOINT, inner));
}

/* The keep policy removed the tunnels. */
void utun_event_expired(struct utun_hub *hub)
{
	struct event e;

	if (heard(hub) && begin(&e, hub, UTUN_CMD_EXPIRED))
		end(&e, hub, true);
}
