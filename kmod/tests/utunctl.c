// SPDX-License-Identifier: GPL-2.0-only
/*
 * utunctl speaks the whole netlink interface, for tests; the daemon has a driver of its own. It says what it gets in lines that a
 * shell can read. See usage() at the end.
 */
#include <linux/if_ether.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "nl.h"

#define BATCH 256

static void begin_dev(const char *dev, int command, int flags)
{
	begin(family, command, flags);
	put32(UTUN_A_IFINDEX, if_nametoindex(dev) ?: (uint32_t)atoi(dev));
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

/* What follows the client's end in a tunnel of fill(): the addresses its pools have by number. */
static void put_inside(uint32_t id, bool delegates)
{
	struct in6_addr endpoint = ip6("2001:db8:ffff::"), prefix = ip6("2a00:db8::");
	uint32_t low = htonl(id), number = htonl(id << 12);

	memcpy(endpoint.s6_addr + 12, &low, 4);
	put(UTUN_TUNNEL_A_ENDPOINT, &endpoint, sizeof(endpoint));
	if (!delegates)
		return;
	memcpy(prefix.s6_addr + 4, &number, 4);
	put(UTUN_TUNNEL_A_PREFIX, &prefix, sizeof(prefix));
	put8(UTUN_TUNNEL_A_PREFIX_LEN, 52);
}

/*
 * FIRST COUNT [prefixes]: tunnel FIRST+i to 10.0.0.2 + i/60000, port 1024 + i%60000; of tunnel n the endpoint is 2001:db8:ffff::n and,
 * if there are to be any, the prefix 2a00:db8::/52 + n
 */
static int fill(char **v)
{
	uint32_t first = strtoul(v[1], NULL, 0), n = strtoul(v[2], NULL, 0), i, j;
	struct timespec t0, t1;
	int e;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (i = 0; i < n; i += BATCH) {
		begin_dev(v[0], UTUN_CMD_TUNNEL_SET, 0);
		for (j = i; j < n && j < i + BATCH; j++) {
			struct nlattr *tunnel = nest(UTUN_A_TUNNEL);
			uint32_t remote = htonl(0x0a000002 + j / 60000);

			put32(UTUN_TUNNEL_A_ID, first + j);
			put8(UTUN_TUNNEL_A_ENCAP, UTUN_ENCAP_UDP);
			put32(UTUN_TUNNEL_A_LOCAL, htonl(0x0a000001));
			put32(UTUN_TUNNEL_A_REMOTE, remote);
			put16(UTUN_TUNNEL_A_LOCAL_PORT, htons(3653));
			put16(UTUN_TUNNEL_A_REMOTE_PORT, htons(1024 + j % 60000));
			put_inside(first + j, v[3]);
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
	for (;;) {
		len = sizeof(a);
		n = recvfrom(s, in, sizeof(in), 0, (void *)&a, &len);
		if (n > 0)
			sendto(s, in, n, 0, (void *)&a, len);
	}
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
		"        show|drops|number DEV, list DEV [START], del DEV ID..., fill DEV FIRST COUNT [prefixes]\n"
		"        set DEV ID udp|ip LOCAL REMOTE ENDPOINT [prefix P/L] [route P/L]... [mtu|session|rxrate|txrate N] [link DEV]\n"
		"        serve|succeed DEV ADDR:PORT [bound], events, fuzz DEV SECONDS, spray ADDR:PORT SECONDS, sniff SECONDS\n");
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
	if (!strcmp(what, "sniff"))
		return sniff(rest);
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
	else if (!strcmp(what, "succeed") && c >= 4)
		e = succeed(rest);
	else if (!strcmp(what, "fuzz") && c >= 4)
		e = fuzz(rest);
	else
		return usage();
	return e ? 1 : 0;
}
