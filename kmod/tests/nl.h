/* SPDX-License-Identifier: GPL-2.0-only */
/* Generic netlink for utunctl: one message out, answers in. */
#ifndef _UTUNCTL_NL_H
#define _UTUNCTL_NL_H

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../uapi/utun.h"

#define PAYLOAD(n) ((void *)((char *)(n) + NLMSG_HDRLEN + GENL_HDRLEN))
#define MESSAGE 65536

struct message {
	struct nlmsghdr h;
	struct genlmsghdr g;
	char room[MESSAGE];
};

static int nl = -1;
static int family, events;
static struct message out;

static void begin(int type, int command, int flags)
{
	out.h = (struct nlmsghdr){ .nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags };
	out.g = (struct genlmsghdr){ .cmd = command, .version = UTUN_GENL_VERSION };
}

static void *put(int type, const void *value, size_t size)
{
	struct nlattr *a = (void *)((char *)&out + out.h.nlmsg_len);

	a->nla_type = type;
	a->nla_len = NLA_HDRLEN + size;
	memset((char *)a + NLA_HDRLEN, 0, NLA_ALIGN(size));
	if (size)
		memcpy((char *)a + NLA_HDRLEN, value, size);
	out.h.nlmsg_len += NLA_ALIGN(a->nla_len);
	return a;
}

static void put8(int type, uint8_t v) { put(type, &v, 1); }
static void put16(int type, uint16_t v) { put(type, &v, 2); }
static void put32(int type, uint32_t v) { put(type, &v, 4); }
static void put64(int type, uint64_t v) { put(type, &v, 8); }
static struct nlattr *nest(int type) { return put(type | NLA_F_NESTED, NULL, 0); }
static void end(struct nlattr *a) { a->nla_len = (char *)&out + out.h.nlmsg_len - (char *)a; }

typedef void (*each_t)(struct nlattr **tb, int command);

static void parse(struct nlattr **tb, int max, void *from, int len)
{
	struct nlattr *a = from;

	memset(tb, 0, sizeof(*tb) * (max + 1));
	for (; len >= NLA_HDRLEN && a->nla_len >= NLA_HDRLEN && a->nla_len <= len;
	     len -= NLA_ALIGN(a->nla_len), a = (void *)((char *)a + NLA_ALIGN(a->nla_len)))
		if ((a->nla_type & NLA_TYPE_MASK) <= max)
			tb[a->nla_type & NLA_TYPE_MASK] = a;
}

static void *data(const struct nlattr *a) { return (char *)a + NLA_HDRLEN; }
static uint32_t get32(const struct nlattr *a) { uint32_t v = 0; if (a) memcpy(&v, data(a), 4); return v; }
static uint16_t get16(const struct nlattr *a) { uint16_t v = 0; if (a) memcpy(&v, data(a), 2); return v; }
static uint64_t get64(const struct nlattr *a) { uint64_t v = 0; if (a) memcpy(&v, data(a), 8); return v; }
static uint8_t get8(const struct nlattr *a) { return a ? *(uint8_t *)data(a) : 0; }

static const char *show(int af, const struct nlattr *a)
{
	static char text[4][INET6_ADDRSTRLEN];
	static int n;

	return a ? inet_ntop(af, data(a), text[n++ % 4], INET6_ADDRSTRLEN) : "-";
}

static void handle_error(const struct nlmsghdr *h, int error)
{
	struct nlattr *tb[NLMSGERR_ATTR_MAX + 1];
	const struct nlmsgerr *e = NLMSG_DATA(h);
	int skip = sizeof(*e);

	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += e->msg.nlmsg_len - sizeof(e->msg);
	memset(tb, 0, sizeof(tb));
	if (h->nlmsg_flags & NLM_F_ACK_TLVS)
		parse(tb, NLMSGERR_ATTR_MAX, (char *)e + NLA_ALIGN(skip), (int)h->nlmsg_len - NLMSG_HDRLEN - NLA_ALIGN(skip));
	fprintf(stderr, "error %s: %s", strerrorname_np(-error), tb[NLMSGERR_ATTR_MSG] ? (char *)data(tb[NLMSGERR_ATTR_MSG]) : "");
	if (tb[NLMSGERR_ATTR_OFFS])
		fprintf(stderr, " at %u", get32(tb[NLMSGERR_ATTR_OFFS]));
	fprintf(stderr, "\n");
}

