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
preprocess {
	huntgroups = ${confdir}/empty
	hints = ${confdir}/empty
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

// database is the sql module as the package freeradius-config has it, on a file of its own.
const database = `
sql {
	dialect = "sqlite"
	driver = "rlm_sql_sqlite"
	sqlite {
		filename = "${confdir}/database"
		busy_timeout = 200
		bootstrap = "/etc/freeradius/3.0/mods-config/sql/main/sqlite/schema.sql"
		bootstrap = "${confdir}/database.sql"
	}
	radius_db = "radius"
	acct_table1 = "radacct"
	acct_table2 = "radacct"
	postauth_table = "radpostauth"
	authcheck_table = "radcheck"
	groupcheck_table = "radgroupcheck"
	authreply_table = "radreply"
	groupreply_table = "radgroupreply"
	usergroup_table = "radusergroup"
	client_table = "nas"
	group_attribute = "SQL-Group"
	pool {
		start = 4
		min = 4
		max = 16
		spare = 16
		idle_timeout = 0
	}
	$INCLUDE /etc/freeradius/3.0/mods-config/sql/main/sqlite/queries.conf
}
`
