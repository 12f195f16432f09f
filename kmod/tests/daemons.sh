#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck source=common disable=SC2119
#
# One daemon after the other under traffic, as fast as may be: no packet is lost. Topology: common, and four clients more, 10.0.0.11
# to 14, each with a tunnel of that number: which of a port's sockets hears a client depends on his address and port.
. "$(dirname "$0")/common"

: "${PACKETS:=500}" # of each client

join() { # join N
	local endpoint
	endpoint=2001:db8:ffff::$(printf %x "$1")
	ip -n cl addr add "10.0.0.$1/24" dev c0
	ip -n cl link add "u$1" type sit remote 10.0.0.1 local "10.0.0.$1" ttl 64 encap fou encap-sport 5005 encap-dport 3653
	ip -n cl link set "u$1" up mtu 1400
	ip -n cl addr add "$endpoint/128" dev "u$1" nodad
	ip -n cl route add fd00:5::/64 dev "u$1" src "$endpoint" metric "$((2000 + $1))"
	ctl set utun0 "$1" udp 10.0.0.1:3653 "10.0.0.$1:5005" "$endpoint" session 1
	ok "client $1" cl ping -q -c 1 -W 10 -I "u$1" fd00:5::2
	ctl set utun0 "$1" udp 10.0.0.1:3653 "10.0.0.$1:5005" "$endpoint" session 2 # counts from 0
}

# By the counters of the tunnels: ping does not wait for an answer that takes more than twice as long as any before.
passed() { [ "$(ctl list utun0 | grep -c " session 2 .* rx $PACKETS $((PACKETS * 104)) tx $PACKETS $((PACKETS * 104)) seen")" = 4 ]; }

topology
ip netns exec srv "$UTUNCTL" succeed utun0 10.0.0.1:3653 >/tmp/succession 2>&1 &
daemons=$!
eventually grep -q attached /tmp/succession
for n in 11 12 13 14; do join "$n"; done
flows=()
for n in 11 12 13 14; do
	ip netns exec cl ping -q -i 0.005 -c "$PACKETS" -I "u$n" fd00:5::2 >"/tmp/flow.$n" 2>&1 &
	flows+=($!)
done
wait "${flows[@]}"
kill "$daemons"
wait "$daemons"
changes() { cat /tmp/succession; awk '$1 == "changes" && $2 >= 100 { ok = 1 } END { exit !ok }' /tmp/succession; }
ok "daemons follow one another" changes
ok "no packet of a tunnel comes up to one" grep -q ' up 0$' /tmp/succession
ok "no packet is lost" eventually passed
tail -n 1 /tmp/succession
[ "$failed" = 0 ] || { tail -n 2 /tmp/flow.*; evidence; }
