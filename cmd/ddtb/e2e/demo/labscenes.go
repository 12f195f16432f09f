// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ddtb/cmd/ddtb/e2e"
	"ddtb/provision/control"
)

// startTime is how long the start of a program, or what follows from silence, may take on a busy machine.
const startTime = 40 * time.Second

// playLab plays the scenes of the lab.
func (s *stage) playLab(contrib string) error {
	l, err := newLab(s, contrib)
	if err != nil {
		return err
	}
	return s.scenesOf([]scene{
		{"An ISP with two tunnel servers", l.isp2},
		{"The office: FreeRADIUS, slapd, Redis", l.officeScene},
		{"Two tunnel servers", l.servers},
		{"Alice logs in at ts1; RADIUS knows her", l.aliceScene},
		{"Bob logs in at ts1; the directory knows him", l.bobScene},
		{"What Redis shows", l.redisScene},
		{"Alice logs in at ts2, and keeps her addresses", l.move},
		{"Maintenance: ts1 is drained", l.drain},
		{"The Redis master dies", l.failover},
		{"The NOC disconnects Bob", l.disconnect},
		{"ts2 dies", l.death},
		{"What was billed", l.bill},
	})
}

func (l *lab) isp2() error {
	l.say(`Nine network namespaces are the machines of an ISP and of its customers:

    lan ── natted ── router ──┐              ┌── server ──┐
           Alice     NAT      ├── internet ──┤    ts1     ├── beyond
           open ──────────────┘   IPv4 only  └── server2 ─┘   IPv6 only
           Bob                                    ts2
                                           │        │
                                           └ office ┘   FreeRADIUS, slapd, Redis
`)
	return l.run(l.office, "ip", "-brief", "address")
}

func (l *lab) officeScene() error {
	l.say(`The ISP has what it has: FreeRADIUS with the files of contrib/freeradius, a directory of people, and a Redis master with a
replica and a Sentinel. Alice is known to RADIUS, Bob to the directory.
`)
	if err := l.startOffice(); err != nil {
		return err
	}
	text, err := l.cli(l.ctx, "info", "replication")
	l.prompt(l.office, "redis-cli", "-h", "10.0.0.1", "info", "replication", "|", "grep", "-E", "role|slave0")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "role") || strings.HasPrefix(line, "slave0") {
			l.say("    %s", strings.TrimSpace(line))
		}
	}
	l.say("")
	return err
}

func (l *lab) servers() error {
	l.say(`Both servers have the same configuration but for their own names and addresses. BIRD on each tells the core, with the snippet of
contrib/bird, which subscribers it has.
`)
	core, err := l.put(l.one.Dir, "core.conf")
	if err != nil {
		return err
	}
	err = errors.Join(
		l.startServer(l.one, "ts1", e2e.ServerIPv4.String(), e2e.TunnelIPv6.String(), "10.1.0.2"),
		l.startServer(l.two, "ts2", secondIPv4, "2001:db8:f000::2", "10.2.0.2"),
		l.bird(l.one.Beyond, core),
	)
	if err != nil {
		return err
	}
	if err := l.file(l.one.Server, l.one.ConfigFile()); err != nil {
		return err
	}
	for _, isp := range []*e2e.ISP{l.one, l.two} {
		if err := l.run(isp.Server, isp.Program("ddtb"), "check", "-c", isp.ConfigFile()); err != nil {
			return err
		}
		l.prompt(isp.Server, "ddtb", "-c", isp.ConfigFile(), "&")
		if err := isp.Start(); err != nil {
			return err
		}
		l.print(isp.Daemon().Output())
	}
	if err := l.states(l.two, map[string]string{"ts1": "serving", "ts2": "serving"}); err != nil {
		return err
	}
	return l.ctlAt(l.one, "server", "list")
}

// client starts a tspc that tries these servers, shows its configuration and what it says, and waits for its tunnel.
func (l *lab) client(host *e2e.Host, user, lines string, servers ...string) (*e2e.Subscriber, error) {
	list := `"` + strings.Join(servers, `", "`) + `"`
	text := fmt.Sprintf("server = [%s]\nuser = %q\npassword = %q\nkeepalive = \"1s\"\nrun_dir = %q\n%s", list, user, password,
		filepath.Join(l.one.Dir, host.Name), lines)
	file := l.one.ClientFile(host)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := l.file(host, file); err != nil {
		return nil, err
	}
	l.prompt(host, "tspc", "-c", file, "&")
	process, err := host.Start(l.one.Program("tspc"), "-c", file)
	if err != nil {
		return nil, err
	}
	client := &e2e.Subscriber{Host: host, Process: process}
	address, err := client.Up()
	l.print(process.Output())
	if before, known := l.where[user]; err == nil && known && before != address {
		err = fmt.Errorf("%s has the address %s, and had %s", user, address, before)
	}
	l.where[user] = address
	return client, err
}

