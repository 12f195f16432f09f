#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck source=common disable=SC2119
#
# Packets both ways in both encapsulations, echo in place, spoofing, MTU, counters, policing; topology: common.
. "$(dirname "$0")/common"

topology
serve
tunnels

both_ways() {
	local from
	for from in 2001:db8:ffff::5 2a00:db8:500::1 2001:db8:ffff::6; do
		ok "$from reaches the core" via "$from" pinged "$from" fd00:5::2
		ok "the core reaches $from" core ping -q -c 3 -i 0.02 -W 3 "$from"
	done
}

answered() {
	ok "the server's address answers" pinged 2001:db8:ffff::5 "$server"
	ok "large keepalives" cl ping -q -c 2 -i 0.02 -W 3 -s 1300 -I 2001:db8:ffff::5 "$server"
	srv sysctl -qw net.ipv6.icmp.echo_ignore_all=1
	ok "without the stack" pinged 2001:db8:ffff::5 "$server"
	srv sysctl -qw net.ipv6.icmp.echo_ignore_all=0
}

counted() { # exact
	ctl set utun0 5 udp 10.0.0.1:3653 10.0.0.2:5005 2001:db8:ffff::5 prefix 2a00:db8:500::/40 session 2
	via 2001:db8:ffff::5 pinged 2001:db8:ffff::5 fd00:5::2 10 >/dev/null
	ctl list utun0 5 | grep -q '^tunnel 5 .* rx 10 1040 tx 10 1040 seen$'
}

changed() { # the same session goes on, with another prefix; then back
	ctl set utun0 5 udp 10.0.0.1:3653 10.0.0.2:5005 2001:db8:ffff::5 session 2 &&
		ctl list utun0 5 | grep -q '^tunnel 5 session 2 .* rx 10 1040 tx 10 1040 seen$' &&
		ctl set utun0 5 udp 10.0.0.1:3653 10.0.0.2:5005 2001:db8:ffff::5 prefix 2a00:db8:500::/40 session 2
}

from() { # from ADDRESS: a packet by the UDP tunnel with a source that is not its own
	ip -n cl addr replace "$1/128" dev u0 nodad
	ip -n cl route replace fd00:5::/64 dev u0 src "$1"
	cl ping -q -c 1 -W 1 -I "$1" fd00:5::2
	ip -n cl route replace fd00:5::/64 dev u0
	ip -n cl addr del "$1/128" dev u0
}

spoofed() {
	ok "inner source of nobody" refused 2 from fd00:bad::1
	ok "inner source of a tunnel not in force" refused 3 from 2001:db8:ffff::9
	ok "inner source of another tunnel" refused 5 from 2001:db8:ffff::6 # encapsulation: that one is protocol 41
	ctl set utun0 7 udp 10.0.0.1:3653 10.0.0.2:5007 2001:db8:ffff::7
	ok "inner source of another UDP tunnel" refused 4 from 2001:db8:ffff::7
	ctl del utun0 7 >/dev/null
	ok "to nobody" refused 10 core ping -q -c 1 -W 1 2001:db8:ffff::9
	ip -n core addr add 2001:db8:ffff::5/128 dev n0 nodad
	ok "native source" refused 9 core ping -q -c 1 -W 1 -I 2001:db8:ffff::5 fd00:5::1
	ip -n core addr del 2001:db8:ffff::5/128 dev n0
}

too_big() { # the core learns the MTU and then gets through
	ctl set utun0 5 udp 10.0.0.1:3653 10.0.0.2:5005 2001:db8:ffff::5 mtu 1300 session 3
	core ping -q -c 1 -W 2 -s 1300 -M "do" 2001:db8:ffff::5 >/dev/null 2>&1
	eventually mtu_known && core ping -q -c 2 -i 0.02 -W 3 -s 1300 2001:db8:ffff::5
}
mtu_known() { ip -n core -6 route get 2001:db8:ffff::5 | grep -q 'mtu 1300'; }

policed() {
	ctl set utun0 5 udp 10.0.0.1:3653 10.0.0.2:5005 2001:db8:ffff::5 session 4 rxrate 20000 txrate 20000
	core ping -q -f -c 300 -s 1200 -W 1 2001:db8:ffff::5
}

both_ways
answered
ok "exact counters" counted
ok "a changed tunnel keeps its counters" changed
spoofed
ok "Packet Too Big" too_big
ok "policing" refused 14 policed
tunnels

# Client devices: the tunnel's packets come and go by its own.
ok "client device" ip -n srv link add link utun0 name 0a000002_5005 type utun
ip -n srv link set 0a000002_5005 addrgenmode none
ip -n srv link set 0a000002_5005 up
ok "tunnel on it" ctl set utun0 5 udp 10.0.0.1:3653 10.0.0.2:5005 2001:db8:ffff::5 prefix 2a00:db8:500::/40 session 1 link 0a000002_5005
ip -n srv route add 2001:db8:ffff::5/128 dev 0a000002_5005
ok "it carries packets" via 2001:db8:ffff::5 pinged 2001:db8:ffff::5 fd00:5::2
received() { [ "$(srv cat /sys/class/net/0a000002_5005/statistics/rx_packets 2>/dev/null || ip -n srv -s -j link show 0a000002_5005 | sed 's/.*"rx":{"bytes":[0-9]*,"packets":\([0-9]*\).*/\1/')" -ge 3 ]; }
ok "and counts them" received
ok "it takes no second tunnel" not ctl set utun0 7 udp 10.0.0.1:3653 10.0.0.2:5007 2001:db8:ffff::7 link 0a000002_5005
ip -n srv link del 0a000002_5005
ok "without it the shared one serves" via 2001:db8:ffff::5 pinged 2001:db8:ffff::5 fd00:5::2

# The last counters; a batch with one that is not there.
ok "delete" sh -c "ip netns exec srv $UTUNCTL del utun0 5 6 99 | grep -c '^tunnel' | grep -qx 2"
ok "deleted" refused 3 via 2001:db8:ffff::5 pinged 2001:db8:ffff::5 fd00:5::2 1
