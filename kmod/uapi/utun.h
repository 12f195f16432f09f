/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * utun - IPv6 in UDP in IPv4 (RFC 5572) and IPv6 in IPv4 (RFC 4213): the interface of the kernel module.
 *
 * Link kinds
 * ==========
 *
 *   ip link add utun0 type utun                       the shared device: it holds the tunnels, any number of them
 *   ip link add link utun0 name ac10022a_58022 type utun    a client device: one tunnel of utun0 is seen through it
 *
 * Both are in the network namespace they were made in and stay there. A client device ends with its shared device. A new
 * shared device is empty: it drops everything until UTUN_CMD_DEV_SET. The device's own MTU (ip link set mtu) concerns only
 * what the stack does before it hands a packet over; the MTU of the tunnels is UTUN_A_MTU. Where the device's is larger (it
 * starts at the largest there is) every Packet Too Big comes from utun, which limits how many it sends.
 *
 * The driver routes the pools to the shared device, gives it the server's address, turns forwarding on. With client devices it
 * routes what belongs to one tunnel to its device.
 *
 * Generic netlink
 * ===============
 *
 * Family "utun", version 1, group "events". The family is found in every network namespace and acts on the devices of the
 * sender's. Every command, also to join the group, wants CAP_NET_ADMIN in the user namespace that owns that network namespace
 * (EPERM). Attributes are checked strictly: unknown ones are refused (EINVAL). With NETLINK_EXT_ACK an error comes with a
 * message and, where one attribute is to blame, with its offset. Numbers are in host byte order; addresses and ports in
 * network byte order. u64 are padded with UTUN_*_A_PAD to 8 octets where the kernel writes them; they may come unpadded.
 *
 * Every command names the shared device by UTUN_A_IFINDEX (ENODEV: there is none; EOPNOTSUPP: it is not a shared utun device).
 *
 * UTUN_CMD_DEV_SET: the whole configuration; what is left out is none, or its default.
 *     UTUN_A_LOCAL (1 to UTUN_LOCALS_MAX times), UTUN_A_POOL (0 to UTUN_POOLS_MAX times), UTUN_A_SERVER, UTUN_A_MTU,
 *     UTUN_A_KEEP, UTUN_A_FLAGS.
 *   Replaces the one before, in one step as far as packets can see; setting the same again changes nothing. Tunnels stay, with
 *   their counters, if the new configuration has room for them (see TUNNEL_SET); the others are removed.
 *   ERANGE, EINVAL: a value out of its bounds (each is told at its attribute). EEXIST: pools that overlap in ids, endpoints
 *   or prefixes, or hold the server's address. ENOMEM.
 *   A pool of `size` tunnels: tunnel first+i has the endpoint ENDPOINT+i and the prefix PREFIX + (i << (128-PREFIX_LEN)). Pools of
 *   one device have at most UTUN_TUNNELS_MAX tunnels together. Eight octets a tunnel are allocated at once, the rest when it is
 *   set.
 *
 * UTUN_CMD_DEV_GET: the same attributes back, and UTUN_A_TUNNELS, UTUN_A_SOCKET (once for each socket).
 *
 * UTUN_CMD_SOCKET_ATTACH: UTUN_A_FD, a UDP socket of family AF_INET and of the device's network namespace becomes an
 *   encapsulation socket. Datagrams whose first four bits are 6 are tunnelled packets and stay in the kernel. All others reach
 *   the socket unchanged, unless UTUN_F_TSP is set: then only those that begin with 0xf do (RFC 5572 section 5.2).
 *   Any number of sockets may be attached, so the next daemon attaches its own (SO_REUSEPORT) before the last one closes. A
 *   socket may be attached before it is bound, so that no tunnelled packet ever comes to it, and should be again when it is: only
 *   then the kernel's own (below) go. But for that, to attach a socket again to the same device changes nothing. A socket is let
 *   go by SOCKET_DETACH, by its last close(2) and by the end of the device. Attaching is needed to receive only: packets to
 *   clients are sent from the tunnel's LOCAL address with or without a socket.
 *   EBADF; ENOTSOCK; EPROTONOSUPPORT: not UDP; EAFNOSUPPORT: not AF_INET; EINVAL: closed; EXDEV: another namespace's;
 *   EBUSY: attached to another device or encapsulating for somebody else; EMFILE: UTUN_SOCKETS_MAX are attached.
 *
 * UTUN_CMD_SOCKET_DETACH: UTUN_A_FD. ENOENT: it is not attached to the device.
 *
 * Keep policy, UTUN_A_KEEP: what happens when the last attached socket of a port is closed, by a daemon that died for instance. The
 *   kernel opens a socket of its own on the same address and port before the daemon's is gone, which goes on receiving; for
 *   that the daemon's must have SO_REUSEPORT. So no packet of a tunnel is lost. What is not tunnelled is dropped by it
 *   (UTUN_DROP_UNATTENDED). It goes as soon as a socket on the same address and port is attached; the new daemon binds one by
 *   SO_REUSEPORT and, as the kernel demands, under the same user id. After UTUN_A_KEEP seconds without an attached socket all
 *   tunnels are removed, the kernel's sockets too, and UTUN_CMD_EXPIRED tells. 0: at once. UTUN_KEEP_FOREVER (the
 *   default): never. SOCKET_DETACH is no death: nothing follows from it.
 *
 * UTUN_CMD_TUNNEL_SET: UTUN_A_TUNNEL (1 to UTUN_BATCH_MAX times), each with
 *     ID, ENCAP, LOCAL, REMOTE, ENDPOINT, and for UTUN_ENCAP_UDP LOCAL_PORT and REMOTE_PORT (both not 0; absent or 0 for
 *     UTUN_ENCAP_IP);
 *     optional: SESSION (0), PREFIX with PREFIX_LEN (none), ROUTE (0 to UTUN_ROUTES_MAX times, each ADDR and LEN), MTU (0: the
 *     device's), IFINDEX (0: the shared device), RX_RATE, TX_RATE (0: no limit), RX_BURST, TX_BURST (0: what the rate gives in
 *     100 ms, but at least 16384).
 *   Wanted state: adds the tunnel or changes the one with this id; the same again changes nothing. With the same
 *   SESSION the counters go on, exactly; with another they start at 0 and LAST_SEEN now. A change of MTU, rates and
 *   bursts is one word each and unnoticed by packets. After a change of anything else each packet meets the old tunnel or
 *   the new one.
 *   ENDPOINT is that of the id, or a global unicast address outside every pool. PREFIX is that of the id, or global unicast and
 *   outside every pool, at most 127 long, host bits 0. A ROUTE is a further prefix of the client (RFC 3162 section 2.5): global
 *   unicast and outside every pool, at most 128 long, host bits 0, none twice and none that is ENDPOINT or PREFIX. An address
 *   from outside the pools is the tunnel's with the longest ENDPOINT, PREFIX or ROUTE that holds it. (ID, LOCAL, REMOTE,
 *   ENDPOINT, PREFIX, ROUTE, MTU) have to fit the configuration: else EINVAL or ERANGE. ERANGE: there are more than
 *   UTUN_ROUTES_MAX of ROUTE. An error's offset is that of the very ROUTE. EADDRINUSE: the ENDPOINT, PREFIX or ROUTE from
 *   outside the pools is another tunnel's; ENOSPC: UTUN_FOREIGN_MAX of those are in use. ENODEV, EOPNOTSUPP: IFINDEX is no
 *   client device of this shared device; EBUSY: it has another tunnel.
 *   A tunnel that TUNNEL_DEL ended and that is set again with the same SESSION goes on counting where it was, unless its id had
 *   another session in between. The last UTUN_REMAINS_MAX that ended are remembered for that.
 *   A batch is done in order and stops at the first tunnel that is wrong: those before it are in force, it and those after
 *   are as before. The error's offset points into its UTUN_A_TUNNEL. Who wants the rest in force sends it again without it.
 *
 * UTUN_CMD_TUNNEL_DEL: UTUN_A_ID (1 to UTUN_BATCH_MAX times). Ends these tunnels. Replies with one message with a UTUN_A_TUNNEL
 *   for each that was in force: ID, SESSION and the last counters, exact to the packet: when the reply is sent no packet is
 *   on its way through any of them. Ids without a tunnel are left out; that is no error. Takes one grace period (milliseconds),
 *   for a batch as for one.
 *
 * UTUN_CMD_TUNNEL_GET: UTUN_A_ID: replies with this tunnel, one UTUN_A_TUNNEL (ENOENT: not in force). As a dump (NLM_F_DUMP): one
 *   message a tunnel, by ascending id, from UTUN_A_START (0) on. Tunnels may come and go meanwhile: each that is in force
 *   throughout is reported once. A dump that broke off is resumed with START one above the last id it gave.
 *   The attributes are those of SET as they are in force, without those that are 0 or none, with IDLE, the counters, and
 *   UTUN_TUNNEL_A_SEEN if a packet came from the client in this session.
 *
 * UTUN_CMD_DROPS_GET: replies with a UTUN_A_DROP for each reason that ever occurred on the device: its count and the last offender.
 *   As a dump (NLM_F_DUMP): one message a tunnel, in force or not, of whose packets some were dropped, by ascending UTUN_A_ID, from
 *   UTUN_A_START (0) on: a UTUN_A_DROP with REASON and PACKETS (round at 2^32) for each reason. The counts begin anew with
 *   each new session. Those of UTUN_TALLIES_MAX tunnels are kept; then the oldest go.
 *
 * Events, to the group "events", with UTUN_A_IFINDEX and one UTUN_A_TUNNEL (but for EXPIRED):
 *   UTUN_CMD_FIRST      the first valid packet of a session came: ID, SESSION, REMOTE, REMOTE_PORT
 *   UTUN_CMD_MISMATCH   a packet for a tunnel in force came from elsewhere (the reasons OUTER_SOURCE and ENCAPSULATION); a NAT that
 *                       changed its mind, or a forgery: ID, SESSION, ENCAP, REMOTE and REMOTE_PORT of the packet, ENDPOINT with
 *                       its inner source
 *   UTUN_CMD_EXPIRED    the keep policy removed all tunnels
 *   MISMATCH comes at most 100 times a second and device; nothing else is limited. Events are lost when the reader is slow
 *   (ENOBUFS on his socket): they spare polling, they do not replace it.
 *
 * What is done to packets
 * =======================
 *
 * From clients, in this order: the lengths of UDP and IPv6 header must agree, what follows the inner packet in the datagram is cut
 * off, else MALFORMED. The tunnel is found by the inner source by arithmetic: not a tunnel's is INNER_SOURCE (or
 * LINK_LOCAL for fe80::/10 and ::), no tunnel in force NO_TUNNEL, an address the tunnel does not have INNER_SOURCE. Its ENCAP,
 * LOCAL, REMOTE and ports must be the packet's: ENCAPSULATION, OUTER_SOURCE. A destination in ff00::/8, fe80::/10 or ::/64 is
 * MARTIAN. ECN is merged by RFC 6040 section 4.2: ILLEGAL_ECN. Above the rate: POLICED. Then it counts, and is seen. An ICMPv6 echo
 * request to UTUN_A_SERVER is answered at once, with hop limit 64; all else comes in by the device. Fragments of outer packets
 * are reassembled and IPv4 options skipped by the stack before. An outer UDP checksum that is not 0 is verified.
 *
 * Not from tunnels: IPv6 packets that come in by another interface with the address of a tunnel, in force or not, as source are
 * dropped (NATIVE_SOURCE) unless UTUN_F_NATIVE is set.
 *
 * To clients: not IPv6, or to a MARTIAN address: dropped silently, it is the stack's own noise. No tunnel in force has the
 * destination: NO_DESTINATION. Above the MTU: Packet Too Big with the tunnel's MTU, from the address the stack chooses towards the
 * sender, never about an ICMPv6 error; at most 1000 a second and device with a burst of 100, beyond it TOO_BIG. Above the rate:
 * POLICED. No IPv4 route: NO_ROUTE. The outer header has TTL 64, DF clear (the MTU is static: RFC 4213 section 3.2.1), the inner
 * packet's DSCP (0 with UTUN_F_PIPE, RFC 2983) and ECN (RFC 6040 normal mode). The UDP checksum is 0, or computed with UTUN_F_CSUM.
 * The outer route is looked up with TOS 0.
 *
 * Counters are of inner packets and their octets; a packet that GRO put together counts as those it was made of, one that GSO
 * will take apart as those it becomes.
 */
