/* SPDX-License-Identifier: GPL-2.0-only */
/* What nobody means well with, for utunctl: messages and packets at random. */
#ifndef _UTUNCTL_HOSTILE_H
#define _UTUNCTL_HOSTILE_H

#include <linux/if_ether.h>
#include <sys/time.h>

#include "tunnel.h"

/* SECONDS: messages that are nearly right, then messages that are nothing. What comes back does not matter, that it does. */
static int fuzz(char **v)
{
	time_t stop = time(NULL) + atoi(v[1]);
	unsigned long n = 0;
	uint8_t r[256];

	freopen("/dev/null", "w", stderr);
	while (time(NULL) < stop) {
		getrandom(r, sizeof(r), 0);
		begin_dev(v[0], 1 + r[0] % 9, r[1] & 1 ? NLM_F_DUMP : 0);
		if (r[2] & 1) {
			char *tunnel[] = { "1", r[3] & 1 ? "udp" : "ip", "10.0.0.1:3653", "10.0.0.2:1024", "2001:db8:ffff::1",
					   "route", r[3] & 2 ? "2001:db9::/48" : "2001:db8:ffff::/64", "route", "2001:db9:1::/64", NULL };

			put_tunnel(tunnel);
		}
		if (r[2] & 2)
			put32(UTUN_A_ID, r[4]);
		if (r[2] & 4)
			put(r[5] % 20 | (r[2] & 8 ? NLA_F_NESTED : 0), r + 16, r[6] % 128);
		for (int k = r[7] % 4; k > 0; k--)
			((uint8_t *)&out)[NLMSG_HDRLEN + r[8 + k] % (out.h.nlmsg_len - NLMSG_HDRLEN)] ^= 1 << r[12 + k] % 8;
		/* Never SOCKET_ATTACH of a descriptor by chance the netlink socket's; any other may go. */
		talk(NULL);
		n++;
	}
	printf("fuzzed %lu\n", n);
	return 0;
}

/* ADDR:PORT SECONDS: datagrams and packets of protocol 41 with an IPv6 header that has little to do with the rest */
static int spray(char **v)
{
	struct sockaddr_in a = end_of(v[0]);
	int udp = socket(AF_INET, SOCK_DGRAM, 0), raw = socket(AF_INET, SOCK_RAW, IPPROTO_IPV6);
	struct in6_addr source = ip6("2001:db8:ffff::5");
	time_t stop = time(NULL) + atoi(v[1]);
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_port = htons(5005) };
	unsigned long n = 0;
	uint8_t p[4096], r[16];
	int one = 1;

	setsockopt(udp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	bind(udp, (void *)&from, sizeof(from)); /* if it is free: as the client of tunnel 5 */
	while (time(NULL) < stop) {
		getrandom(p, sizeof(p), 0);
		getrandom(r, sizeof(r), 0);
		p[0] = r[0] & 7 ? 0x60 : r[1];
		if (r[2] & 3)
			memcpy(p + 8, &source, sizeof(source));
		if (r[3] & 1)
			p[4] = r[4] & 7;
		sendto(r[5] & 1 ? udp : raw, p, (r[6] | r[7] << 8) % (r[8] & 1 ? 64 : 1400), 0, (void *)&a, sizeof(a));
		n++;
	}
	printf("sprayed %lu\n", n);
	return 0;
}

/* Keeps a clone of every packet of the namespace for a moment, as tcpdump does. */
static int sniff(char **v)
{
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	time_t stop = time(NULL) + atoi(v[0]);
	struct timeval patience = { .tv_sec = 1 };
	unsigned long n = 0;
	uint8_t p[64];

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	while (time(NULL) < stop)
		n += recv(fd, p, sizeof(p), 0) > 0;
	printf("sniffed %lu\n", n);
	return 0;
}

#endif
