/* SPDX-License-Identifier: GPL-2.0-only */
/* Linux 6.12 made members of struct net_device of what were feature bits. */
#ifndef _UTUN_COMPAT_LINUX_NETDEVICE_H
#define _UTUN_COMPAT_LINUX_NETDEVICE_H

#include_next <linux/netdevice.h>

static inline void utun_compat_flags(struct net_device *dev)
{
#ifdef NETIF_F_LLTX
	dev->features |= NETIF_F_LLTX;
#else
	dev->lltx = true;
#endif
#ifdef NETIF_F_NETNS_LOCAL
	dev->features |= NETIF_F_NETNS_LOCAL;
#elif defined(UTUN_COMPAT_NETNS_IMMUTABLE) /* 6.15, and stable releases before it */
	dev->netns_immutable = true;
#else
	dev->netns_local = true;
#endif
#ifdef IFF_LIVE_RENAME_OK /* since 6.2 every device may be renamed while it is up */
	dev->priv_flags |= IFF_LIVE_RENAME_OK;
#endif
}

#endif
