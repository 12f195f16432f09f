// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/cmd/tspc/agent"
	"ddtb/tsp"
	"ddtb/tsp/tsptest"
)

// beyond is somebody on the IPv6 Internet.
const beyond = "2001:db8:ffff::1"

// TestRootLogin: each way to get a tunnel leads to one that works, and leaves nothing behind.
func TestRootLogin(t *testing.T) {
	for _, test := range []struct {
		name      string
		nat       bool
		lines     string
		kind      tsp.TunnelType
		transport string
	}{
		{"NAT discovery without NAT", false, "", tsp.V6V4, "udp"},
		{"NAT discovery behind NAT", true, "", tsp.V6UDPV4, "udp"},
		{"v6udpv4 without NAT", false, "tunnel = \"v6udpv4\"\nmechanism = \"plain\"", tsp.V6UDPV4, "udp"},
		{"v6v4 over TCP", false, "tunnel = \"v6v4\"\ntransport = \"tcp\"\nmechanism = \"cram-md5\"", tsp.V6V4, "tcp"},
		{"v6v4 by a raw socket", false, "tunnel = \"v6v4\"\nproto41 = \"raw\"\nmechanism = \"digest-md5\"", tsp.V6V4, "udp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			if test.nat {
				l.masquerade()
			}
			s := l.serve(1, nil)
			before := l.snapshot("client")
			c := l.start(account, test.lines)
			up := c.next(agent.Up)
			if up.Type != string(test.kind) || up.Transport != test.transport || up.Address != s.Endpoint ||
				up.Endpoint != "192.0.2.1:3653" || up.MTU != 1400 || up.Keepalive != 1 {
				t.Errorf("up: %+v", up)
			}
			l.ping("client", s.Offer.ServerIPv6.String())
			l.ping("client", beyond, "-M", "do", "-s", "1352") // 1400 octets
			l.checkStatus(up)
			if err := c.stop(); err != nil {
				t.Errorf("exit: %v", err)
			}
			if after := l.snapshot("client"); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if left, _ := filepath.Glob(l.runDir() + "/*"); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
			if tunnels := s.Tunnels(); len(tunnels) != 0 {
				t.Errorf("the server was not told: %v", tunnels)
			}
			if _, inner := s.seen(); !slices.Equal(inner, []netip.Addr{up.Address}) {
				t.Errorf("inner sources %v, want the tunnel address alone", inner)
			}
			if !strings.Contains(c.said(), fmt.Sprintf("tunnel up: address %v server 192.0.2.1:3653 (%s)", up.Address, test.kind)) {
				t.Error("the log does not say that the tunnel is up")
			}
		})
	}
}

// checkStatus compares what `tspc status` and the file of name servers say with an event.
func (l *lab) checkStatus(up record) {
	l.t.Helper()
	var status record
	out := l.in("client", l.tspc, "status", "--json", "-c", filepath.Join(l.dir, "tspc.toml"))
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.Address != up.Address || status.Event != agent.Up {
		l.t.Errorf("status: %v\n%s", err, out)
	}
	if out := l.in("client", l.tspc, "status", "--run-dir", l.runDir()); !strings.Contains(out, "address    "+up.Address.String()) {
		l.t.Errorf("status:\n%s", out)
	}
	resolv, err := os.ReadFile(l.runDir() + "/tspc0.resolv.conf")
	if err != nil || !strings.Contains(string(resolv), "nameserver 2001:db8:cafe::1\n") {
		l.t.Errorf("name servers: %v\n%s", err, resolv)
	}
}

func TestRootAnonymous(t *testing.T) {
	l := newLab(t)
	l.masquerade()
	s := l.serve(1, nil)
	c := l.start("server = [\"192.0.2.1\"]")
	c.next(agent.Up)
	l.ping("client", beyond)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	if tunnels := s.Tunnels(); len(tunnels) > 1 {
		t.Errorf("tunnels: %v", tunnels)
	}
}

// TestRootSystemd: the service manager hears what it needs, and gives the password.
func TestRootSystemd(t *testing.T) {
	l := newLab(t)
	l.serve(1, nil)
	path := l.dir + "/notify"
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := os.WriteFile(l.dir+"/tspc.password", []byte(tsptest.Password+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("CREDENTIALS_DIRECTORY", l.dir)
	c := l.start(`server = ["192.0.2.1"]`, fmt.Sprintf("user = %q", tsptest.User))
	up := c.next(agent.Up)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	var heard []string
	for buf := make([]byte, 1000); len(heard) == 0 || heard[len(heard)-1] != "STOPPING=1"; {
		if err := socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, heard)
		}
		heard = append(heard, string(buf[:n]))
	}
	if heard[0] != "READY=1" || !slices.Contains(heard, fmt.Sprintf("STATUS=tunnel up: address %v server 192.0.2.1:3653 (v6v4)", up.Address)) {
		t.Errorf("heard %q", heard)
	}
}