/* Sends what was put and reads until it is answered. */
static int talk(each_t each)
{
	static char in[1 << 17];
	struct nlattr *tb[64];
	int n, len;

	out.h.nlmsg_flags |= NLM_F_ACK;
	if (send(nl, &out, out.h.nlmsg_len, 0) < 0)
		err(2, "send");
	for (;;) {
		struct nlmsghdr *h = (void *)in;

		len = recv(nl, in, sizeof(in), 0);
		if (len < 0)
			err(2, "recv");
		for (; NLMSG_OK(h, (unsigned int)len); h = NLMSG_NEXT(h, len)) {
			if (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE) {
				n = *(int *)NLMSG_DATA(h);
				if (n < 0)
					handle_error(h, n);
				return n;
			}
			parse(tb, 63, PAYLOAD(h), h->nlmsg_len - NLMSG_HDRLEN - GENL_HDRLEN);
			if (each)
				each(tb, ((struct genlmsghdr *)NLMSG_DATA(h))->cmd);
		}
	}
}

static void found(struct nlattr **tb, int command)
{
	struct nlattr *groups[2], *group[CTRL_ATTR_MCAST_GRP_MAX + 1];

	(void)command;
	family = get16(tb[CTRL_ATTR_FAMILY_ID]);
	if (!tb[CTRL_ATTR_MCAST_GROUPS])
		return;
	parse(groups, 1, data(tb[CTRL_ATTR_MCAST_GROUPS]), tb[CTRL_ATTR_MCAST_GROUPS]->nla_len - NLA_HDRLEN);
	parse(group, CTRL_ATTR_MCAST_GRP_MAX, data(groups[1]), groups[1]->nla_len - NLA_HDRLEN);
	events = get32(group[CTRL_ATTR_MCAST_GRP_ID]);
}

static void open_netlink(void)
{
	int one = 1, size = 8 << 20;

	nl = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
	if (nl < 0)
		err(2, "netlink");
	setsockopt(nl, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	setsockopt(nl, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	setsockopt(nl, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	begin(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
	put(CTRL_ATTR_FAMILY_NAME, UTUN_GENL_NAME, sizeof(UTUN_GENL_NAME));
	if (talk(found))
		errx(2, "no family %s", UTUN_GENL_NAME);
}

/* "192.0.2.1:3653", the port may be absent */
static struct sockaddr_in end_of(const char *text)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	char copy[64], *colon;

	snprintf(copy, sizeof(copy), "%s", text);
	colon = strchr(copy, ':');
	if (colon) {
		*colon = 0;
		a.sin_port = htons(atoi(colon + 1));
	}
	if (inet_pton(AF_INET, copy, &a.sin_addr) != 1)
		errx(2, "%s: an IPv4 address is expected", text);
	return a;
}

static struct in6_addr ip6(const char *text)
{
	struct in6_addr a;

	if (inet_pton(AF_INET6, text, &a) != 1)
		errx(2, "%s: an IPv6 address is expected", text);
	return a;
}

/* "2001:db8::/48" */
static void put_prefix(const char *text, int type, int length_type)
{
	char copy[64], *slash;
	struct in6_addr a;

	snprintf(copy, sizeof(copy), "%s", text);
	slash = strchr(copy, '/');
	if (!slash)
		errx(2, "%s: a prefix is expected", text);
	*slash = 0;
	a = ip6(copy);
	put(type, &a, sizeof(a));
	put8(length_type, atoi(slash + 1));
}

static void begin_dev(const char *dev, int command, int flags)
{
	begin(family, command, flags);
	put32(UTUN_A_IFINDEX, if_nametoindex(dev) ?: (uint32_t)atoi(dev));
}

#endif
