/* SPDX-License-Identifier: GPL-2.0-only */
/* From clients: decapsulation. */
#ifndef _UTUN_RX_H
#define _UTUN_RX_H

#include <linux/skbuff.h>

#include "tunnel.h"

void utun_rx(struct utun_hub *hub, struct sk_buff *skb, unsigned int outer, const struct utun_ends *ends);

#endif
