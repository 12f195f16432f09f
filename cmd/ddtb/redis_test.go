// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ddtb/cmd/ddtb/config"
	"ddtb/provision/control"
	"ddtb/provision/redis/redistest"
	"ddtb/tsp"
)

const redisGuide = "../../contrib/redis.md"

// redisSite is a site whose leases are in server, for the user that the guide has made.
func redisSite(t *testing.T, server *redistest.Server) *site {
	t.Helper()
	setuser := regexp.MustCompile(`(?m)^    ACL SETUSER (.*)$`).FindStringSubmatch(readText(t, redisGuide))
	if setuser == nil {
		t.Fatal("the guide makes no user")
	}
	command := []any{"ACL", "SETUSER"}
	for _, word := range strings.Fields(strings.Replace(setuser[1], "PASSWORD", "wonderful", 1)) {
		command = append(command, word)
	}
	if err := server.Client().Do(t.Context(), command...).Err(); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	password := filepath.Join(s.dir, "redis.password")
	if err := os.WriteFile(password, []byte("wonderful\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.lines["session"] = fmt.Sprintf("sweep = \"1s\"\n[lease]\nstore = \"redis\"\ngrace = \"1s\"\n[redis]\naddresses = [%q]\nusername = \"ddtb\"\npassword_file = %q\ntimeout = \"5s\"",
		server.Addr, password)
	return s
}

// loginSoon logs in once the grace of the new pool is over.
func loginSoon(t *testing.T, s *site, user string) {
	t.Helper()
	const pace = 300 * time.Millisecond // within what one client address may do
	for deadline := time.Now().Add(patience); ; time.Sleep(pace) {
		_, err := s.login(t, "udp", tsp.Client{User: user, Password: "secret"}, tsp.Request{Type: tsp.V6UDPV4})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("login of %s: not within %v: %v", user, patience, err)
		}
	}
}

// TestRedisGuide follows contrib/redis.md: its user, its configuration, and every line of redis-cli in it.
func TestRedisGuide(t *testing.T) {
	server := redistest.Start(t)
	s := redisSite(t, server)
	r := s.start(t)
	r.addUser(t, "alice", "secret")
	loginSoon(t, s, "alice")
	lines := regexp.MustCompile(`(?m)^    (redis-cli .*)$`).FindAllStringSubmatch(readText(t, redisGuide), -1)
	want := []string{
		`(?s)endpoint\n2001:db8:f000:1::\n.*epoch\n\d+\n.*size\n65536\n`, `^1\n$`,
		`^alice\ntest\n[0-9a-f]+\nactive\n\d{13}\n\d{13}\n2001:db8:f000:1::1\n2001:db8:1000:100::/56\n$`, `^1\n$`, `^1\n\d{13}\n$`, `^\n?$`,
		`^test\n\d{13}\n$`, `^[0-9a-f]+\n\d+\n$`, `(?s)user\nalice\n.*client\n`, `(?s)login\n`,
		`^\n?$`,
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines of redis-cli, want %d", len(lines), len(want))
	}
	host, port, _ := net.SplitHostPort(server.Addr)
	for i, line := range lines {
		text := strings.ReplaceAll(line[1], "redis-cli ", "redis-cli -h "+host+" -p "+port+" ")
		out := ""
		matches := func() bool {
			b, err := exec.Command("sh", "-c", text).CombinedOutput()
			if out = string(b); err != nil {
				t.Fatalf("%s: %v: %s", line[1], err, out)
			}
			return regexp.MustCompile(want[i]).MatchString(out)
		}
		for deadline := time.Now().Add(patience); !matches(); time.Sleep(50 * time.Millisecond) { // sessions are written behind the login
			if time.Now().After(deadline) {
				t.Errorf("%s\n%s\nwant %s", line[1], out, want[i])
				break
			}
		}
	}
	_, metrics := get(t, "http://"+s.metrics+"/metrics")
	for _, key := range regexp.MustCompile("`(ddtb_[a-z_]+)`").FindAllStringSubmatch(readText(t, redisGuide), -1) {
		if !strings.Contains(metrics, key[1]) {
			t.Errorf("%s: no such metric", key[1])
		}
	}
	if strings.Contains(r.logs.String(), "wonderful") {
		t.Error("the password stands in the log")
	}
}

