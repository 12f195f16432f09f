// SPDX-License-Identifier: GPL-2.0-only
/*
 * stream serve PORT: takes one TCP connection, reads it to its end and answers with an octet.
 * stream send ADDRESS PORT OCTETS: says how many nanoseconds it took to send so many and to get the answer.
 */
#include <arpa/inet.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536

static struct sockaddr_in6 address(const char *text, const char *port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(port)) };

	if (inet_pton(AF_INET6, text, &a.sin6_addr) != 1)
		errx(2, "%s: an IPv6 address is expected", text);
	return a;
}

static int serve(const char *port)
{
	struct sockaddr_in6 a = address("::", port);
	int s = socket(AF_INET6, SOCK_STREAM, 0), c, one = 1;
	static char buffer[CHUNK];
	ssize_t n;

	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(s, (void *)&a, sizeof(a)) || listen(s, 1))
		err(2, "port %s", port);
	printf("listening\n");
	fflush(stdout);
	c = accept(s, NULL, NULL);
	if (c < 0)
		err(2, "accept");
	/* What is read is thrown away: to copy it is no matter of forwarding. */
	while ((n = recv(c, buffer, sizeof(buffer), MSG_TRUNC)) > 0)
		;
	if (n < 0 || write(c, "", 1) != 1)
		err(2, "connection");
	return 0;
}

static int transfer(const char *to, const char *port, unsigned long octets)
{
	struct sockaddr_in6 a = address(to, port);
	int s = socket(AF_INET6, SOCK_STREAM, 0);
	struct timespec begin, end;
	static char buffer[CHUNK];
	unsigned long left;
	ssize_t n;

	if (connect(s, (void *)&a, sizeof(a)))
		err(2, "%s port %s", to, port);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (left = octets; left; left -= n) {
		n = write(s, buffer, left < CHUNK ? left : CHUNK);
		if (n <= 0)
			err(2, "connection");
	}
	if (shutdown(s, SHUT_WR) || read(s, buffer, 1) != 1)
		err(2, "answer");
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.0f\n", (end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec));
	return 0;
}

int main(int c, char **v)
{
	if (c == 3 && !strcmp(v[1], "serve"))
		return serve(v[2]);
	if (c == 5 && !strcmp(v[1], "send"))
		return transfer(v[2], v[3], strtoul(v[4], NULL, 0));
	fprintf(stderr, "stream serve PORT\n       stream send ADDRESS PORT OCTETS\n");
	return 2;
}