// TestRootKeepaliveLoss: a tunnel that no longer answers is replaced, over a new source port.
func TestRootKeepaliveLoss(t *testing.T) {
	l := newLab(t)
	l.masquerade()
	s := l.serve(1, nil)
	c := l.start(account)
	c.next(agent.Up)
	l.ping("client", beyond)
	s.listen(false)
	if down := c.next(agent.Down); !strings.Contains(down.Error, "tunnel is dead: "+s.Offer.ServerIPv6.String()) {
		t.Errorf("down: %q", down.Error)
	}
	s.listen(true)
	c.next(agent.Up)
	l.ping("client", beyond)
	if senders, _ := s.seen(); len(senders) < 2 {
		t.Errorf("outer sources %v, want a new one", senders)
	}
}

// TestRootServerRestart: the server comes back and knows nobody.
func TestRootServerRestart(t *testing.T) {
	l := newLab(t)
	s := l.serve(1, nil)
	c := l.start(account, `tunnel = "v6udpv4"`)
	first := c.next(agent.Up)
	address := l.in("client", "ip", "-o", "-6", "address", "show", "dev", "tspc0")
	s.stop()
	c.next(agent.Down)
	if route := l.in("client", "ip", "-6", "route", "show", "default"); route != "" {
		t.Errorf("default route into a dead tunnel: %s", route)
	}
	if now := l.in("client", "ip", "-o", "-6", "address", "show", "dev", "tspc0"); now != address {
		t.Errorf("addresses were %q, are %q", address, now)
	}
	if failed := c.next(agent.Failed); !strings.Contains(failed.Error, "no tunnel broker is running there") &&
		!strings.Contains(failed.Error, "no answer") {
		t.Errorf("failed: %q", failed.Error)
	}
	s = l.serve(1, nil)
	if again := c.next(agent.Up); again.Address != first.Address {
		t.Errorf("address %v, was %v", again.Address, first.Address)
	}
	l.ping("client", beyond)
	if len(s.Tunnels()) != 1 {
		t.Error("the new server has no tunnel")
	}
}

func redirectTo(addresses ...string) func(*tsptest.Backend) {
	return func(b *tsptest.Backend) {
		for _, address := range addresses {
			b.Offered.Redirect = append(b.Offered.Redirect, tsp.Broker{Addr: netip.MustParseAddr(address)})
		}
	}
}

func TestRootRedirect(t *testing.T) {
	l := newLab(t)
	l.serve(1, redirectTo("192.0.2.2"))
	l.serve(2, redirectTo("192.0.2.1", "192.0.2.3")) // back and on
	l.serve(3, nil)
	c := l.start(account, "transport = \"tcp\"") // over UDP a stranger gets a list no longer than his request
	if redirected := c.next(agent.Redirected); !slices.Equal(redirected.Brokers, []string{"192.0.2.2"}) {
		t.Errorf("redirected: %+v", redirected)
	}
	if up := c.next(agent.Up); up.Endpoint != "192.0.2.3:3653" {
		t.Errorf("up: %+v", up)
	}
	l.ping("client", beyond)
}

// TestRootRedirectionLoop: two servers that send us to each other are a failed round, not a storm.
func TestRootRedirectionLoop(t *testing.T) {
	l := newLab(t)
	l.serve(1, redirectTo("192.0.2.2"))
	l.serve(2, redirectTo("192.0.2.1"))
	c := l.start(account)
	if failed := c.next(agent.Failed); !strings.Contains(failed.Error, "asked already") {
		t.Errorf("failed: %+v", failed)
	}
	c.next(agent.Waiting)
}