// TestStandIn follows contrib/redis.md for a server of which the disk is left: a daemon of its name elsewhere gives the Stop
// record of each of its sessions, and takes no subscriber.
func TestStandIn(t *testing.T) {
	server := redistest.Start(t)
	old, other := redisSite(t, server), redisSite(t, server)
	old.lines["session"] += "\n[aaa]\naccounting = \"log\""
	other.lines["session"] += "\n[aaa]\naccounting = \"log\"\n[fleet]\nbalance = \"always\""
	r := old.start(t)
	r.addUser(t, "alice", "secret")
	loginSoon(t, old, "alice")
	session := r.sessions(t)[0].ID
	if err := r.stop(); err != nil { // its tunnels stay, and its leases
		t.Fatal(err)
	}
	heir := other.start(t)
	stop := regexp.MustCompile(`"status":"Stop","session":"` + session + `"`)
	await(t, "the Stop record", func() bool { return stop.MatchString(heir.logs.String()) })
	await(t, "no session", func() bool { return len(heir.sessions(t)) == 0 })
	heir.addUser(t, "bob", "secret")
	if _, err := other.login(t, "udp", tsp.Client{User: "bob", Password: "secret"}, tsp.Request{Type: tsp.V6UDPV4}); err == nil {
		t.Error("a subscriber got a tunnel of the daemon that stands in")
	}
	if err := heir.stop(); err != nil {
		t.Fatal(err)
	}
	back := old.start(t)
	await(t, "the old server is back", func() bool { return strings.Contains(back.logs.String(), `"recovered"`) })
	for name, logs := range map[string]string{"the daemon that stands in": heir.logs.String(), "the old server": r.logs.String() + back.logs.String()} {
		want := map[bool]int{true: 1, false: 0}[strings.HasPrefix(name, "the daemon")]
		if n := len(stop.FindAllString(logs, -1)); n != want {
			t.Errorf("%s gave %d Stop records, expected %d", name, n, want)
		}
	}
}

// TestBury follows contrib/redis.md for a server that does not come back: another one gives the Stop record of each of its
// sessions, in its name, and its subscribers' addresses are theirs there. It is refused while the server is alive.
func TestBury(t *testing.T) {
	server := redistest.Start(t)
	old, other := redisSite(t, server), redisSite(t, server)
	old.lines["session"] += "\n[aaa]\naccounting = \"log\""
	other.lines["session"] += "\n[aaa]\naccounting = \"log\""
	old.name = "lost"
	r, heir := old.start(t), other.start(t)
	r.addUser(t, "alice", "secret")
	heir.addUser(t, "alice", "secret")
	loginSoon(t, old, "alice")
	session := r.sessions(t)[0]
	bury := func() (control.Burial, error) { return heir.ctl.Bury(t.Context(), "lost", control.BurialRequest{}) }
	refused := func(err error) {
		t.Helper()
		var e *control.Error
		if !errors.As(err, &e) || e.Status != http.StatusConflict {
			t.Errorf("a server that is alive: %v", err)
		}
	}
	_, err := bury()
	refused(err)
	if err := r.stop(); err != nil { // its tunnels stay, and its leases
		t.Fatal(err)
	}
	_, err = bury()
	refused(err) // it may have been started anew
	await(t, "the end of its heartbeat", func() bool {
		nodes, err := heir.ctl.Nodes(t.Context())
		return err == nil && slices.ContainsFunc(nodes, func(n control.Node) bool { return n.Name == "lost" && n.State == "gone" })
	})
	if done, err := bury(); err != nil || done != (control.Burial{Ended: 1, Released: 1}) {
		t.Fatalf("buried: %+v, %v", done, err)
	}
	stop := regexp.MustCompile(`"status":"Stop","session":"` + session.ID + `"`)
	if n := len(stop.FindAllString(heir.logs.String(), -1)); n != 1 {
		t.Errorf("%d Stop records; log:\n%s", n, heir.logs)
	}
	loginSoon(t, other, "alice")
	if again := heir.sessions(t)[0]; again.Endpoint != session.Endpoint || again.Prefix != session.Prefix {
		t.Errorf("alice has %v and %v, had %v and %v", again.Endpoint, again.Prefix, session.Endpoint, session.Prefix)
	}
	back := old.start(t)
	await(t, "the old server is back", func() bool { return strings.Contains(back.logs.String(), `"recovered"`) })
	if all := back.sessions(t); len(all) != 0 || stop.MatchString(r.logs.String()+back.logs.String()) {
		t.Errorf("the old server has %+v; log:\n%s", all, back.logs)
	}
}

