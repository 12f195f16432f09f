/* SPDX-License-Identifier: GPL-2.0-only */
/* Tunnels, devices and drops for utunctl: from words to attributes, and from attributes to lines. */
#ifndef _UTUNCTL_TUNNEL_H
#define _UTUNCTL_TUNNEL_H

#include "nl.h"

static void put_route(const char *text)
{
	struct nlattr *route = nest(UTUN_TUNNEL_A_ROUTE);

	put_prefix(text, UTUN_ROUTE_A_ADDR, UTUN_ROUTE_A_LEN);
	end(route);
}

/* ID udp|ip LOCAL REMOTE ENDPOINT [prefix P] [route P]... [mtu N] [link DEV] [session N] [rxrate N] [txrate N] */
static void put_tunnel(char **v)
{
	struct nlattr *tunnel = nest(UTUN_A_TUNNEL);
	struct sockaddr_in local = end_of(v[2]), remote = end_of(v[3]);
	struct in6_addr endpoint = ip6(v[4]);

	put32(UTUN_TUNNEL_A_ID, strtoul(v[0], NULL, 0));
	put8(UTUN_TUNNEL_A_ENCAP, !strcmp(v[1], "udp") ? UTUN_ENCAP_UDP : UTUN_ENCAP_IP);
	put32(UTUN_TUNNEL_A_LOCAL, local.sin_addr.s_addr);
	put32(UTUN_TUNNEL_A_REMOTE, remote.sin_addr.s_addr);
	put16(UTUN_TUNNEL_A_LOCAL_PORT, local.sin_port);
	put16(UTUN_TUNNEL_A_REMOTE_PORT, remote.sin_port);
	put(UTUN_TUNNEL_A_ENDPOINT, &endpoint, sizeof(endpoint));
	for (v += 5; v[0] && v[1]; v += 2) {
		if (!strcmp(v[0], "prefix"))
			put_prefix(v[1], UTUN_TUNNEL_A_PREFIX, UTUN_TUNNEL_A_PREFIX_LEN);
		else if (!strcmp(v[0], "route"))
			put_route(v[1]);
		else if (!strcmp(v[0], "mtu"))
			put32(UTUN_TUNNEL_A_MTU, atoi(v[1]));
		else if (!strcmp(v[0], "link"))
			put32(UTUN_TUNNEL_A_IFINDEX, if_nametoindex(v[1]));
		else
			put64(!strcmp(v[0], "session") ? UTUN_TUNNEL_A_SESSION :
			      !strcmp(v[0], "rxrate") ? UTUN_TUNNEL_A_RX_RATE : UTUN_TUNNEL_A_TX_RATE, strtoull(v[1], NULL, 0));
	}
	end(tunnel);
}

/* All of a tunnel's, of which parse() has found the last. */
static void print_routes(const struct nlattr *tunnel, const struct nlattr *last)
{
	struct nlattr *a, *tb[UTUN_ROUTE_A_MAX + 1];

	for (a = data(tunnel); last && a <= last; a = (void *)((char *)a + NLA_ALIGN(a->nla_len))) {
		if ((a->nla_type & NLA_TYPE_MASK) != UTUN_TUNNEL_A_ROUTE)
			continue;
		parse(tb, UTUN_ROUTE_A_MAX, data(a), a->nla_len - NLA_HDRLEN);
		printf(" route %s/%u", show(AF_INET6, tb[UTUN_ROUTE_A_ADDR]), get8(tb[UTUN_ROUTE_A_LEN]));
	}
}

