/* SPDX-License-Identifier: GPL-2.0-only */
/* Notifications. */
#ifndef _UTUN_EVENT_H
#define _UTUN_EVENT_H

#include "tunnel.h"

void utun_event_first(struct utun_hub *hub, const struct utun_tunnel *t);
void utun_event_mismatch(struct utun_hub *hub, const struct utun_tunnel *t, const struct utun_ends *from,
			 const struct in6_addr *inner);
void utun_event_expired(struct utun_hub *hub);

#endif
