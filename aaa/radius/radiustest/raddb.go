// SPDX-License-Identifier: GPL-2.0-or-later

package radiustest

const radiusd = `
confdir = $ENV{RADDB}
logdir = ${confdir}
radacctdir = ${confdir}/acct
run_dir = ${confdir}
libdir = /usr/lib/freeradius
certdir = ${confdir}/certs
cadir = ${confdir}/certs
max_requests = 65536
cleanup_delay = 2
security {
	max_attributes = 200
	reject_delay = 0
	status_server = yes
	allow_vulnerable_openssl = yes
}
proxy_requests = no
thread pool {
	start_servers = 4
	max_servers = 16
	min_spare_servers = 2
	max_spare_servers = 16
	max_requests_per_server = 0
	auto_limit_acct = no
}
$INCLUDE clients.conf
modules {
	$INCLUDE mods-enabled/
}
policy {
	$INCLUDE policy.d/
}
$INCLUDE sites-enabled/
`

const clients = `
client test {
	ipaddr = 127.0.0.0/8
	secret = ` + Secret + `
	require_message_authenticator = yes
}
`

const modules = `
pap {
	normalise = yes
}
digest {
}
expr {
	safe_characters = "@abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_: /"
}
files {
	usersfile = ${confdir}/users
	acctusersfile = ${confdir}/empty
}
detail {
	filename = ${radacctdir}/detail
	permissions = 0600
	header = "%t"
}
always ok {
	rcode = ok
}
always reject {
	rcode = reject
}
attr_filter attr_filter.access_reject {
	key = "%{User-Name}"
	filename = ${confdir}/attr_access_reject
}
`