static void print_tunnel(struct nlattr **attrs, int command)
{
	struct nlattr *a, *tb[UTUN_TUNNEL_A_MAX + 1];

	/* An answer to DEL has several. */
	for (a = attrs[UTUN_A_IFINDEX]; attrs[UTUN_A_TUNNEL] && a <= attrs[UTUN_A_TUNNEL]; a = (void *)((char *)a + NLA_ALIGN(a->nla_len))) {
		if ((a->nla_type & NLA_TYPE_MASK) != UTUN_A_TUNNEL)
			continue;
		parse(tb, UTUN_TUNNEL_A_MAX, data(a), a->nla_len - NLA_HDRLEN);
		printf("tunnel %u session %llu", get32(tb[UTUN_TUNNEL_A_ID]), (unsigned long long)get64(tb[UTUN_TUNNEL_A_SESSION]));
		if (tb[UTUN_TUNNEL_A_REMOTE])
			printf(" remote %s:%u", show(AF_INET, tb[UTUN_TUNNEL_A_REMOTE]), ntohs(get16(tb[UTUN_TUNNEL_A_REMOTE_PORT])));
		if (tb[UTUN_TUNNEL_A_ENDPOINT])
			printf(" endpoint %s", show(AF_INET6, tb[UTUN_TUNNEL_A_ENDPOINT]));
		if (tb[UTUN_TUNNEL_A_PREFIX])
			printf(" prefix %s/%u", show(AF_INET6, tb[UTUN_TUNNEL_A_PREFIX]), get8(tb[UTUN_TUNNEL_A_PREFIX_LEN]));
		print_routes(a, tb[UTUN_TUNNEL_A_ROUTE]);
		if (tb[UTUN_TUNNEL_A_RX_PACKETS])
			printf(" rx %llu %llu tx %llu %llu", (unsigned long long)get64(tb[UTUN_TUNNEL_A_RX_PACKETS]),
			       (unsigned long long)get64(tb[UTUN_TUNNEL_A_RX_BYTES]), (unsigned long long)get64(tb[UTUN_TUNNEL_A_TX_PACKETS]),
			       (unsigned long long)get64(tb[UTUN_TUNNEL_A_TX_BYTES]));
		printf("%s\n", tb[UTUN_TUNNEL_A_SEEN] ? " seen" : "");
	}
	if (command >= UTUN_CMD_FIRST)
		printf("event %d\n", command);
	fflush(stdout);
}

static void print_drops(struct nlattr **attrs, int command)
{
	struct nlattr *a, *tb[UTUN_DROP_A_MAX + 1];

	(void)command;
	for (a = attrs[UTUN_A_IFINDEX]; attrs[UTUN_A_DROP] && a <= attrs[UTUN_A_DROP]; a = (void *)((char *)a + NLA_ALIGN(a->nla_len))) {
		if ((a->nla_type & NLA_TYPE_MASK) != UTUN_A_DROP)
			continue;
		parse(tb, UTUN_DROP_A_MAX, data(a), a->nla_len - NLA_HDRLEN);
		printf("drop %u packets %llu tunnel %d remote %s inner %s\n", get8(tb[UTUN_DROP_A_REASON]),
		       (unsigned long long)get64(tb[UTUN_DROP_A_PACKETS]), tb[UTUN_DROP_A_ID] ? (int)get32(tb[UTUN_DROP_A_ID]) : -1,
		       show(AF_INET, tb[UTUN_DROP_A_REMOTE]), show(AF_INET6, tb[UTUN_DROP_A_INNER]));
	}
}

static void print_dev(struct nlattr **tb, int command)
{
	struct nlattr *a, *s[UTUN_SOCKET_A_MAX + 1];

	(void)command;
	printf("tunnels %u keep %u mtu %u\n", get32(tb[UTUN_A_TUNNELS]), get32(tb[UTUN_A_KEEP]), get32(tb[UTUN_A_MTU]));
	for (a = tb[UTUN_A_IFINDEX]; tb[UTUN_A_SOCKET] && a <= tb[UTUN_A_SOCKET]; a = (void *)((char *)a + NLA_ALIGN(a->nla_len))) {
		if ((a->nla_type & NLA_TYPE_MASK) != UTUN_A_SOCKET)
			continue;
		parse(s, UTUN_SOCKET_A_MAX, data(a), a->nla_len - NLA_HDRLEN);
		printf("socket %s:%u%s\n", show(AF_INET, s[UTUN_SOCKET_A_ADDR]), ntohs(get16(s[UTUN_SOCKET_A_PORT])),
		       s[UTUN_SOCKET_A_KERNEL] ? " kernel" : "");
	}
}

#endif
