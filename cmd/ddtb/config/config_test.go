// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"strings"
	"testing"

	"ddtb/provision/lease"
)

// minimal is the least that a configuration must say.
const minimal = `[server]
ipv6 = "2001:db8:f000::1"
resolvers = ["2001:db8:53::53"]

[[pool]]
name = "homes"
endpoints = "2001:db8:f000:1::/112"
prefixes = "2001:db8:1000::/40"
`

func TestConfigMinimal(t *testing.T) {
	config, err := Parse("t.toml", []byte("\ufeff"+minimal)) // with the mark that some editors put there
	if err != nil {
		t.Fatal(err)
	}
	pool := config.Pools[0]
	if pool.PrefixLength != 56 || pool.Size != 65536 {
		t.Errorf("pool completed as %+v", pool)
	}
	if config.Server.Port != 3653 || config.Log.Level != "info" {
		t.Errorf("defaults lost: %+v", config.Server)
	}
	wantUsable(t, config)
}

// wantUsable demands that the rooms the configuration is for find nothing more to complain of.
func wantUsable(t *testing.T, config Config) {
	t.Helper()
	if config.Server.Name == "" {
		config.Server.Name = "node"
	}
	settings := config.Settings()
	if err := settings.Validate(); err != nil {
		t.Errorf("the broker refuses it: %v", err)
	}
	if err := lease.Validate(settings.Pools, config.Server.IPv6); err != nil {
		t.Errorf("the lease store refuses it: %v", err)
	}
	if err := config.TSP.Limits(0).Validate(); err != nil {
		t.Errorf("the protocol server refuses it: %v", err)
	}
}

// TestConfigMistakes holds what an operator reads after each kind of mistake. In text, M stands for the lines of
// minimal, which are 8.
func TestConfigMistakes(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"syntax", "[server\n", []string{`t.toml:1: not TOML: expected ']' to close table name`}},
		{"key twice", "[log]\nlevel = \"info\"\nlevel = \"info\"\n", []string{`t.toml:3: not TOML: key level is already defined`}},
		{"unknown section", "M[snmp]\nname = \"x\"\n", []string{`t.toml:9: snmp: unknown section: expected one of aaa, anonymous, control, datapath, fleet, lease, log, metrics, pool, redis, server, session, tsp`}},
		{"unknown section like another", "M[sesion]\n", []string{`t.toml:9: sesion: unknown section: did you mean "session"?`}},
		{"unknown key", "M[session]\nlife_time = \"1d\"\n", []string{`t.toml:10: session.life_time: unknown key: did you mean "lifetime"?`}},
		{"upper case key", "M[log]\nLevel = \"info\"\n", []string{`t.toml:10: log.Level: unknown key: did you mean "level"?`}},
		{"two at once", "M[log]\nlevel = 3\ncolour = true\n", []string{
			`t.toml:10: log.level: 3: expected "debug", "info", "warn" or "error"`,
			`t.toml:11: log.colour: unknown key: expected one of format, level`,
		}},
		{"number for a duration", "M[session]\nlifetime = 30\n", []string{`t.toml:10: session.lifetime: 30: expected a duration with its unit such as "30s", "5m", "12h" or "7d"`}},
		{"duration without unit", "M[session]\nlifetime = \"30\"\n", []string{`t.toml:10: session.lifetime: "30": expected a duration with its unit such as "30s", "5m", "12h" or "7d"`}},
		{"text for a number", "M[session]\nlimit = \"1\"\n", []string{`t.toml:10: session.limit: "1": expected a whole number, 0 or more`}},
		{"negative", "M[session]\nlimit = -1\n", []string{`t.toml:10: session.limit: -1: expected a whole number, 0 or more`}},
		{"text for a bool", "M[anonymous]\nenabled = \"yes\"\n", []string{`t.toml:10: anonymous.enabled: "yes": expected true or false`}},
		{"section twice", "M[server]\n", []string{`t.toml:9: not TOML: table server already exists`}},
		{"word not in the list", "M[datapath]\ndriver = \"dpdk\"\n", []string{`t.toml:10: datapath.driver: "dpdk": expected "auto", "utun", "xdp" or "null"`}},
		{"element of an array", "M[tsp]\nmechanisms = [\n \"PLAIN\",\n \"LOGIN\",\n]\n", []string{`t.toml:12: tsp.mechanisms: "LOGIN": expected "DIGEST-MD5", "CRAM-MD5" or "PLAIN"`}},
		{"value for an array", "M[tsp]\nmechanisms = \"PLAIN\"\n", []string{`t.toml:10: tsp.mechanisms: "PLAIN": expected an array, each "DIGEST-MD5", "CRAM-MD5" or "PLAIN"`}},
		{"one bracket", "[pool]\nname = \"x\"\n", []string{`t.toml:1: pool: one section of several: expected [[pool]] with two brackets`}},
		{"two brackets", "[[server]]\nname = \"x\"\n", []string{`t.toml:1: server: there is one such section only: expected [server] with one bracket`}},
		{"value for a section", "server = 3\n", []string{`t.toml:1: server: 3: expected a section`}},
		{"section for a value", "M[log.level]\nx = 1\n", []string{`t.toml:9: log.level: a section header where a value is expected: "debug", "info", "warn" or "error"`}},
	} {
		t.Run(test.name, func(t *testing.T) { wantProblems(t, strings.ReplaceAll(test.text, "M", minimal), test.want) })
	}
}

