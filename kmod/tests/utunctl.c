// SPDX-License-Identifier: GPL-2.0-only
/*
 * utunctl speaks the whole netlink interface, for tests; the daemon has a driver of its own. It says what it gets in lines that a
 * shell can read. See usage() at the end.
 */
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

#define BATCH 256
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

static void begin_dev(const char *dev, int command, int flags)
{
	begin(family, command, flags);
	put32(UTUN_A_IFINDEX, if_nametoindex(dev) ?: (uint32_t)atoi(dev));
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

static void put_pool(char *text)
{
	struct nlattr *pool = nest(UTUN_A_POOL);
	struct in6_addr a;
	char *prefix;

	put32(UTUN_POOL_A_FIRST, strtoul(strtok(text, ","), NULL, 0));
	put32(UTUN_POOL_A_SIZE, strtoul(strtok(NULL, ","), NULL, 0));
	a = ip6(strtok(NULL, ","));
	put(UTUN_POOL_A_ENDPOINT, &a, sizeof(a));
	prefix = strtok(NULL, ",");
	if (prefix)
		put_prefix(prefix, UTUN_POOL_A_PREFIX, UTUN_POOL_A_PREFIX_LEN);
	end(pool);
}

static int configure(char **v)
{
	begin_dev(v[0], UTUN_CMD_DEV_SET, 0);
	for (v++; v[0] && v[1]; v += 2) {
		if (!strcmp(v[0], "local")) {
			struct sockaddr_in a = end_of(v[1]);
			struct nlattr *local = nest(UTUN_A_LOCAL);

			put32(UTUN_LOCAL_A_ADDR, a.sin_addr.s_addr);
			put16(UTUN_LOCAL_A_PORT, a.sin_port);
			end(local);
		} else if (!strcmp(v[0], "pool")) {
			put_pool(v[1]);
		} else if (!strcmp(v[0], "server")) {
			struct in6_addr a = ip6(v[1]);

			put(UTUN_A_SERVER, &a, sizeof(a));
		} else {
			put32(!strcmp(v[0], "mtu") ? UTUN_A_MTU : !strcmp(v[0], "keep") ? UTUN_A_KEEP : UTUN_A_FLAGS,
			      strtoul(v[1], NULL, 0));
		}
	}
	return talk(NULL);
}

/* ID udp|ip LOCAL REMOTE ENDPOINT [prefix P] [mtu N] [link DEV] [session N] [rxrate N] [txrate N] */
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

static unsigned long counted;

static void count(struct nlattr **tb, int command)
{
	(void)command;
	counted += !!tb[UTUN_A_TUNNEL];
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

/* FIRST COUNT: tunnel FIRST+i to 10.0.0.2 + i/60000, port 1024 + i%60000, endpoint 2001:db8:i::1 as the pools of the tests have it */
static int fill(char **v)
{
	uint32_t first = strtoul(v[1], NULL, 0), n = strtoul(v[2], NULL, 0), i, j;
	struct in6_addr endpoint = ip6("2001:db8:ffff::");
	struct timespec t0, t1;
	int e;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (i = 0; i < n; i += BATCH) {
		begin_dev(v[0], UTUN_CMD_TUNNEL_SET, 0);
		for (j = i; j < n && j < i + BATCH; j++) {
			struct nlattr *tunnel = nest(UTUN_A_TUNNEL);
			uint32_t id = first + j, low = htonl(id), remote = htonl(0x0a000002 + j / 60000);

			memcpy(endpoint.s6_addr + 12, &low, 4);
			put32(UTUN_TUNNEL_A_ID, id);
			put8(UTUN_TUNNEL_A_ENCAP, UTUN_ENCAP_UDP);
			put32(UTUN_TUNNEL_A_LOCAL, htonl(0x0a000001));
			put32(UTUN_TUNNEL_A_REMOTE, remote);
			put16(UTUN_TUNNEL_A_LOCAL_PORT, htons(3653));
			put16(UTUN_TUNNEL_A_REMOTE_PORT, htons(1024 + j % 60000));
			put(UTUN_TUNNEL_A_ENDPOINT, &endpoint, sizeof(endpoint));
			end(tunnel);
		}
		e = talk(NULL);
		if (e)
			return e;
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	printf("added %u ns_each %.0f\n", n, ((t1.tv_sec - t0.tv_sec) * 1e9 + t1.tv_nsec - t0.tv_nsec) / (n ?: 1));
	return 0;
}

static int serve(char **v)
{
	struct sockaddr_in a = end_of(v[1]);
	int s = socket(AF_INET, SOCK_DGRAM, 0), one = 1, n;
	socklen_t len;
	char in[65536];

	setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(s, (void *)&a, sizeof(a)))
		err(2, "bind");
	begin_dev(v[0], UTUN_CMD_SOCKET_ATTACH, 0);
	put32(UTUN_A_FD, s);
	n = talk(NULL);
	if (n)
		return n;
	printf("attached\n");
	fflush(stdout);
	for (;;) {
		len = sizeof(a);
		n = recvfrom(s, in, sizeof(in), 0, (void *)&a, &len);
		if (n > 0)
			sendto(s, in, n, 0, (void *)&a, len);
	}
}

static int listen_events(void)
{
	static char in[1 << 16];
	struct nlattr *tb[64];
	struct nlmsghdr *h;
	int len;

	if (setsockopt(nl, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &events, sizeof(events)))
		err(2, "group");
	printf("listening\n");
	fflush(stdout);
	for (;;) {
		len = recv(nl, in, sizeof(in), 0);
		for (h = (void *)in; len > 0 && NLMSG_OK(h, (unsigned int)len); h = NLMSG_NEXT(h, len)) {
			parse(tb, 63, PAYLOAD(h), h->nlmsg_len - NLMSG_HDRLEN - GENL_HDRLEN);
			print_tunnel(tb, ((struct genlmsghdr *)NLMSG_DATA(h))->cmd);
		}
	}
}

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
			char *tunnel[] = { "1", r[3] & 1 ? "udp" : "ip", "10.0.0.1:3653", "10.0.0.2:1024", "2001:db8:ffff::1", NULL };

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

static int ids(char **v)
{
	begin_dev(v[0], UTUN_CMD_TUNNEL_DEL, 0);
	for (v++; *v; v++)
		put32(UTUN_A_ID, strtoul(*v, NULL, 0));
	return talk(print_tunnel);
}

static int set(char **v)
{
	begin_dev(v[0], UTUN_CMD_TUNNEL_SET, 0);
	put_tunnel(v + 1);
	return talk(NULL);
}

static int list(char **v)
{
	begin_dev(v[0], UTUN_CMD_TUNNEL_GET, NLM_F_DUMP);
	if (v[1])
		put32(UTUN_A_START, strtoul(v[1], NULL, 0));
	return talk(print_tunnel);
}

static int number(char **v)
{
	struct timespec t0, t1;
	int e;

	begin_dev(v[0], UTUN_CMD_TUNNEL_GET, NLM_F_DUMP);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	e = talk(count);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	printf("dumped %lu ms %.0f\n", counted, (t1.tv_sec - t0.tv_sec) * 1e3 + (t1.tv_nsec - t0.tv_nsec) / 1e6);
	return e;
}

static int ask(char **v, int command, each_t each)
{
	begin_dev(v[0], command, 0);
	return talk(each);
}

static int usage(void)
{
	fprintf(stderr, "utunctl dev DEV [local ADDR:PORT]... [pool FIRST,SIZE,ENDPOINT[,PREFIX/LEN]]... [server A] [mtu|keep|flags N]\n"
		"        show|drops|number DEV, list DEV [START], del DEV ID..., fill DEV FIRST COUNT\n"
		"        set DEV ID udp|ip LOCAL REMOTE ENDPOINT [prefix P/L] [mtu|session|rxrate|txrate N] [link DEV]\n"
		"        serve DEV ADDR:PORT, events, fuzz DEV SECONDS, spray ADDR:PORT SECONDS\n");
	return 2;
}

int main(int c, char **v)
{
	const char *what = c > 1 ? v[1] : "";
	char **rest = v + 2;
	int e;

	if (c < 3 && strcmp(what, "events"))
		return usage();
	if (!strcmp(what, "spray") && c >= 4)
		return spray(rest);
	open_netlink();
	if (!strcmp(what, "events"))
		e = listen_events();
	else if (!strcmp(what, "dev"))
		e = configure(rest);
	else if (!strcmp(what, "set") && c >= 8)
		e = set(rest);
	else if (!strcmp(what, "show"))
		e = ask(rest, UTUN_CMD_DEV_GET, print_dev);
	else if (!strcmp(what, "drops"))
		e = ask(rest, UTUN_CMD_DROPS_GET, print_drops);
	else if (!strcmp(what, "number"))
		e = number(rest);
	else if (!strcmp(what, "list"))
		e = list(rest);
	else if (!strcmp(what, "del"))
		e = ids(rest);
	else if (!strcmp(what, "fill") && c >= 5)
		e = fill(rest);
	else if (!strcmp(what, "serve") && c >= 4)
		e = serve(rest);
	else if (!strcmp(what, "fuzz") && c >= 4)
		e = fuzz(rest);
	else
		return usage();
	return e ? 1 : 0;
}
