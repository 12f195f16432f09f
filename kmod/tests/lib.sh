# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the tests share. The topology, unless a test draws its own:
#
#     client                       server                          core
#     10.0.0.2 c0 ------------ s0 10.0.0.1
#       |                          s1 fd00:5::1 ------------ n0 fd00:5::2
#       u0, p0: sit over fou,      utun0: 2001:db8:ffff::1
#       sit alone
#
# The clients are the kernel's own: fou and sit. Tunnel 5 is UDP from 10.0.0.2:5005, tunnel 6 is protocol 41.

set -u
failed=0
server=2001:db8:fffe::1


ok() { # ok WHAT COMMAND...
	local what=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "ok: $what"
	else
		echo "FAIL: $what: $*"
		printf '%s\n' "$out" | tail -12
		failed=1
	fi
}

not() { ! "$@"; }

# eventually COMMAND...: waits up to ten seconds until it succeeds.
eventually() {
	local n
	for n in $(seq 100); do
		"$@" && return
		sleep 0.1
	done
	return 1
}

srv() { ip netns exec srv "$@"; }
cl() { ip netns exec cl "$@"; }
core() { ip netns exec core "$@"; }
ctl() { srv "$UTUNCTL" "$@"; }

# drops REASON: how many there are
drops() { ctl drops utun0 | awk -v r="$1" '$1 == "drop" && $2 == r { n = $4 } END { print n + 0 }'; }

# refused REASON COMMAND...: the command has packets dropped for the reason.
refused() {
	local reason=$1 before
	before=$(drops "$reason")
	shift
	"$@" >/dev/null 2>&1
	eventually more_than "$reason" "$before"
}
more_than() { [ "$(drops "$1")" -gt "$2" ]; }

configure() { # configure [KEY VALUE]...
	ctl dev utun0 local 10.0.0.1:3653 server "$server" mtu 1400 \
		pool 0,4096,2001:db8:ffff::,2a00:db8::/40 "$@"
}

topology() {
	local n
	for n in cl srv core; do
		ip netns add "$n"
		ip -n "$n" link set lo up
		ip netns exec "$n" sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 \
			net.ipv6.conf.default.router_solicitations=0
	done
	ip link add c0 netns cl type veth peer name s0 netns srv
	ip link add n0 netns core type veth peer name s1 netns srv
	ip -n cl addr add 10.0.0.2/24 dev c0
	ip -n cl addr add 10.0.0.3/24 dev c0
	ip -n srv addr add 10.0.0.1/24 dev s0
	ip -n srv addr add fd00:5::1/64 dev s1 nodad
	ip -n core addr add fd00:5::2/64 dev n0 nodad
	for n in cl:c0 srv:s0 srv:s1 core:n0; do ip -n "${n%:*}" link set "${n#*:}" up; done
	ip -n core route add default via fd00:5::1
	srv sysctl -qw net.ipv6.conf.all.forwarding=1
	insmod "$UTUN" 2>/dev/null
	device
	clients
}

device() {
	ip -n srv link add utun0 type utun
	ip -n srv link set utun0 up
	ip -n srv addr add "$server/128" dev utun0 nodad
	ip -n srv route add 2001:db8::/32 dev utun0
	ip -n srv route add 2a00:db8::/32 dev utun0
	configure
}

clients() {
	cl ip fou add port 5005 ipproto 41
	ip -n cl link add u0 type sit remote 10.0.0.1 local 10.0.0.2 ttl 64 encap fou encap-sport 5005 encap-dport 3653
	ip -n cl link add p0 type sit remote 10.0.0.1 local 10.0.0.3 ttl 64
	ip -n cl link set u0 up mtu 1400
	ip -n cl link set p0 up mtu 1400
	ip -n cl addr add 2001:db8:ffff::5/128 dev u0 nodad
	ip -n cl addr add 2a00:db8:500::1/128 dev u0 nodad
	ip -n cl addr add 2001:db8:ffff::6/128 dev p0 nodad
	ip -n cl route add "$server/128" dev u0 src 2001:db8:ffff::5
	ip -n cl route add fd00:5::/64 dev u0 src 2001:db8:ffff::5
}

tunnels() {
	ctl set utun0 5 udp 10.0.0.1:3653 10.0.0.2:5005 2001:db8:ffff::5 prefix 2a00:db8:500::/40 session 1
	ctl set utun0 6 ip 10.0.0.1 10.0.0.3 2001:db8:ffff::6 session 1
}

serve() { # a daemon; its process id is in $daemon
	srv "$UTUNCTL" serve utun0 "${1:-10.0.0.1:3653}" >/tmp/serve."${2:-1}" 2>&1 &
	daemon=$!
	eventually grep -q attached /tmp/serve."${2:-1}"
}

via() { # via SOURCE COMMAND...: the client's packets to the core go out by the tunnel of that source
	local from=$1 dev=u0
	shift
	[ "$from" != 2001:db8:ffff::6 ] || dev=p0
	ip -n cl route replace fd00:5::/64 dev "$dev" src "$from"
	"$@"
}

pinged() { cl ping -q -c "${3:-3}" -i 0.02 -W 3 -I "$1" "$2"; }
