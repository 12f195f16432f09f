/* SPDX-License-Identifier: GPL-2.0-only */
/* The UDP sockets through which tunnelled packets arrive. */
#ifndef _UTUN_UDP_H
#define _UTUN_UDP_H

#include <linux/net.h>

#include "hub.h"

/* What DEV_GET tells about a socket. */
struct utun_socket_info {
	__be32 addr;
	__be16 port;
	bool kernel;
};

void utun_udp_exit(void);

void utun_udp_start(struct utun_hub *hub);
int utun_udp_attach(struct utun_hub *hub, struct socket *socket, const char **why);
int utun_udp_detach(struct utun_hub *hub, struct socket *socket);
void utun_udp_keep(struct utun_hub *hub);
unsigned int utun_udp_list(struct utun_hub *hub, struct utun_socket_info *info, unsigned int max);
void utun_udp_stop(struct utun_hub *hub);

#endif
