/* SPDX-License-Identifier: GPL-2.0-only */
/* Before Linux 6.12 this header was asm/unaligned.h. */
#ifndef _UTUN_COMPAT_LINUX_UNALIGNED_H
#define _UTUN_COMPAT_LINUX_UNALIGNED_H

#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#include_next <linux/unaligned.h>
#else
#include <asm/unaligned.h>
#endif

#endif