#ifndef _UAPI_LINUX_UTUN_H
#define _UAPI_LINUX_UTUN_H

#define UTUN_GENL_NAME		"utun"
#define UTUN_GENL_VERSION	1
#define UTUN_GENL_EVENTS	"events"

#define UTUN_LOCALS_MAX		8
#define UTUN_POOLS_MAX		8
#define UTUN_TUNNELS_MAX	(1 << 24)	/* of a device */
#define UTUN_FOREIGN_MAX	65536		/* addresses and prefixes outside the pools, of a device */
#define UTUN_TALLIES_MAX	65536		/* tunnels whose drops are counted apart, of a device */
#define UTUN_REMAINS_MAX	65536		/* tunnels that ended, of a device */
#define UTUN_ROUTES_MAX		16		/* of a tunnel */
#define UTUN_SOCKETS_MAX	64		/* of a device */
#define UTUN_BATCH_MAX		512		/* tunnels in a message */
#define UTUN_MTU_MIN		1280
#define UTUN_MTU_MAX		65507
#define UTUN_MTU_DEFAULT	1472
#define UTUN_RATE_MIN		1		/* octets a second */
#define UTUN_KEEP_FOREVER	0xffffffffU

enum utun_cmd {
	UTUN_CMD_UNSPEC,
	UTUN_CMD_DEV_SET,
	UTUN_CMD_DEV_GET,
	UTUN_CMD_SOCKET_ATTACH,
	UTUN_CMD_SOCKET_DETACH,
	UTUN_CMD_TUNNEL_SET,
	UTUN_CMD_TUNNEL_DEL,
	UTUN_CMD_TUNNEL_GET,
	UTUN_CMD_DROPS_GET,
	UTUN_CMD_FIRST,			/* events */
	UTUN_CMD_MISMATCH,
	UTUN_CMD_EXPIRED,

