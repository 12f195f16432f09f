#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck source=common disable=SC2119
#
# Routes: further prefixes of a client, outside the pools; what is wrong with one is said of that one. Topology: common.
. "$(dirname "$0")/common"

topology
serve
tunnels

routed() { ctl set utun0 5 udp 10.0.0.1:3653 10.0.0.2:5005 2001:db8:ffff::5 session 1 "$@"; }

# wrong ERROR OFFSET TEXT ROUTE...: in the message of routed() the first route begins at octet 112, and each has 32.
wrong() {
	local expected="error $1: $3 at $2" route said arguments=()
	shift 3
	for route; do arguments+=(route "$route"); done
	said=$(routed "${arguments[@]}" 2>&1)
	[ "$said" = "$expected" ] || { echo "expected: $expected"; echo "said: $said"; return 1; }
}

ip -n srv route add fd00:77::/32 dev utun0
for address in fd00:77:1::1 fd00:77:2::1; do ip -n cl addr add "$address/128" dev u0 nodad; done
ip -n cl route replace fd00:5::/64 dev u0

ok "two routes" routed route fd00:77:1::/48 route fd00:77:2::/48
ok "they are told" sh -c "ip netns exec srv $UTUNCTL list utun0 5 | grep -q '^tunnel 5 .* route fd00:77:1::/48 route fd00:77:2::/48 '"
for address in fd00:77:1::1 fd00:77:2::1; do
	ok "$address reaches the core" pinged "$address" fd00:5::2
	ok "the core reaches $address" core ping -q -c 3 -i 0.02 -W 3 "$address"
done
ok "with one route less" routed route fd00:77:1::/48
ok "the other goes on" pinged fd00:77:1::1 fd00:5::2
ok "it is nobody's" refused 2 cl ping -q -c 1 -W 1 -I fd00:77:2::1 fd00:5::2

ok "host bits, second route" wrong EINVAL 144 'a prefix outside every pool is expected' fd00:77:1::/48 fd00:77:2::1/48
ok "in a pool, first route" wrong EINVAL 112 'a prefix outside every pool is expected' 2001:db8:ffff::/64 fd00:77:2::/48
ok "twice, third route" wrong EINVAL 176 'the tunnel has it already' fd00:77:1::/48 fd00:77:2::/48 fd00:77:1::/48
ok "the endpoint" wrong EINVAL 112 'a prefix outside every pool is expected' 2001:db8:ffff::5/128
ctl set utun0 7 udp 10.0.0.1:3653 10.0.0.2:5007 2001:db8:ffff::7 route fd00:77:3::/48
ok "another tunnel's, second route" wrong EADDRINUSE 144 "it is another tunnel's" fd00:77:1::/48 fd00:77:3::/48
ok "too many, the seventeenth" wrong ERANGE $((112 + 16 * 32)) 'a tunnel has at most 16 routes' fd00:77:{1..17}::/48
# A policy's refusal is of the attribute in the route: behind the route's head and its address.
ok "length, second route" wrong ERANGE $((144 + 4 + 20)) 'integer out of range' fd00:77:1::/48 fd00:77:2::/129
ok "nothing has changed" sh -c "ip netns exec srv $UTUNCTL list utun0 5 | grep -q '^tunnel 5 .* endpoint 2001:db8:ffff::5 route fd00:77:1::/48 rx'"