// TestRootRouter: the LAN behind the client gets addresses and the Internet, and loses them at the end.
func TestRootRouter(t *testing.T) {
	l := newLab(t)
	l.masquerade()
	s := l.serve(1, nil)
	before := l.snapshot("client")
	c := l.start(account, "[router]\nenable = true\nprefix_length = 56\nlan = [\"lan0\"]")
	if up := c.next(agent.Up); up.Prefix != s.Prefix {
		t.Errorf("prefix %v, want %v", up.Prefix, s.Prefix)
	}
	l.ping("lan", beyond) // waits for address and route by router advertisement
	_, inner := s.seen()
	if !slices.ContainsFunc(inner, s.Prefix.Contains) {
		t.Errorf("inner sources %v, want one of the prefix", inner)
	}
	if mtu := l.in("lan", "ip", "-6", "route", "get", beyond); !strings.Contains(mtu, "mtu 1400") {
		t.Errorf("the LAN does not know the tunnel's MTU: %s", mtu)
	}
	// What of the prefix is on no LAN does not go back and forth through the tunnel.
	out, err := exec.Command("ip", "netns", "exec", l.prefix+"lan", "ping", "-c", "1", "-W", "1", "2001:db8:1234:99::1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nreachable") {
		t.Errorf("ping into the unused part of the prefix: %v\n%s", err, out)
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	if after := l.snapshot("client"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	l.await("the LAN has no router", func() error {
		if route := l.in("lan", "ip", "-6", "route", "show", "default"); route != "" {
			return fmt.Errorf("route %q", route)
		}
		return nil
	})
}

// TestRootKilled: a successor takes back what a killed tspc left, and two at a time are refused.
func TestRootKilled(t *testing.T) {
	l := newLab(t)
	l.serve(1, nil)
	before := l.snapshot("client")
	router := "[router]\nenable = true\nlan = [\"lan0\"]"
	c := l.start(account, router)
	c.next(agent.Up)
	second := l.startWith(filepath.Join(l.dir, "tspc.toml"))
	if err := second.wait(); err == nil || !strings.Contains(second.said(), "in use by another tspc") {
		t.Errorf("second tspc: %v\n%s", err, second.said())
	}
	c.kill(unix.SIGKILL)
	_ = c.wait()
	if l.snapshot("client") == before {
		t.Fatal("nothing was left: this test proves nothing")
	}
	c = l.start(account, router)
	c.next(agent.Up)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	if after := l.snapshot("client"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestRootInterfaceRemoved: somebody deletes the tunnel interface; it comes back.
func TestRootInterfaceRemoved(t *testing.T) {
	l := newLab(t)
	l.serve(1, nil)
	c := l.start(account)
	c.next(agent.Up)
	l.in("client", "ip", "link", "delete", "tspc0")
	c.next(agent.Down)
	c.next(agent.Up)
	l.ping("client", beyond)
}

// TestRootNewNetwork: the client moves to another address, and its tunnel with it, long before the keepalive misses it.
func TestRootNewNetwork(t *testing.T) {
	l := newLab(t)
	s := l.serve(1, nil)
	c := l.start(strings.Replace(account, "1s", "1h", 1), `tunnel = "v6udpv4"`)
	c.next(agent.Up)
	l.in("client", "ip", "-4", "address", "flush", "dev", "wan")
	l.in("client", "ip", "address", "add", "10.0.0.7/24", "dev", "wan")
	l.in("client", "ip", "route", "add", "default", "via", "10.0.0.1")
	if down := c.next(agent.Down); down.Error != "the network changed" {
		t.Errorf("down: %q", down.Error)
	}
	if up := c.next(agent.Up); up.Local != netip.MustParseAddr("10.0.0.7") {
		t.Errorf("up: %+v", up)
	}
	l.ping("client", beyond)
	if senders, _ := s.seen(); !slices.ContainsFunc(senders, func(a netip.AddrPort) bool { return a.Addr().String() == "10.0.0.7" }) {
		t.Errorf("outer sources %v", senders)
	}
}

// TestRootRefused: a wrong password is told in so many words, and --once ends with a failure.
func TestRootRefused(t *testing.T) {
	l := newLab(t)
	l.serve(1, nil)
	c := l.startWith(l.file(`server = ["192.0.2.1"]`, `user = "alice"`, `password = "wrong one"`), "--once", "--json")
	err := c.wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		t.Errorf("exit: %v", err)
	}
	for _, want := range []string{`192.0.2.1: user or password refused for user "alice" (300 Authentication failed)`, `"event":"failed"`} {
		if !strings.Contains(c.said(), want) {
			t.Errorf("%q is not in\n%s", want, c.said())
		}
	}
	if strings.Contains(c.said(), "wrong one") {
		t.Error("the password is in the output")
	}
	c = l.startWith(l.file(`server = ["192.0.2.1"]`, `user = "alice"`, `password = "wrong one"`), "--json")
	if waiting := c.next(agent.Waiting); waiting.Retry < 15 {
		t.Errorf("a wrong password is tried again after %v s", waiting.Retry)
	}
}

// TestRootMissingLAN: the message names what is missing, and the tunnel comes once it is there.
func TestRootMissingLAN(t *testing.T) {
	l := newLab(t)
	s := l.serve(1, nil)
	c := l.start(account, "[router]\nenable = true\nlan = [\"br9\"]")
	if down := c.next(agent.Down); !strings.Contains(down.Error, "interface br9: Link not found") {
		t.Errorf("down: %q", down.Error)
	}
	c.next(agent.Waiting)
	if tunnels := s.Tunnels(); len(tunnels) != 0 {
		t.Errorf("an unusable tunnel was kept: %v", tunnels)
	}
	l.in("client", "ip", "link", "add", "br9", "type", "veth", "peer", "name", "br9p")
	l.in("client", "ip", "link", "set", "br9", "up")
	c.next(agent.Up)
}
