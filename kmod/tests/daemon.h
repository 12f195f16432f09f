/* SPDX-License-Identifier: GPL-2.0-only */
/* The sockets of daemons for utunctl: one that answers, and many that follow each other. */
#ifndef _UTUNCTL_DAEMON_H
#define _UTUNCTL_DAEMON_H

#include <signal.h>

#include "nl.h"

static int attach(const char *dev, int fd)
{
	begin_dev(dev, UTUN_CMD_SOCKET_ATTACH, 0);
	put32(UTUN_A_FD, fd);
	return talk(NULL);
}

/*
 * DEV ADDR:PORT [bound]: the socket of a daemon. It is handed over before it is bound, so that no packet of a tunnel ever comes up,
 * and again after; with "bound" only then.
 */
static int open_daemon(char **v)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
	struct sockaddr_in a = end_of(v[1]);

	setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (!v[2] && attach(v[0], s))
		exit(1);
	if (bind(s, (void *)&a, sizeof(a)))
		err(2, "bind");
	if (attach(v[0], s))
		exit(1);
	return s;
}

/* A daemon that sends everything back. */
static int serve(char **v)
{
	int s = open_daemon(v), n;
	struct sockaddr_in a;
	socklen_t len;
	char in[65536];

	printf("attached\n");
	fflush(stdout);
	do {
		len = sizeof(a);
		n = recvfrom(s, in, sizeof(in), 0, (void *)&a, &len);
		if (n > 0)
			sendto(s, in, n, 0, (void *)&a, len);
	} while (n >= 0 || errno != EBADF);
	return 1;
}

/* Ends a daemon's socket; what had come up to it is lost: how many packets. */
static unsigned long end_daemon(int s)
{
	unsigned long n = 0;
	char in;

	while (recv(s, &in, 1, MSG_DONTWAIT) >= 0)
		n++;
	close(s);
	return n;
}

static volatile sig_atomic_t enough;

static void stop(int signal)
{
	(void)signal;
	enough = 1;
}

/* DEV ADDR:PORT [bound]: one daemon after the other until SIGTERM, by turns while the last is there and when it is gone. */
static int succeed(char **v)
{
	unsigned long changes = 0, up = 0;
	int last = open_daemon(v), next;

	signal(SIGTERM, stop);
	printf("attached\n");
	fflush(stdout);
	for (; !enough; changes += 2) {
		next = open_daemon(v);
		up += end_daemon(last);
		up += end_daemon(next);
		last = open_daemon(v);
	}
	up += end_daemon(last);
	printf("changes %lu up %lu\n", changes, up);
	return 0;
}

#endif