// TestRedisAway: while Redis is away a subscriber with a tunnel here gets it again, another is told to try later.
func TestRedisAway(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes")
	s := redisSite(t, server)
	r := s.start(t)
	r.addUser(t, "alice", "secret")
	r.addUser(t, "bob", "secret")
	loginSoon(t, s, "alice")
	before := r.sessions(t)[0]
	server.Kill()
	if _, err := s.login(t, "udp", tsp.Client{User: "bob", Password: "secret"}, tsp.Request{Type: tsp.V6UDPV4}); err == nil || !strings.Contains(err.Error(), "521") {
		t.Errorf("bob: %v, want 521", err)
	}
	loginSoon(t, s, "alice")
	await(t, "alice's second session", func() bool {
		all := r.sessions(t)
		return len(all) == 1 && all[0].ID != before.ID && all[0].Endpoint == before.Endpoint
	})
	server.Run()
	if err := server.Client().Do(context.Background(), "ACL", "SETUSER", "ddtb", "on", ">wonderful", "~ddtb:*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	loginSoon(t, s, "bob")
}

// TestRestartWhileRedisAway: a daemon that is started while Redis is away goes on with its subscribers, and ends their tunnels when
// their leases have ended; Redis is told, and billing, when it is there again. One that has nobody does not start.
func TestRestartWhileRedisAway(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := redisSite(t, server)
	s.lines["session"] = strings.Replace(s.lines["session"], "grace = ", "ttl = \"8s\"\nquarantine = \"8s\"\ngrace = ", 1) + "\n[aaa]\naccounting = \"log\""
	r := s.start(t)
	r.addUser(t, "alice", "secret")
	r.addUser(t, "bob", "secret")
	loginSoon(t, s, "alice")
	before := r.sessions(t)[0]
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	r = s.start(t)
	if all := r.sessions(t); len(all) != 1 || all[0].ID != before.ID || all[0].Endpoint != before.Endpoint {
		t.Fatalf("sessions are %+v, expected %+v", all, before)
	}
	loginSoon(t, s, "alice") // known here
	again := r.sessions(t)[0]
	if _, err := s.login(t, "udp", tsp.Client{User: "bob", Password: "secret"}, tsp.Request{Type: tsp.V6UDPV4}); err == nil || !strings.Contains(err.Error(), "521") {
		t.Errorf("bob: %v, want 521", err)
	}
	await(t, "the end of the session", func() bool { return len(r.sessions(t)) == 0 })
	server.Run()
	if err := server.Client().Do(context.Background(), "ACL", "SETUSER", "ddtb", "on", ">wonderful", "~ddtb:*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	stop := func(id string) *regexp.Regexp { return regexp.MustCompile(`"status":"Stop","session":"` + id + `"`) }
	await(t, "the Stop record", func() bool { return stop(again.ID).MatchString(r.logs.String()) })
	await(t, "nothing left", func() bool { return r.broker.Status().Ending == 0 })
	loginSoon(t, s, "bob")
	for _, id := range []string{before.ID, again.ID} {
		if n := len(stop(id).FindAllString(r.logs.String(), -1)); n != 1 {
			t.Errorf("%d Stop records of %s", n, id)
		}
	}
}

// TestCheckRedis: ddtb check tells what is wrong with Redis.
func TestCheckRedis(t *testing.T) {
	server := redistest.Start(t)
	s := redisSite(t, server)
	s.write(t)
	conf, err := load(s.file(), loopback())
	if err != nil {
		t.Fatal(err)
	}
	if f := checkRedis(t.Context(), conf); f.bad || !strings.Contains(f.detail, ", 0 replicas") {
		t.Errorf("%+v", f)
	}
	if err := os.WriteFile(conf.Redis.PasswordFile, []byte("guess"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := checkRedis(t.Context(), conf); !f.bad || !strings.Contains(f.detail, "password or user refused") || strings.Contains(f.detail, "guess") {
		t.Errorf("%+v", f)
	}
}

// TestRedisOnePassword: one file may hold the password of both the server and its Sentinels.
func TestRedisOnePassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("wonderful\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var c config.Config
	c.Redis.PasswordFile, c.Redis.SentinelPasswordFile = file, file
	o, err := redisOptions(c)
	if err != nil || o.Password != "wonderful" || o.SentinelPassword != "wonderful" {
		t.Errorf("passwords of %d and %d octets: %v", len(o.Password), len(o.SentinelPassword), err)
	}
}