	__UTUN_CMD_MAX,
	UTUN_CMD_MAX = __UTUN_CMD_MAX - 1,
};

enum utun_attr {
	UTUN_A_UNSPEC,
	UTUN_A_PAD,
	UTUN_A_IFINDEX,			/* u32: the shared device */
	UTUN_A_FD,			/* s32 */
	UTUN_A_LOCAL,			/* nested, repeated: utun_local_attr */
	UTUN_A_POOL,			/* nested, repeated: utun_pool_attr */
	UTUN_A_SERVER,			/* 16 octets: IPv6 address that answers echo requests; absent: none does */
	UTUN_A_MTU,			/* u32: of tunnels without one of their own; UTUN_MTU_DEFAULT */
	UTUN_A_KEEP,			/* u32: seconds; UTUN_KEEP_FOREVER */
	UTUN_A_FLAGS,			/* u32: UTUN_F_; 0 */
	UTUN_A_TUNNELS,			/* u32: how many are in force */
	UTUN_A_SOCKET,			/* nested, repeated: utun_socket_attr */
	UTUN_A_TUNNEL,			/* nested, repeated: utun_tunnel_attr */
	UTUN_A_ID,			/* u32, repeated */
	UTUN_A_START,			/* u32 */
	UTUN_A_DROP,			/* nested, repeated: utun_drop_attr */

