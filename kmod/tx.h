/* SPDX-License-Identifier: GPL-2.0-only */
/* To clients: encapsulation. */
#ifndef _UTUN_TX_H
#define _UTUN_TX_H

#include <linux/skbuff.h>

#include "tunnel.h"

netdev_tx_t utun_xmit(struct sk_buff *skb, struct net_device *dev);
void utun_tx_tunnel(struct utun_hub *hub, const struct utun_config *config, struct utun_tunnel *t, struct sk_buff *skb);

#endif
