/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the programs and the daemon share: maps and constants. record.go, state.go, drops.go and program.go hold the same
 * structs. Addresses and ports are in network order, numbers in host order.
 */
#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <linux/icmpv6.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define inline_always static __always_inline

#define MAX_POOLS 8
#define MAX_LOCAL 8
#define MAX_PORTS 16
#define MAX_EXCEPTIONS 8
#define MAX_MTUS 256
#define MISS 0xffffffffU
#define AF_INET 2
#define AF_INET6 10
#define HOP_LIMIT 64

enum { NEXTHOP_FIB, NEXTHOP_FIXED, NEXTHOP_STACK };

/* What becomes of a packet: at least 0 a reason to drop it, in the order of datapath.Reasons. */
enum {
	PASS = -2,  /* none of ours, or for the stack: leave it as it is */
	ADMIT = -1, /* a tunnel's */
	MALFORMED = 0,
	INNER_SOURCE,
	NO_TUNNEL,
	OUTER_SOURCE,
	ENCAPSULATION,
	LINK_LOCAL,
	MARTIAN,
	ILLEGAL_ECN,
	NATIVE_SOURCE,
	NO_DESTINATION,
	TOO_BIG,
	NO_ROUTE,
	FAILED,
	RATE,
	REASONS,
};

/*
 * A tunnel is two records: one that decapsulation reads and counts in, one for encapsulation, so that the CPUs of the two
 * directions do not take a cache line from each other. A record is as small as can be: of a million tunnels few are in a
 * cache, and to wait for memory takes longer than all else. Where all would fit anyway each record gets a line of its own
 * (spread). What is seldom needed is in the ledger.
 *
 * In the map stand all inbound records, all outbound ones, the ledgers, and the tallies, these on cache lines of their own.
 *
 * key: octets 0 to 3 the remote address, 4 and 5 its port, 6 what kind of tunnel it is (KIND_), 7 the time it was last
 * seen (inbound, in SEEN_UNIT, the low octet) or its MTU's place in state.mtus (outbound). But for the octet 7 it is 0 while
 * the tunnel is not in force; it is stored last, and first when the tunnel ends.
 *
 * count: packets in the upper 28 bits, octets of inner packets in the lower 36. Before one overflows, whoever counts moves
 * it to the ledger.
 */
struct record {
	__u64 key;
	__u64 count;
};

/* The octet 6 of a key. */
enum {
	KIND_ENDPOINT = 0x01, /* which of its addresses the tunnel holds: the endpoint of its index, */
	KIND_PREFIX = 0x02,   /* the prefix of its index, */
	KIND_FOREIGN = 0x04,  /* one in the map foreign */
	KIND_SIT = 0x08,      /* protocol 41, not UDP */
	KIND_LOCAL = 4,       /* shift: index in locals, 3 bits */
	KIND_RATED = 0x80,    /* what passes in this direction is bounded */
};

#define KIND(key) ((__u8)((key) >> 48))
#define KIND_WORD(kind) ((__u64)(kind) << 48)
#define IN_FORCE(key) ((key) << 8)
#define KEY_OUTER (0x00ffffffffffffffULL & ~KIND_WORD(KIND_ENDPOINT | KIND_PREFIX | KIND_FOREIGN | KIND_RATED)) /* what a packet shows of it */
#define LOCAL_OF(key) (KIND(key) >> KIND_LOCAL & (MAX_LOCAL - 1))

#define SEEN_UNIT 30 /* 2^30 ns of CLOCK_MONOTONIC_COARSE: a second */

#define COUNT_PACKET (1ULL << 36)
#define COUNT_OCTETS(count) ((count) & (COUNT_PACKET - 1))
#define COUNT_PACKETS(count) ((count) >> 36)
#define COUNT_FULL (1ULL << 63 | COUNT_PACKET >> 1) /* one of the two is half full */

/* The ledger of a tunnel is six entries of the map, in this order. */
struct sums {
	__u64 packets, octets; /* moved here from count; inbound, then outbound */
};

struct moves {
	__u32 begun, ended; /* moves to the sums; a reader wants them equal */
	__u64 session;
};

struct asked {
	__u64 seen; /* ns, as of the last look at octet 7 */
	__u64 mtu;  /* 0: the default; above it what foreign.go puts there */
};

struct bucket {
	__u64 due;  /* CLOCK_MONOTONIC, ns: when what has passed is paid for */
	__u64 rate; /* bit/s */
};

