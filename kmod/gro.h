/* SPDX-License-Identifier: GPL-2.0-only */
/* GRO of tunnelled packets while they are still in UDP. */
#ifndef _UTUN_GRO_H
#define _UTUN_GRO_H

#include <linux/skbuff.h>

void utun_gro_init(void);
struct sk_buff *utun_gro_receive(struct sock *sk, struct list_head *head, struct sk_buff *skb);
int utun_gro_complete(struct sock *sk, struct sk_buff *skb, int offset);

#endif
