// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"ddtb/cmd/ddtb/e2e"
)

//go:embed office
var office embed.FS

// labSecret is every secret of the lab.
const labSecret = "lab-secret"

// lab is an ISP with two tunnel servers, an office that knows the subscribers, and a core that knows where they are.
//
//	lan ── natted ── router ──┐              ┌── server ──┐
//	       Alice     NAT      ├── internet ──┤    ts1     ├── beyond
//	       open ──────────────┘   IPv4 only  └── server2 ─┘   IPv6 only
//	       Bob                                    ts2
//	                                           │        │
//	                                           └─office─┘ FreeRADIUS, slapd, Redis
type lab struct {
	*stage
	contrib string
	office  *e2e.Host
	one     *e2e.ISP // the server ts1
	two     *e2e.ISP
	redis   *e2e.Process // the first master
	birds   []*e2e.Process
	alice   *e2e.Subscriber
	bob     *e2e.Subscriber
	died    int                   // sessions that ts2 had when it died
	where   map[string]netip.Addr // subscribers' addresses in the tunnels
}

// secondIPv4 is ts2 on its uplink.
const secondIPv4 = "198.51.101.1"

// newLab raises what the demo has not: the second server and the office, with their cables.
func newLab(s *stage, contrib string) (*lab, error) {
	l := &lab{stage: s, one: s.isp, where: map[string]netip.Addr{}}
	var err error
	if l.contrib, err = filepath.Abs(contrib); err != nil {
		return nil, err
	}
	internet := s.isp.Internet
	second := *internet
	if second.Server, err = internet.Add("server2"); err != nil {
		return nil, err
	}
	if l.office, err = internet.Add("office"); err != nil {
		return nil, err
	}
	second.Dir = filepath.Join(internet.Dir, "ts2")
	l.two = &e2e.ISP{Internet: &second, Programs: s.isp.Programs}
	one, two := internet.Server, second.Server
	err = errors.Join(
		os.Mkdir(second.Dir, 0o700),
		two.Connect(e2e.Uplink, internet.Internet, "server2"),
		two.Connect(e2e.Core, internet.Beyond, "eth1"),
		one.Connect("mgmt0", l.office, "mgmt1"),
		two.Connect("mgmt0", l.office, "mgmt2"),
	)
	if err != nil {
		return nil, err
	}
	return l, errors.Join(
		internet.Internet.Address("server2", "198.51.101.254/24"),
		two.Address(e2e.Uplink, secondIPv4+"/24"),
		two.Route("0.0.0.0/0", "198.51.101.254"),
		two.Address(e2e.Core, "2001:db8:c::1/64"),
		internet.Beyond.Address("eth1", "2001:db8:c::2/64"),
		one.Route("::/0", e2e.BeyondIPv6.String()),
		two.Route("::/0", "2001:db8:c::2"),
		two.Sysctl("net.ipv6.conf.all.forwarding=1"),
		internet.Beyond.Sysctl("net.ipv6.conf.all.forwarding=1"),
		l.office.Address("lo", "10.0.0.1/32"),
		l.office.Address("mgmt1", "10.1.0.1/30"), one.Address("mgmt0", "10.1.0.2/30"), one.Route("10.0.0.1/32", "10.1.0.1"),
		l.office.Address("mgmt2", "10.2.0.1/30"), two.Address("mgmt0", "10.2.0.2/30"), two.Route("10.0.0.1/32", "10.2.0.1"),
	)
}

// put writes a file of the office folder, with words replaced, and gives where it lies.
func (l *lab) put(dir, name string, words ...string) (string, error) {
	text, err := office.ReadFile("office/" + name)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, name)
	return file, os.WriteFile(file, []byte(strings.NewReplacer(words...).Replace(string(text))), 0o600)
}

