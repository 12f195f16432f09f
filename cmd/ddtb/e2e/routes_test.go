// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ddtb/aaa/radius/radiustest"
	"ddtb/provision/control"
	"ddtb/tsp"
)

const routedUsers = `
alice	Cleartext-Password := "` + password + `"
	Framed-IPv6-Route = "2001:db8:8000::/48 :: 1", Framed-IPv6-Route += "2001:db8:8001::5/128", Framed-IPv6-Route += "2001:db8:8002:1::/64 :: 1 2 3"

bob	Cleartext-Password := "` + password + `"
	Delegated-IPv6-Prefix = "2001:db8:9000::/48", Delegated-IPv6-Prefix += "2001:db8:9002::/56"

mallory	Cleartext-Password := "` + password + `"
	Framed-IPv6-Route = "2001:db8:8000:7::/64 :: 1"

misled	Cleartext-Password := "` + password + `"
	Framed-IPv6-Route = "2001:db8:1000:100::/56 :: 1"
`

// TestRootRoutes: a FreeRADIUS has prefixes routed to a subscriber, which go through his tunnel both ways, and through nobody
// else's, also after a restart; his bill tells of them.
func TestRootRoutes(t *testing.T) {
	b := openBilling(t, routedUsers)
	alice, offer := b.router("alice")
	bob, _ := b.router("bob")
	addresses := []netip.Addr{
		offer.ClientIPv6, offer.Prefix.Addr().Next(),
		netip.MustParseAddr("2001:db8:8000:ffff::7"), netip.MustParseAddr("2001:db8:8001::5"), netip.MustParseAddr("2001:db8:8002:1::9"),
	}
	reach := func() {
		t.Helper()
		for _, address := range addresses {
			must(t, ping(alice, address, BeyondIPv6))
			must(t, ping(alice, address, TunnelIPv6))
			b.answered(alice, address)
		}
	}
	reach()
	for _, address := range []string{"2001:db8:9000::9", "2001:db8:9002::9"} { // both are delegated to him
		must(t, ping(bob, netip.MustParseAddr(address), BeyondIPv6))
		b.answered(bob, netip.MustParseAddr(address))
	}
	b.forged(bob, addresses...)
	b.forged(alice, netip.MustParseAddr("2001:db8:8001::6"), netip.MustParseAddr("2001:db8:8002:2::9"), netip.MustParseAddr("2001:db8:9000::9"), netip.MustParseAddr("2001:db8:9002::9"))

	var session control.Session
	must(t, b.isp.Get(&session, "session", "show", addresses[2].String()))
	want := "2001:db8:8000::/48 2001:db8:8001::5/128 2001:db8:8002:1::/64"
	if got := fmt.Sprint(session.Routes); session.User != "alice" || got != "["+want+"]" {
		t.Errorf("session %+v", session)
	}
	if text, err := b.isp.Ctl("session", "show", "alice"); err != nil || !strings.Contains(text, want) {
		t.Errorf("session show says %s, %v", text, err)
	}
	for _, user := range []string{"mallory", "misled"} {
		if socket, offer, err := b.login(user); err == nil {
			_ = socket.Close()
			t.Errorf("%s got %+v", user, offer)
		}
	}

	b.isp.Daemon().Kill()
	must(t, ping(alice, addresses[2], BeyondIPv6))
	launch(t, b.isp)
	reach()

	_, err := b.isp.Ctl("session", "kick", "alice")
	must(t, err)
	b.forged(alice, addresses[2])
	b.settled(session.ID, "Framed-IPv6-Route", strings.ReplaceAll(want, " ", " :: 1,")+" :: 1")
	must(t, b.isp.Get(&session, "session", "show", "bob"))
	_, err = b.isp.Ctl("session", "kick", "bob")
	must(t, err)
	b.settled(session.ID, "Delegated-IPv6-Prefix", "2001:db8:9000::/48,2001:db8:9002::/56")
	socket, _, err := b.login("mallory") // nobody has it now
	must(t, err)
	must(t, ping(socket, netip.MustParseAddr("2001:db8:8000:7::1"), BeyondIPv6))
	must(t, socket.Close())
}

// router logs a subscriber in with a network behind him.
func (b *billing) router(user string) (net.Conn, tsp.Offer) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	conn, _, err := b.dialogue(ctx, user)
	must(b.T, err)
	offer, err := conn.Create(ctx, tsp.Request{Type: tsp.V6UDPV4, Router: true, Keepalive: patience})
	must(b.T, err)
	must(b.T, conn.Accept(ctx))
	socket := conn.Detach()
	b.Cleanup(func() { _ = socket.Close() })
	return socket, offer
}

// answered has the host beyond send a packet to an address, which has to come out of a tunnel.
func (b *billing) answered(tunnel net.Conn, address netip.Addr) {
	b.Helper()
	must(b.T, b.isp.Beyond.Do(func() error {
		socket, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 7000)))
		if err != nil {
			return err
		}
		defer socket.Close()
		_, err = socket.Write([]byte("unasked"))
		return err
	}))
	must(b.T, tunnel.SetReadDeadline(time.Now().Add(patience)))
	packet := make([]byte, 2048)
	for n := 0; string(packet[min(n, 48):n]) != "unasked"; { // late answers to echo requests may come before
		var err error
		n, err = tunnel.Read(packet)
		must(b.T, err)
	}
	if to := netip.AddrFrom16([16]byte(packet[24:40])); to != address {
		b.Errorf("a packet to %s came to %s", to, address)
	}
}

// forged sends from addresses that are not the tunnel's: each packet is dropped.
func (b *billing) forged(tunnel net.Conn, sources ...netip.Addr) {
	b.Helper()
	for _, source := range sources {
		before := drops(b.T, b.isp)
		_, err := tunnel.Write(echoRequest(source, BeyondIPv6, 1, nil))
		must(b.T, err)
		must(b.T, Await(patience, func() error {
			if now := drops(b.T, b.isp); now <= before {
				return fmt.Errorf("from %s: %d drops, %d before", source, now, before)
			}
			return nil
		}))
	}
}

// settled awaits the bill of a session that has ended, which tells of its routes or prefixes.
func (b *billing) settled(session, attribute, want string) {
	b.Helper()
	must(b.T, Await(patience, func() error {
		records := slices.DeleteFunc(b.radius.Records(), func(r radiustest.Record) bool { return r["Acct-Session-Id"] != session })
		stopped := false
		for _, r := range records {
			stopped = stopped || r["Acct-Status-Type"] == "Stop"
			if r[attribute] != want {
				b.Errorf("a record has %s %q, want %q: %v", attribute, r[attribute], want, r)
			}
		}
		if !stopped {
			return fmt.Errorf("records %v: no Stop yet", records)
		}
		return nil
	}))
}
