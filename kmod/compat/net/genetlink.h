/* SPDX-License-Identifier: GPL-2.0-only */
/* Before Linux 6.7 a dump had its attributes elsewhere. */
#ifndef _UTUN_COMPAT_NET_GENETLINK_H
#define _UTUN_COMPAT_NET_GENETLINK_H

#include_next <net/genetlink.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
#define genl_info_dump(cb) genl_dumpit_info(cb)
#endif

#endif