const asRouter = "[router]\nenable = true\nlan = [\"" + e2e.LAN + "\"]\n"

func (l *lab) aliceScene() error {
	l.say("She is behind a NAT and wants a prefix for her LAN. FreeRADIUS verifies DIGEST-MD5 and is told of the session.\n")
	var err error
	if l.alice, err = l.client(l.one.Natted, "alice", asRouter, e2e.ServerIPv4.String(), secondIPv4); err != nil {
		return err
	}
	if err := l.carries("alice", l.one.Natted, l.one, nil); err != nil {
		return err
	}
	if err := l.record("alice", "Start"); err != nil {
		return err
	}
	return l.run(l.one.Beyond, "ip", "-6", "route", "show", "proto", "bird")
}

func (l *lab) bobScene() error {
	l.say("No NAT: plain IPv6 in IPv4. ts2 knows of both sessions.\n")
	var err error
	if l.bob, err = l.client(l.one.Open, "bob", "", e2e.ServerIPv4.String(), secondIPv4); err != nil {
		return err
	}
	if err := l.carries("bob", l.one.Open, l.one, nil); err != nil {
		return err
	}
	if err := l.everywhere(l.two, map[string]string{"alice": "ts1", "bob": "ts1"}); err != nil {
		return err
	}
	return l.ctlAt(l.two, "session", "list", "--all-nodes")
}