func wantProblems(t *testing.T, text string, want []string) {
	t.Helper()
	_, err := Parse("t.toml", []byte(text))
	if err == nil {
		t.Fatalf("no error; want %q", want)
	}
	if got := err.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// TestConfigMeaning holds what an operator reads when each key can be read but the whole makes no sense. In text, M
// stands for the lines of minimal, and "S key = value" for one more key in its [server].
func TestConfigMeaning(t *testing.T) {
	second := func(lines string) string { return minimal + "\n[[pool]]\nname = \"more\"\n" + lines }
	server := func(line string) string { return strings.Replace(minimal, "\n\n", "\n"+line+"\n\n", 1) }
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"empty file", "", []string{
			`t.toml: server.ipv6: missing: expected the server's own IPv6 address inside the tunnels, such as "2001:db8::1"`,
			`t.toml: server.resolvers: missing: expected the DNS resolvers that clients are told of, such as ["2001:db8::53"]`,
			`t.toml: pool: missing: expected at least one [[pool]] to give addresses from`,
		}},
		{"port 0", server(`port = 0`), []string{`t.toml:4: server.port: 0: expected a port from 1 to 65535; TSP's is 3653`}},
		{"port too large", server(`port = 65536`), []string{`t.toml:4: server.port: 65536: expected a whole number from 0 to 65535`}},
		{"wildcard", server(`listen = ["192.0.2.1", "0.0.0.0"]`), []string{
			`t.toml:4: server.listen: 0.0.0.0: expected an address this host owns; a tunnel has one certain address at each end`}},
		{"address twice", server(`listen = ["192.0.2.1", "192.0.2.1"]`), []string{`t.toml:4: server.listen: 192.0.2.1: stands here twice`}},
		{"not an address", server(`listen = ["tb.example.net"]`), []string{
			`t.toml:4: server.listen: "tb.example.net": expected an IP address such as "192.0.2.1" or "2001:db8::1"`}},
		{"IPv4 as the server's IPv6", strings.Replace(minimal, "2001:db8:f000::1", "192.0.2.1", 1), []string{
			`t.toml:2: server.ipv6: 192.0.2.1: expected a unicast IPv6 address of yours`}},
		{"IPv4 resolver", strings.Replace(minimal, "2001:db8:53::53", "192.0.2.53", 1), []string{
			`t.toml:3: server.resolvers: 192.0.2.53: expected a unicast IPv6 address, reached through the tunnel`}},
		{"relative state", server(`state = "lib"`), []string{`t.toml:4: server.state: "lib": expected an absolute path of a directory`}},
		{"server among the endpoints", strings.Replace(minimal, "2001:db8:f000::1", "2001:db8:f000:1::7", 1), []string{
			`t.toml:2: server.ipv6: 2001:db8:f000:1::7 is one of the endpoints of pool "homes", 2001:db8:f000:1:: to 2001:db8:f000:1::ffff: expected an address outside`}},
		{"server in a prefix", strings.Replace(minimal, "2001:db8:f000::1", "2001:db8:1000::1", 1), []string{
			`t.toml:2: server.ipv6: 2001:db8:1000::1 lies in the prefixes of pool "homes", 2001:db8:1000::/40: expected an address outside`}},
		{"pool without ranges", second(""), []string{
			`t.toml:10: pool.endpoints: missing: expected a range of IPv6 addresses from /64 to /127, host bits zero, such as "2001:db8:f000:1::/112"`}},
		{"pool without name", "M[[pool]]\nendpoints = \"2001:db8:f000:2::/112\"\n", []string{
			`t.toml:9: pool.name: "": expected 1 to 32 of a-z, 0-9, "-" and "_"`}},
		{"same name", strings.ReplaceAll(second("endpoints = \"2001:db8:f000:2::/112\"\n"), "more", "homes"), []string{
			`t.toml:11: pool.name: "homes": there is another pool of that name`}},
		{"host bits", second("endpoints = \"2001:db8:f000:2::1/112\"\n"), []string{
			`t.toml:12: pool.endpoints: 2001:db8:f000:2::1/112: expected a range of IPv6 addresses from /64 to /127, host bits zero, such as "2001:db8:f000:1::/112"`}},
		{"IPv4 range", second("endpoints = \"192.0.2.0/24\"\n"), []string{
			`t.toml:12: pool.endpoints: 192.0.2.0/24: expected a range of IPv6 addresses from /64 to /127, host bits zero, such as "2001:db8:f000:1::/112"`}},
		{"endpoints overlap", second("endpoints = \"2001:db8:f000:1::/120\"\n"), []string{
			`t.toml:12: pool.endpoints: 2001:db8:f000:1::/120 overlaps the endpoints of pool "homes", 2001:db8:f000:1::/112`}},
		{"prefixes overlap", second("endpoints = \"2001:db8:f000:2::/112\"\nprefixes = \"2001:db8:1080::/48\"\n"), []string{
			`t.toml:13: pool.prefixes: 2001:db8:1080::/48 overlaps the prefixes of pool "homes", 2001:db8:1000::/40`}},
		{"endpoints in another's prefixes", second("endpoints = \"2001:db8:1000:2::/112\"\n"), []string{
			`t.toml:12: pool.endpoints: 2001:db8:1000:2::/112 overlaps the prefixes of pool "homes", 2001:db8:1000::/40`}},
		{"endpoints in the own prefixes", second("endpoints = \"2001:db8:2000:2::/112\"\nprefixes = \"2001:db8:2000::/40\"\n"), []string{
			`t.toml:13: pool.prefixes: 2001:db8:2000::/40 overlaps the pool's endpoints 2001:db8:2000:2::/112: expected two ranges apart, since a client uses the first address of its prefix itself`}},
		{"prefix longer than /64", "Mprefix_length = 65\n", []string{
			`t.toml:9: pool.prefix_length: 65: expected 41 to 64, the length of one subscriber's prefix out of 2001:db8:1000::/40`}},
		{"length of no range", second("endpoints = \"2001:db8:f000:2::/112\"\nprefix_length = 64\n"), []string{
			`t.toml:13: pool.prefix_length: 64 of what range: expected the key prefixes beside it`}},
		{"size beyond the ranges", "Msize = 65537\n", []string{`t.toml:9: pool.size: 65537: endpoints and prefixes hold 65536`}},
		{"size 1", "Msize = 1\n", []string{`t.toml:9: pool.size: 1: expected 2 or more, since index 0 is never given out`}},
		{"too many indices", second("endpoints = \"2001:db8:f000:2::/64\"\nsize = 16777216\n"), []string{
			`t.toml:10: pool: the pools have 16842752 indices together: expected at most 16777216; set size`}},
		{"limits of tsp", "M[tsp]\nburst = 0\ntimeout = \"10s\"\n", []string{
			`t.toml:10: tsp.burst: 0: expected 1 or more`,
			`t.toml:11: tsp.timeout: 10s is shorter than auth_timeout, 30s: it counts from the first message too`}},
		{"realm", "M[tsp]\nrealm = \"a,b\"\n", []string{
			`t.toml:10: tsp.realm: bad realm "a,b": comma, quote, backslash, control characters and invalid UTF-8 are not allowed`}},
		{"redirect with a port", "M[tsp]\nredirect = [\"192.0.2.9:3653\"]\n", []string{
			`t.toml:10: tsp.redirect: "192.0.2.9:3653": expected an address or a host name, without port`}},
		{"no tunnels", "M[tsp]\ntunnels = []\n", []string{`t.toml:10: tsp.tunnels: none: expected "v6udpv4", "v6v4" or both`}},
		{"mechanism twice", "M[tsp]\nmechanisms = [\"PLAIN\", \"PLAIN\"]\n", []string{`t.toml:10: tsp.mechanisms: "PLAIN" stands here twice`}},
		{"lifetime", "M[session]\nlifetime = \"30s\"\n", []string{`t.toml:10: session.lifetime: 30s: expected 1m to 365d`}},
		{"keepalive outside its bounds", "M[session]\nkeepalive = \"5s\"\n", []string{`t.toml:10: session.keepalive: 5s: expected 10s to 5m`}},
		{"idle below keepalive", "M[session]\nidle_timeout = \"5s\"\n", []string{
			`t.toml:10: session.idle_timeout: 5s: expected 10s, keepalive_min, or more; or "0s" for none`}},
		{"interim", "M[aaa]\ninterim = \"10s\"\n", []string{`t.toml:10: aaa.interim: 10s: expected 1m to 30d`}},
		{"session limit", "M[session]\nlimit = 257\n", []string{`t.toml:10: session.limit: 257: expected 1 to 256`}},
		{"lease ttl", "M[lease]\nttl = \"20s\"\n", []string{`t.toml:10: lease.ttl: 20s: expected 40s to 30d`}},
		{"mtu", "M[datapath]\nmtu = 1000\n", []string{`t.toml:10: datapath.mtu: 1000: expected 1280 to 9000 octets`}},
		{"interface", "M[datapath]\nuplinks = [\"eth0\", \"a/b\"]\n", []string{
			`t.toml:10: datapath.uplinks: "a/b": expected an interface name, 1 to 15 characters without blank and slash`}},
		{"pin path", "M[datapath]\npin_path = \"ddtb\"\n", []string{`t.toml:10: datapath.pin_path: "ddtb": expected an absolute path in a bpf file system, such as "/sys/fs/bpf/ddtb"`}},
		{"anonymous without pool", "M[anonymous]\nenabled = true\n", []string{
			`t.toml:9: anonymous.pool: missing: expected the name of a [[pool]] for logins without account`}},
		{"anonymous in no pool", "M[anonymous]\nenabled = true\npool = \"guests\"\n", []string{
			`t.toml:11: anonymous.pool: no pool "guests": expected one of "homes"`}},
		{"nobody", "M[aaa]\nbackends = []\n", []string{`t.toml:10: aaa.backends: none, and anonymous.enabled is false: nobody could log in`}},
		{"control socket", "M[control]\nsocket = \"control.sock\"\n", []string{
			`t.toml:10: control.socket: "control.sock": expected an absolute path of at most 107 octets`}},
		{"metrics", "M[metrics]\nlisten = \":9653\"\n", []string{
			`t.toml:10: metrics.listen: ":9653": expected an address and port such as "127.0.0.1:9653", or "" for none`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := test.text
			if rest, found := strings.CutPrefix(text, "M"); found {
				text = minimal + rest
			}
			wantProblems(t, text, test.want)
		})
	}
}

// TestDuration reads what it writes, and refuses what has no unit.
func TestDuration(t *testing.T) {
	for _, text := range []string{"0s", "30s", "1m30s", "5m", "12h", "1h30m", "7d", "36h", "1500ms"} {
		var first, second Duration
		if err := first.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if err := second.UnmarshalText([]byte(first.String())); err != nil || first != second {
			t.Errorf("%s was written as %s, read as %v, %v", text, first, second, err)
		}
	}
	for _, text := range []string{"", "30", "-5s", "d", "-1d", "1.5d", "99999d", "5 m"} {
		if err := new(Duration).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(minimal)
	f.Add(Reference)
	f.Add("a = {b = [[1,2],{c=3}]}\n[x.y]\n[[pool]]\npool = [{name = 3}]")
	f.Fuzz(func(t *testing.T, text string) {
		if config, err := Parse("f", []byte(text)); err == nil {
			wantUsable(t, config)
		}
	})
}
