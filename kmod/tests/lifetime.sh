#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck source=common disable=SC2119
#
# Who dies first: daemons, sockets, devices, namespaces, the module (how daemons follow one another: daemons.sh); topology: common.
. "$(dirname "$0")/common"

topology
serve
tunnels
ip -n cl route replace fd00:5::/64 dev u0 src 2001:db8:ffff::5

flowing() { pinged 2001:db8:ffff::5 fd00:5::2 2 >/dev/null; }

ok "traffic" flowing

# A daemon that dies when the next has come, and one that dies alone.
last=$daemon
serve 10.0.0.1:3653 2
kill -9 "$last"
wait "$last" 2>/dev/null
ok "the next daemon alone has the port" not orphan
kill -9 "$daemon"
wait "$daemon" 2>/dev/null
ok "the kernel holds the port of a dead daemon" eventually orphan
serve 10.0.0.1:3653 3
ok "and gives it up to the next" eventually not orphan

# Nobody there.
kill -9 "$daemon"
wait "$daemon" 2>/dev/null
ok "traffic without a daemon" eventually flowing
ok "signalling without a daemon is dropped" refused 15 cl bash -c 'echo TSP >/dev/udp/10.0.0.1/3653'

# Keep policy: tunnels end two seconds after the last daemon.
serve 10.0.0.1:3653 4
ok "keep 2" configure keep 2
ok "tunnels stay when nothing changes" sh -c "ip netns exec srv $UTUNCTL show utun0 | grep -q '^tunnels 2'"
ip netns exec srv "$UTUNCTL" events >/tmp/events 2>&1 &
listener=$!
eventually grep -q listening /tmp/events
kill -9 "$daemon"
ok "expiry is told" eventually grep -q 'event 11' /tmp/events
ok "tunnels expired" sh -c "ip netns exec srv $UTUNCTL show utun0 | grep -q '^tunnels 0'"
ok "sockets too" not orphan
kill "$listener"

# Events.
configure keep 4294967295
serve 10.0.0.1:3653 5
ip netns exec srv "$UTUNCTL" events >/tmp/events 2>&1 &
listener=$!
eventually grep -q listening /tmp/events
tunnels
ok "traffic again" flowing
ok "first packet is told" eventually grep -q 'event 9' /tmp/events
ctl set utun0 5 udp 10.0.0.1:3653 10.0.0.2:5999 2001:db8:ffff::5 session 1
pinged 2001:db8:ffff::5 fd00:5::2 1 >/dev/null
ok "a changed port is told" eventually grep -q 'event 10' /tmp/events
kill "$listener"
tunnels

# Rights: CAP_NET_ADMIN in the user namespace that owns the network namespace, no other.
forbidden() { srv unshare -U -r "$UTUNCTL" show utun0 2>&1 | grep -q EPERM; }
ok "no rights" forbidden
ok "rights in one's own" unshare -U -r -n sh -c "ip link add utun0 type utun && $UTUNCTL dev utun0 local 127.0.0.1:9 && $UTUNCTL show utun0"

# The device under traffic.
ip netns exec cl ping -q -f -i 0 -c 20000 -W 1 -I 2001:db8:ffff::5 fd00:5::2 >/dev/null 2>&1 &
flow=$!
for _ in 1 2 3; do
	ok "device ends under traffic" ip -n srv link del utun0
	ok "and comes back" device
	eventually kill -9 "$daemon" 2>/dev/null
	serve 10.0.0.1:3653 6
	tunnels
done
ok "traffic after that" eventually flowing

# The namespace, with a daemon's socket open and in use; then the module.
kill -9 "$daemon"
ok "module goes under traffic" rmmod utun
ok "and comes back" insmod "$UTUN"
ok "device" device
serve 10.0.0.1:3653 7
tunnels
ok "traffic with the new module" eventually flowing
ip netns del srv
kill -9 "$daemon"
kill "$flow" 2>/dev/null
gone() { ! lsmod | grep -q '^utun '; }
unload() { rmmod utun 2>/dev/null; gone; }
ok "module goes after the namespace" eventually unload