enum { LEDGER_IN, LEDGER_OUT, LEDGER_MOVES, LEDGER_ASKED, LEDGER_RATE_IN, LEDGER_RATE_OUT, LEDGER_ENTRIES };

/*
 * The tally of a tunnel is what was dropped of its packets: four entries of the map, a count for each reason, and last whose
 * count it is: something of the session.
 */
enum { TALLY_ENTRIES = 4, TALLY_SESSION = 15 };

union entry {
	struct record record;
	struct sums sums;
	struct moves moves;
	struct asked asked;
	struct bucket bucket;
	__u32 tally[4];
};

_Static_assert(REASONS <= TALLY_SESSION, "a count for each");

_Static_assert(sizeof(union entry) == 16, "four records are a cache line");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, union entry);
} tunnels SEC(".maps");

/* Addresses and prefixes outside the pools, to the id of the tunnel. */
struct foreign_key {
	__u32 length;
	struct in6_addr address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct foreign_key);
	__type(value, __u32);
} foreign SEC(".maps");

/* A next hop the daemon vouches for until a time: whoever has not refreshed it is not watching any more. */
struct fixed {
	__u64 until; /* CLOCK_MONOTONIC_COARSE, ns; 0: none */
	__u32 ifindex;
	__u32 mtu;
	__u8 macs[12]; /* destination and source */
	__u32 exceptions;
};

/* An interface packets may be redirected to. */
struct port {
	__u32 ifindex;
	__u32 flags; /* PORT_ */
	__u64 mac;   /* its own, as it stands in a frame */
};

enum { PORT_ETHERNET = 1, PORT_XDP = 2 }; /* takes frames with an Ethernet header; takes them from native XDP */

/* What the daemon changes while the programs run. */
struct state {
	struct fixed core, uplink;
	struct {
		__u64 prefix, mask;
	} core_exceptions[MAX_EXCEPTIONS]; /* the upper halves of destinations with another route */
	struct {
		__u32 prefix, mask;
	} uplink_exceptions[MAX_EXCEPTIONS];
	struct port ports[MAX_PORTS];
	__u16 mtus[MAX_MTUS];
	__u32 foreign; /* entries in the map foreign */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} state SEC(".maps");

struct drop {
	__u64 packets;
	__u64 tallied; /* of them; the others are the last tunnel's */
	__u64 last;    /* CLOCK_MONOTONIC, ns */
	__u64 remote;  /* as in a key */
	__u32 slot;    /* of the tunnel, MISS if none is known */
	__u32 session; /* as in its tally */
	struct in6_addr inner;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, struct drop);
} drops SEC(".maps");

/* Token bucket for Packet Too Big, in ns. */
struct budget {
	__u64 last, credit;
};

#define PTB_COST 1000000ULL    /* one in a millisecond and CPU */
#define PTB_BURST 100000000ULL /* a hundred at once */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} budget SEC(".maps");

/* Constants: the verifier takes out what they make unreachable. A new Config loads the programs anew. */
struct pool {
	__u64 endpoint_high, endpoint_low; /* host order, as the following */
	__u64 prefix_high;
	__u32 shift;    /* 64 - length of a prefix */
	__u32 prefixes; /* as many as endpoints, or 0 */
	__u32 size;
	__u32 slot;  /* of the first */
	__u32 first; /* its id */
	__u32 reserved;
};

struct local {
	__be32 address;
	__be16 port;
	__u16 checksum; /* folded sum of what is constant in an outer IPv4 header from here */
};

volatile const struct pool pools[MAX_POOLS];
volatile const struct local locals[MAX_LOCAL];
volatile const __u32 pool_count, local_count;
volatile const __u32 slots;  /* of all pools; the outbound records begin behind as many inbound ones */
volatile const __u32 spread; /* log2 of the distance between two records */
volatile const __u64 server_high, server_low; /* network order */
volatile const __u32 device;                  /* ifindex of the virtual device */
volatile const __u32 device_mtu;
volatile const __u32 nexthop;   /* NEXTHOP_ */
volatile const __u32 pipe;      /* RFC 2983 pipe model: outer DSCP 0 */
volatile const __u32 own_port;  /* index in state.ports of the interface the program is attached to */
volatile const __u32 can_send;  /* PORT_ flag that a port must have for this program to redirect to it */
volatile const __u32 bounce;    /* XDP_TX works on this interface */
volatile const __u32 decap;     /* encapsulated packets are taken here */
volatile const __u32 encap;     /* native packets are encapsulated here */
volatile const __u32 shrink_l3; /* bpf_skb_adjust_room can turn IPv4 into IPv6 (Linux 6.3) */