	__UTUN_A_MAX,
	UTUN_A_MAX = __UTUN_A_MAX - 1,
};

/* UTUN_A_FLAGS */
#define UTUN_F_CSUM	(1 << 0)	/* compute the outer UDP checksum */
#define UTUN_F_PIPE	(1 << 1)	/* outer DSCP 0 */
#define UTUN_F_TSP	(1 << 2)	/* datagrams that begin with neither 6 nor 0xf: MALFORMED */
#define UTUN_F_NATIVE	(1 << 3)	/* let native packets with a tunnel's source pass */

/* UTUN_A_LOCAL: an end of tunnels at this server */
enum utun_local_attr {
	UTUN_LOCAL_A_UNSPEC,
	UTUN_LOCAL_A_ADDR,		/* be32: unicast */
	UTUN_LOCAL_A_PORT,		/* be16: of UDP, not 0 */

	__UTUN_LOCAL_A_MAX,
	UTUN_LOCAL_A_MAX = __UTUN_LOCAL_A_MAX - 1,
};

/* UTUN_A_POOL */
enum utun_pool_attr {
	UTUN_POOL_A_UNSPEC,
	UTUN_POOL_A_FIRST,		/* u32: id of its first tunnel */
	UTUN_POOL_A_SIZE,		/* u32: at least 1; first+size at most 2^32 */
	UTUN_POOL_A_ENDPOINT,		/* 16 octets: of its first tunnel */
	UTUN_POOL_A_PREFIX,		/* 16 octets: of its first tunnel; absent: it delegates none */
	UTUN_POOL_A_PREFIX_LEN,		/* u8: 1 to 127, with PREFIX */

