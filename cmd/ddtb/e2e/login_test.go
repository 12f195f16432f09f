// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ddtb/provision/control"
)

// Every mechanism and every encapsulation, from behind a NAT and without one: the client gets an address of the pool,
// the session says what was asked for, and packets pass both ways.
func TestRootLogin(t *testing.T) {
	isp := serve(t, nil)
	for i, c := range []struct {
		host       *Host
		mechanism  string
		tunnel     string
		transport  string
		encap      string
		port       bool // the client's outer address has one
		anonymous  bool
		clientAddr netip.Addr
	}{
		{host: isp.Natted, mechanism: "any", tunnel: "v6anyv4", transport: "auto", encap: "v6udpv4", clientAddr: RouterIPv4},
		{host: isp.Natted, mechanism: "plain", tunnel: "v6udpv4", transport: "udp", encap: "v6udpv4", clientAddr: RouterIPv4},
		{host: isp.Natted, mechanism: "digest-md5", tunnel: "v6anyv4", transport: "udp", encap: "v6udpv4", clientAddr: RouterIPv4},
		{host: isp.Natted, mechanism: "anonymous", tunnel: "v6anyv4", transport: "auto", encap: "v6udpv4", anonymous: true, clientAddr: RouterIPv4},
		{host: isp.Open, mechanism: "any", tunnel: "v6anyv4", transport: "auto", encap: "v6v4", clientAddr: OpenIPv4},
		{host: isp.Open, mechanism: "cram-md5", tunnel: "v6anyv4", transport: "tcp", encap: "v6v4", clientAddr: OpenIPv4},
		{host: isp.Open, mechanism: "digest-md5", tunnel: "v6v4", transport: "tcp", encap: "v6v4", clientAddr: OpenIPv4},
		{host: isp.Open, mechanism: "plain", tunnel: "v6udpv4", transport: "udp", encap: "v6udpv4", clientAddr: OpenIPv4},
		{host: isp.Open, mechanism: "anonymous", tunnel: "v6v4", transport: "tcp", encap: "v6v4", anonymous: true, clientAddr: OpenIPv4},
	} {
		name := fmt.Sprintf("%s,%s,%s,%s", c.host.Name, c.mechanism, c.tunnel, c.transport)
		t.Run(name, func(t *testing.T) {
			user, pool := fmt.Sprintf("user%d", i), Endpoints
			if c.anonymous {
				user, pool = "", Guests
			}
			client, address := subscribe(t, isp, c.host, user,
				fmt.Sprintf("mechanism = %q\ntunnel = %q\ntransport = %q", c.mechanism, c.tunnel, c.transport))
			if !pool.Contains(address) {
				t.Errorf("address %s is not of the pool %s", address, pool)
			}
			session := only(t, isp)
			if session.Endpoint != address || session.Encap != c.encap || session.Client.Addr() != c.clientAddr ||
				session.State != "active" || session.Anonymous != c.anonymous || !c.anonymous && session.User != user {
				t.Errorf("session %+v: not the one of %s at %s", session, name, address)
			}
			if (session.Client.Port() != 0) != (c.encap == "v6udpv4") {
				t.Errorf("client %s of a %s tunnel", session.Client, c.encap)
			}
			must(t, c.host.Reaches(BeyondIPv6))
			must(t, c.host.Reaches(TunnelIPv6))
			must(t, isp.Beyond.Reaches(address))
			carry(t, c.host, address, isp.Beyond, BeyondIPv6)
			must(t, client.Stop())
			must(t, isp.Empty())
		})
	}
}

// only gives the one session there is.
func only(t *testing.T, isp *ISP) control.Session {
	t.Helper()
	sessions, err := List[control.Session](isp, "session", "list")
	must(t, err)
	if len(sessions) != 1 {
		t.Fatalf("sessions %+v, want one", sessions)
	}
	return sessions[0]
}

// Who may not have a tunnel is told so, in words, and gets none.
func TestRootRefused(t *testing.T) {
	isp := serve(t, nil)
	must(t, isp.AddUser("alice", password))
	must(t, isp.AddUser("mallory", password))
	_, err := isp.Ctl("user", "disable", "mallory")
	must(t, err)
	for _, c := range []struct{ user, password, mechanism string }{
		{"alice", "wrong", "any"},
		{"alice", "wrong", "plain"},
		{"alice", "wrong", "cram-md5"},
		{"mallory", password, "any"},
		{"nobody", password, "plain"},
	} {
		t.Run(c.user+","+c.password+","+c.mechanism, func(t *testing.T) {
			client, err := isp.Subscribe(isp.Natted, c.user, c.password, fmt.Sprintf("mechanism = %q", c.mechanism))
			must(t, err)
			show(t, client.Process)
			_, err = client.Process.Says(fmt.Sprintf(`user or password refused for user %q .*300`, c.user), patience)
			must(t, err)
			if strings.Contains(client.Process.Output(), password) {
				t.Error("the client's log has the password")
			}
			if addresses, err := isp.Natted.Addresses(Device); err == nil && len(addresses) > 0 {
				t.Errorf("the client has addresses %v", addresses)
			}
			client.Process.Kill()
			must(t, isp.Empty())
		})
	}
	if log := isp.Daemon().Output(); strings.Contains(log, "wrong") && strings.Contains(log, password) {
		t.Error("the daemon's log has a password")
	}
}
