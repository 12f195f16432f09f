/* SPDX-License-Identifier: GPL-2.0-only */
/* Native packets that bear the source address of a tunnel. */
#ifndef _UTUN_GUARD_H
#define _UTUN_GUARD_H

struct utun_hub;

int utun_guard_start(struct utun_hub *hub);
void utun_guard_stop(struct utun_hub *hub);

#endif
