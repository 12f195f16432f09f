/* SPDX-License-Identifier: GPL-2.0-only */
/* Protocol 41 from the IPv4 stack. */
#ifndef _UTUN_SIT_H
#define _UTUN_SIT_H

int utun_sit_init(void);
void utun_sit_exit(void);

#endif