	__UTUN_POOL_A_MAX,
	UTUN_POOL_A_MAX = __UTUN_POOL_A_MAX - 1,
};

/* UTUN_A_SOCKET: only from the kernel */
enum utun_socket_attr {
	UTUN_SOCKET_A_UNSPEC,
	UTUN_SOCKET_A_ADDR,		/* be32: it is bound to */
	UTUN_SOCKET_A_PORT,		/* be16 */
	UTUN_SOCKET_A_KERNEL,		/* flag: it stands for a daemon's that is gone */

	__UTUN_SOCKET_A_MAX,
	UTUN_SOCKET_A_MAX = __UTUN_SOCKET_A_MAX - 1,
};

enum utun_encap {
	UTUN_ENCAP_UNSPEC,
	UTUN_ENCAP_UDP,			/* IPv6 in UDP in IPv4 */
	UTUN_ENCAP_IP,			/* IPv6 in IPv4, protocol 41 */
};

/* UTUN_A_TUNNEL */
enum utun_tunnel_attr {
	UTUN_TUNNEL_A_UNSPEC,
	UTUN_TUNNEL_A_PAD,
	UTUN_TUNNEL_A_ID,		/* u32 */
	UTUN_TUNNEL_A_SESSION,		/* u64 */
	UTUN_TUNNEL_A_ENCAP,		/* u8: utun_encap */
	UTUN_TUNNEL_A_LOCAL,		/* be32: the ADDR of a UTUN_A_LOCAL */
	UTUN_TUNNEL_A_LOCAL_PORT,	/* be16: the PORT of the same */
	UTUN_TUNNEL_A_REMOTE,		/* be32: unicast */
	UTUN_TUNNEL_A_REMOTE_PORT,	/* be16 */
	UTUN_TUNNEL_A_ENDPOINT,		/* 16 octets */
	UTUN_TUNNEL_A_PREFIX,		/* 16 octets */
	UTUN_TUNNEL_A_PREFIX_LEN,	/* u8: 1 to 127 */
	UTUN_TUNNEL_A_MTU,		/* u32: UTUN_MTU_MIN to UTUN_MTU_MAX, or 0 */
	UTUN_TUNNEL_A_IFINDEX,		/* u32: client device */
	UTUN_TUNNEL_A_RX_RATE,		/* u64: octets a second from the client, at least UTUN_RATE_MIN, or 0 */
	UTUN_TUNNEL_A_TX_RATE,		/* u64: to the client */
	UTUN_TUNNEL_A_RX_BURST,		/* u32: octets */
	UTUN_TUNNEL_A_TX_BURST,		/* u32 */
	UTUN_TUNNEL_A_RX_PACKETS,	/* u64: only from the kernel, as the following; from the client */
	UTUN_TUNNEL_A_RX_BYTES,		/* u64 */
	UTUN_TUNNEL_A_TX_PACKETS,	/* u64: to the client */
	UTUN_TUNNEL_A_TX_BYTES,		/* u64 */
	UTUN_TUNNEL_A_IDLE,		/* u64: milliseconds since the last valid packet from the client, or since it was set */
	UTUN_TUNNEL_A_SEEN,		/* flag: there was one in this session */
	UTUN_TUNNEL_A_ROUTE,		/* nested, repeated, both ways: utun_route_attr */