func (l *lab) redisScene() error {
	l.say("Everything there is readable:\n")
	session, err := l.one.Session("alice")
	if err != nil {
		return err
	}
	for _, command := range [][]string{
		{"hgetall", "ddtb:session:" + session.ID},
		{"hgetall", "ddtb:node:ts1"},
		{"xrevrange", "ddtb:events", "+", "-", "COUNT", "1"},
	} {
		if err := l.run(l.office, "redis-cli", append([]string{"-h", "10.0.0.1"}, command...)...); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) move() error {
	l.say("Her computer is moved, say, and its client asks ts2. The old one did not say goodbye: ts1 thinks she is still there.\n")
	before, err := l.one.Session("alice")
	if err != nil {
		return err
	}
	l.alice.Process.Kill()
	if err := l.clean(l.alice); err != nil {
		return err
	}
	begin := time.Now()
	if l.alice, err = l.client(l.one.Natted, "alice", asRouter, secondIPv4, e2e.ServerIPv4.String()); err != nil {
		return err
	}
	up := time.Since(begin)
	if err := l.one.Gone("alice"); err != nil {
		return err
	}
	l.say("Her tunnel at ts2 was up after %d ms, the one at ts1 gone %d ms after that at the most.\n", up.Milliseconds(), (time.Since(begin) - up).Milliseconds())
	if err := l.carries("alice", l.one.Natted, l.two, l.one); err != nil {
		return err
	}
	after, err := l.two.Session("alice")
	if err == nil && (before.Prefix == nil || after.Prefix == nil || *after.Prefix != *before.Prefix) {
		err = fmt.Errorf("the prefix was %v and is %v", before.Prefix, after.Prefix)
	}
	if err != nil {
		return err
	}
	return l.record("alice", "Stop")
}

func (l *lab) drain() error {
	l.say("New clients are sent to ts2; Bob's session is ended, his client notices, comes back and is sent there, too.\n")
	if err := l.ctlAt(l.two, "server", "drain", "ts1"); err != nil {
		return err
	}
	if err := l.everywhere(l.two, map[string]string{"alice": "ts2", "bob": "ts2"}); err != nil {
		return err
	}
	if err := l.carries("bob", l.one.Open, l.two, l.one); err != nil {
		return err
	}
	l.print(l.bob.Process.Output())
	if err := l.states(l.two, map[string]string{"ts1": "drained"}); err != nil {
		return err
	}
	if err := l.ctlAt(l.two, "server", "list"); err != nil {
		return err
	}
	l.say("ts1 could be rebooted now. It serves again:\n")
	if err := l.ctlAt(l.one, "server", "drain", "--undo"); err != nil {
		return err
	}
	return l.states(l.two, map[string]string{"ts1": "serving"})
}

func (l *lab) failover() error {
	l.say("While Alice exchanges 1,000 packets a second with beyond, the master is killed. The Sentinel makes the replica master.\n")
	flow, err := e2e.StartFlow(l.one.Natted, l.where["alice"], l.one.Beyond, e2e.BeyondIPv6)
	if err != nil {
		return err
	}
	l.prompt(l.office, "kill", "-9", fmt.Sprint(l.redis.ID()))
	l.redis.Kill()
	err = e2e.Await(startTime, func() error {
		state, err := l.cli(l.ctx, "-p", "26379", "sentinel", "get-master-addr-by-name", "ddtb")
		if err == nil && !strings.Contains(state, "6380") {
			err = fmt.Errorf("the master is still %s", state)
		}
		return err
	})
	if err == nil {
		err = l.states(l.one, map[string]string{"ts1": "serving", "ts2": "serving"})
	}
	if err == nil {
		err = l.everywhere(l.one, map[string]string{"alice": "ts2", "bob": "ts2"})
	}
	if err = errors.Join(err, l.count("Alice", flow)); err != nil {
		return err
	}
	if err := l.ctlAt(l.one, "session", "list", "--all-nodes"); err != nil {
		return err
	}
	l.say("Carol has never been here. After the grace of three seconds she gets a lease that nobody has:\n")
	carol, err := l.client(l.one.Router, "carol", "", e2e.ServerIPv4.String())
	if err != nil {
		return err
	}
	for _, user := range []string{"alice", "bob"} {
		if l.where[user] == l.where["carol"] {
			return fmt.Errorf("carol and %s have the same address", user)
		}
	}
	if err := l.one.Beyond.Reaches(l.where["carol"]); err != nil {
		return err
	}
	return carol.Stop()
}

func (l *lab) disconnect() error {
	l.say("By RADIUS (RFC 5176), from the office. His client comes back at once, as nobody locked the account.\n")
	before, err := l.two.Session("bob")
	if err != nil {
		return err
	}
	dir := filepath.Join(l.one.Dir, "radius")
	err = l.run(l.office, "radclient", "-d", "/usr/share/freeradius", "-D", "/usr/share/freeradius", "-f", filepath.Join(dir, "disconnect"), "10.2.0.2:3799", "disconnect", labSecret)
	if err != nil {
		return err
	}
	return e2e.Await(startTime, func() error {
		for _, isp := range []*e2e.ISP{l.one, l.two} {
			sessions, err := e2e.List[control.Session](isp, "session", "list", "--user", "bob")
			if err != nil {
				return err
			}
			if len(sessions) == 1 && sessions[0].ID != before.ID && sessions[0].State == "active" {
				return nil
			}
		}
		return errors.New("bob is not back")
	})
}

func (l *lab) death() error {
	l.say("Its cables are cut and its daemon is killed. Nobody tells the clients; they notice, and find ts1.\n")
	sessions, err := e2e.List[control.Session](l.two, "session", "list")
	if err != nil {
		return err
	}
	l.died = len(sessions)
	if err := errors.Join(l.two.Server.Down(e2e.Uplink), l.two.Server.Down(e2e.Core), l.two.Server.Down("mgmt0")); err != nil {
		return err
	}
	l.two.Daemon().Kill()
	for _, user := range []string{"alice", "bob"} {
		if err := e2e.Await(startTime, func() error { _, err := l.one.Session(user); return err }); err != nil {
			return err
		}
	}
	for user, host := range map[string]*e2e.Host{"alice": l.one.Natted, "bob": l.one.Open} {
		if err := l.carries(user, host, l.one, nil); err != nil {
			return err
		}
	}
	if err := l.states(l.one, map[string]string{"ts2": "gone"}); err != nil {
		return err
	}
	return errors.Join(l.ctlAt(l.one, "server", "list"), l.ctlAt(l.one, "session", "list"))
}

func (l *lab) bill() error {
	l.say("The clients log out and ts1 ends. Each session has one Start and one Stop; only those that died with ts2 have none.\n")
	for _, client := range []*e2e.Subscriber{l.alice, l.bob} {
		if err := client.Stop(); err != nil {
			return err
		}
	}
	if err := l.one.Empty(); err != nil {
		return err
	}
	err := e2e.Await(startTime, l.balanced)
	if err != nil {
		return err
	}
	return l.one.Stop()
}
