/* SPDX-License-Identifier: GPL-2.0-only */
/* Devices: the shared one and client devices. */
#ifndef _UTUN_DEV_H
#define _UTUN_DEV_H

#include "hub.h"

int utun_dev_init(void);
void utun_dev_exit(void);

extern const struct net_device_ops utun_device_ops;

/* Of either kind. */
static inline bool utun_is_dev(const struct net_device *dev)
{
	return dev->netdev_ops == &utun_device_ops;
}

#endif