	__UTUN_TUNNEL_A_MAX,
	UTUN_TUNNEL_A_MAX = __UTUN_TUNNEL_A_MAX - 1,
};

/* UTUN_TUNNEL_A_ROUTE: a prefix outside the pools */
enum utun_route_attr {
	UTUN_ROUTE_A_UNSPEC,
	UTUN_ROUTE_A_ADDR,		/* 16 octets */
	UTUN_ROUTE_A_LEN,		/* u8: 1 to 128 */

	__UTUN_ROUTE_A_MAX,
	UTUN_ROUTE_A_MAX = __UTUN_ROUTE_A_MAX - 1,
};

/* Why packets are dropped; those up to FAILED are numbered as datapath.Reasons are, from 1 on. */
enum utun_drop {
	UTUN_DROP_UNSPEC,
	UTUN_DROP_MALFORMED,
	UTUN_DROP_INNER_SOURCE,
	UTUN_DROP_NO_TUNNEL,
	UTUN_DROP_OUTER_SOURCE,
	UTUN_DROP_ENCAPSULATION,
	UTUN_DROP_LINK_LOCAL,
	UTUN_DROP_MARTIAN,
	UTUN_DROP_ILLEGAL_ECN,
	UTUN_DROP_NATIVE_SOURCE,
	UTUN_DROP_NO_DESTINATION,
	UTUN_DROP_TOO_BIG,
	UTUN_DROP_NO_ROUTE,
	UTUN_DROP_FAILED,		/* no memory, device down */
	UTUN_DROP_POLICED,		/* above the rate, either way */
	UTUN_DROP_UNATTENDED,		/* not tunnelled, and no daemon is there */

	__UTUN_DROP_MAX,
	UTUN_DROP_MAX = __UTUN_DROP_MAX - 1,
};

/* UTUN_A_DROP: only from the kernel */
enum utun_drop_attr {
	UTUN_DROP_A_UNSPEC,
	UTUN_DROP_A_PAD,
	UTUN_DROP_A_REASON,		/* u8: utun_drop */
	UTUN_DROP_A_PACKETS,		/* u64 */
	UTUN_DROP_A_AGE,		/* u64: milliseconds since the last; what follows is of the last, and absent if unknown */
	UTUN_DROP_A_ID,			/* u32: whose address it had as inner source (to clients: destination) */
	UTUN_DROP_A_ENCAP,		/* u8 */
	UTUN_DROP_A_REMOTE,		/* be32: outer source; to clients, of the tunnel */
	UTUN_DROP_A_REMOTE_PORT,	/* be16 */
	UTUN_DROP_A_INNER,		/* 16 octets: inner source */

	__UTUN_DROP_A_MAX,
	UTUN_DROP_A_MAX = __UTUN_DROP_A_MAX - 1,
};

#endif /* _UAPI_LINUX_UTUN_H */