// folder makes a folder for one of the lab's programs.
func (l *lab) folder(name string) (string, error) {
	dir := filepath.Join(l.one.Dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

// startOffice starts FreeRADIUS, slapd and Redis with a replica and a Sentinel.
func (l *lab) startOffice() error {
	if err := errors.Join(l.startRADIUS(), l.startLDAP()); err != nil {
		return err
	}
	return l.startRedis()
}

func (l *lab) startRADIUS() error {
	dir, err := l.folder("radius")
	if err != nil {
		return err
	}
	site, err := os.ReadFile(filepath.Join(l.contrib, "freeradius", "site-ddtb"))
	if err != nil {
		return err
	}
	files := map[string]string{
		"site-ddtb":          strings.ReplaceAll(string(site), "ipaddr = *", "ipaddr = 10.0.0.1"),
		"dictionary":         "$INCLUDE /usr/share/freeradius/dictionary\n$INCLUDE dictionary.ddtb\n",
		"attr_access_reject": "DEFAULT\n\tReply-Message =* ANY,\n\tMessage-Authenticator =* ANY\n",
		"empty":              "",
		"disconnect":         "User-Name = \"bob\"\n",
	}
	for _, name := range []string{"policy-ddtb", "dictionary.ddtb"} {
		text, err := os.ReadFile(filepath.Join(l.contrib, "freeradius", name))
		if err != nil {
			return err
		}
		files[name] = string(text)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	_, err = l.put(dir, "users")
	if err == nil {
		_, err = l.put(dir, "radiusd.conf", "\"@abc", "\"@abc", "@", dir) // the first is no folder
	}
	if err != nil {
		return err
	}
	server, err := l.office.Start("freeradius", "-f", "-l", "stdout", "-d", dir)
	if err != nil {
		return err
	}
	_, err = server.Says("Ready to process requests", startTime)
	return err
}

func (l *lab) startLDAP() error {
	dir, err := l.folder("ldap")
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "db"), 0o700)
	}
	if err != nil {
		return err
	}
	conf, err := l.put(dir, "slapd.conf", "@", dir)
	if err != nil {
		return err
	}
	people, err := l.put(dir, "people.ldif")
	if err != nil {
		return err
	}
	if _, err := l.office.Run(l.ctx, "slapadd", "-f", conf, "-l", people); err != nil {
		return err
	}
	server, err := l.office.Start("slapd", "-f", conf, "-h", "ldap://10.0.0.1", "-d", "0")
	if err != nil {
		return err
	}
	return e2e.Await(startTime, func() error {
		if server.Ended() {
			return fmt.Errorf("slapd has ended: %s", server.Output())
		}
		_, err := l.office.Run(l.ctx, "ldapsearch", "-x", "-H", "ldap://10.0.0.1", "-s", "base", "-b", "")
		return err
	})
}

func (l *lab) startRedis() error {
	dir, err := l.folder("redis")
	if err != nil {
		return err
	}
	start := func(name string, args ...string) (*e2e.Process, error) {
		common := []string{"--bind", "10.0.0.1", "--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir", dir}
		process, err := l.office.Start(name, append(args, common...)...)
		if err != nil {
			return nil, err
		}
		_, err = process.Says("Ready to accept connections", startTime)
		return process, err
	}
	if l.redis, err = start("redis-server", "--port", "6379"); err != nil {
		return err
	}
	if _, err := start("redis-server", "--port", "6380", "--replicaof", "10.0.0.1 6379"); err != nil {
		return err
	}
	conf := filepath.Join(dir, "sentinel.conf")
	text := "bind 10.0.0.1\nprotected-mode no\nport 26379\nsentinel monitor ddtb 10.0.0.1 6379 1\n" +
		"sentinel down-after-milliseconds ddtb 1000\nsentinel failover-timeout ddtb 5000\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	if _, err := l.office.Start("redis-server", conf, "--sentinel"); err != nil {
		return err
	}
	return e2e.Await(startTime, func() error {
		state, err := l.cli(context.Background(), "-p", "26379", "info", "sentinel")
		if err == nil && !strings.Contains(state, "slaves=1") {
			return fmt.Errorf("the Sentinel knows of no replica: %s", state)
		}
		if err == nil {
			state, err = l.cli(context.Background(), "info", "replication")
		}
		if err == nil && !strings.Contains(state, "state=online") {
			err = fmt.Errorf("the replica is not ready: %s", state)
		}
		return err
	})
}

// cli runs redis-cli in the office.
func (l *lab) cli(ctx context.Context, args ...string) (string, error) {
	return l.office.Run(ctx, "redis-cli", append([]string{"-h", "10.0.0.1"}, args...)...)
}

// startServer writes a tunnel server's files and starts its BIRD; the daemon comes after.
func (l *lab) startServer(isp *e2e.ISP, name, ipv4, ipv6, mgmt string) error {
	secret := os.WriteFile(filepath.Join(isp.Dir, "secret"), []byte(labSecret+"\n"), 0o600)
	_, err := l.put(isp.Dir, "ddtb.toml", "NAME", name, "IPV4", ipv4, "IPV6", ipv6, "MGMT", mgmt, "DIR", isp.Dir,
		"PINS", filepath.Join(l.one.BPF(), name))
	if err = errors.Join(secret, err); err != nil {
		return err
	}
	snippet := filepath.Join(l.contrib, "bird", "ddtb-bird.conf")
	conf, err := l.put(isp.Dir, "bird.conf", "ROUTER", ipv4, "SNIPPET", snippet)
	if err != nil {
		return err
	}
	return l.bird(isp.Server, conf)
}

// bird starts a BIRD.
func (l *lab) bird(host *e2e.Host, conf string) error {
	process, err := host.Start("/usr/sbin/bird", "-f", "-c", conf, "-s", conf+".ctl")
	if err == nil {
		l.birds = append(l.birds, process)
	}
	return err
}
