// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"ddtb/provision/control"
	"ddtb/provision/datapath/datapathtest/slow"
)

// redisPort is where Redis listens on the tunnel server's host, which is a network of its own.
const redisPort = "6379"

// leaseTTL is how long a lease lasts that nobody extends: long enough for a busy machine to start a daemon in two thirds of it.
var leaseTTL = slow.Times(40 * time.Second)

// runRedis starts a Redis on the tunnel server's host that keeps what it has.
func runRedis(t *testing.T, internet *Internet) *Process {
	t.Helper()
	redis, err := internet.Server.Start("redis-server", "--port", redisPort, "--bind", "127.0.0.1", "--dir", internet.Dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always")
	must(t, err)
	show(t, redis)
	must(t, Await(patience, func() error {
		return internet.Server.Do(func() error {
			conn, err := net.DialTimeout("tcp", "127.0.0.1:"+redisPort, time.Second)
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	}))
	return redis
}

// TestRootRestartWithoutRedis: the daemon is killed, and Redis with it. The kernel forwards, and the next daemon goes on with the
// session, without Redis and without a packet lost, until its lease has ended; then nothing is forwarded any more, and the Stop
// record, given when Redis is there again, tells when that was.
func TestRootRestartWithoutRedis(t *testing.T) {
	internet := raise(t)
	redis := runRedis(t, internet)
	dir, err := programs()
	must(t, err)
	isp, err := NewISP(internet, dir, Settings{"session": `sweep = "1s"
keepalive_min = "1s"
[lease]
store = "redis"
ttl = "` + leaseTTL.String() + `"
quarantine = "10s"
grace = "1s"
[redis]
addresses = ["127.0.0.1:` + redisPort + `"]
`})
	must(t, err)
	launch(t, isp)
	_, address := subscribe(t, isp, internet.Natted, "alice", "")
	before, err := isp.Session("alice")
	must(t, err)
	up, err := StartFlow(internet.Natted, address, internet.Beyond, BeyondIPv6)
	must(t, err)
	down, err := StartFlow(internet.Beyond, netip.Addr{}, internet.Natted, address)
	must(t, err)

	isp.Daemon().Kill()
	redis.Kill()
	must(t, up.Await(100, patience)) // a while without both
	launch(t, isp)
	again, err := isp.Session("alice")
	must(t, err)
	if again.ID != before.ID || again.Endpoint != before.Endpoint {
		t.Errorf("session is %+v, was %+v", again, before)
	}
	must(t, up.Await(100, patience))
	lossless(t, internet, up, down)
	must(t, Await(patience, func() error { // it waits for Redis with its Stop record
		sessions, err := List[control.Session](isp, "session", "list", "--user", "alice")
		if err == nil && (len(sessions) != 1 || sessions[0].ID != before.ID || sessions[0].State != "ending") {
			err = fmt.Errorf("sessions are %+v, expected one that is ending", sessions)
		}
		return err
	}))
	ended := time.Now()
	if lasted := ended.Sub(before.Since); lasted < leaseTTL {
		t.Errorf("the session ended after %s, before its lease", lasted)
	}
	stop := regexp.MustCompile(`Stop.*` + before.ID + `|` + before.ID + `.*Stop`)
	if said := isp.Daemon().Output(); stop.MatchString(said) {
		t.Errorf("a Stop record was given without Redis:\n%s", said)
	}
	runRedis(t, internet)
	must(t, Await(patience, func() error {
		if n := len(stop.FindAllString(isp.Daemon().Output(), -1)); n != 1 {
			return fmt.Errorf("%d Stop records", n)
		}
		return nil
	}))
	now, err := isp.Session("alice") // her client came back by itself
	must(t, err)
	if now.ID == before.ID || now.Endpoint != before.Endpoint {
		t.Errorf("session is %+v, was %+v", now, before)
	}
	if !strings.Contains(isp.Daemon().Output(), "lease store away") {
		t.Error("nobody was told that Redis was away")
	}
}
