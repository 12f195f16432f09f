// SPDX-License-Identifier: GPL-2.0-only
/*
 * utunctl speaks the whole netlink interface, for tests; the daemon has a driver of its own. It says what it gets in lines that a
 * shell can read. See usage() at the end.
 */
#include "daemon.h"
#include "hostile.h"
#include "nl.h"
#include "tunnel.h"

#define BATCH 256

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

static unsigned long counted;

static void count(struct nlattr **tb, int command)
{
	(void)command;
	counted += !!tb[UTUN_A_TUNNEL];
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
