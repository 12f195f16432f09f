// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

// answers sends a datagram and collects all that comes back before the answer to an echo that was sent after it.
func (w *wire) answers(datagram string) (all []string) {
	w.t.Helper()
	w.raw(datagram)
	w.send(0x7777777, 1, "ECHO REQUEST")
	for {
		b := w.read()
		if strings.HasPrefix(b, "\xf7\x77\x77\x77") {
			return all
		}
		all = append(all, b)
	}
}

// TestAmplification sends everything a stranger can send and weighs what comes back: on the wire, with 28 octets of IPv4 and UDP on both
// sides, never more than three times as much.
func TestAmplification(t *testing.T) {
	list := func(format string) (brokers []tsp.Broker) {
		for i := range 50 {
			if addr, err := netip.ParseAddr(fmt.Sprintf(format, i)); err == nil {
				brokers = append(brokers, tsp.Broker{Addr: addr})
			} else {
				brokers = append(brokers, tsp.Broker{Name: fmt.Sprintf(format, i)})
			}
		}
		return brokers
	}
	for name, redirect := range map[string][]tsp.Broker{"none": nil, "long": nil, "ipv4": list("192.0.2.%d"), "ipv6": list("2001:db8::%d"), "names": list("ts%d.isp.example")} {
		t.Run(name, func(t *testing.T) {
			backend := tsptest.NewBackend()
			backend.Offered.Realm = strings.Repeat("r", sasl.MaxRealm)
			backend.Offered.Redirect = redirect
			backend.Offered.Tunnels = append(backend.Offered.Tunnels, tsp.V4V6)
			if name == "long" { // a CAPABILITY that must not be sent to strangers at all
				backend.Offered.Mechanisms = slices.Repeat(backend.Offered.Mechanisms, 3)
			}
			server, _ := serve(t, tsp.ServerConfig{Backend: backend})
			answered := map[string]bool{}
			for _, request := range []string{"", "\x00", "VERSION", "VERSION=", "VERSION=2.0.2", "VERSION=2.0.2\r\n", "VERSION=2.0.1\r\n", "VERSION=9\r\n", "VERSION=1.0.1\r\n", "ECHO REQUEST", "ECHO REQUEST\r\n",
				"AUTHENTICATE ", "AUTHENTICATE X", "AUTHENTICATE PLAIN", "AUTHENTICATE PLAIN\r\n\x00", "AUTHENTICATE DIGEST-MD5", "AUTHENTICATE DIGEST-MD5\r\n", "AUTHENTICATE DIGEST-MD5\r\n\x00",
				"AUTHENTICATE CRAM-MD5", "AUTHENTICATE CRAM-MD5\r\n", create("v6udpv4", "192.0.2.2"), frame(accept), "Content-length: 1\r\n", "200 Success\r\n", "300 x\r\n", "CAPABILITY TUNNEL=V6V4\r\n"} {
				w := dial(t, "udp", server.Addr) // nobody before
				for _, datagram := range []string{"\xf0\x00\x00\xf0\x00\x00\x00\x01" + request, "\xf0\x00\x00\xf0\x00\x00\x00\x02" + request, "\xf0\x00\x00\xf0\x00\x00\x00\x03", "\xf0\x00\x00\xf1\x00\x00\x00\x04"} {
					for _, answer := range w.answers(datagram) {
						answered[request] = true
						if size, most := len(answer)+28, 3*(len(datagram)+28); size > most {
							t.Errorf("%q: %d octets for %d: %q", request, size, len(datagram)+28, answer)
						}
					}
				}
			}
			for _, request := range []string{"VERSION=2.0.2\r\n", "ECHO REQUEST", "AUTHENTICATE PLAIN\r\n\x00", "AUTHENTICATE DIGEST-MD5\r\n", "AUTHENTICATE CRAM-MD5\r\n", "AUTHENTICATE X"} {
				if !answered[request] && (name != "long" || !strings.HasPrefix(request, "VERSION")) {
					t.Errorf("%q is not answered at all", request)
				}
			}
		})
	}
}

// TestStrangersLeaveNothing: what is not a valid AUTHENTICATE is not remembered, and two servers told of each other do not talk for ever.
func TestStrangersLeaveNothing(t *testing.T) {
	metrics := newRegistry()
	server, _ := serve(t, tsp.ServerConfig{Metrics: metrics})
	for _, request := range []string{"VERSION=2.0.2\r\n", "VERSION=1\r\n", "ECHO REQUEST", "AUTHENTICATE SCRAM-SHA-1\r\n", "AUTHENTICATE\r\n", frame(accept), ""} {
		dial(t, "udp", server.Addr).answers("\xf0\x00\x00\xf0\x00\x00\x00\x01" + request)
	}
	for _, answer := range []string{"CAPABILITY TUNNEL=V6V4\r\n", success, "300 Authentication failed\r\n", "302 Unsupported client version\r\n", "530 Server too busy\r\n", "1200 OK\r\n<tunnel/>"} {
		if back := dial(t, "udp", server.Addr).answers("\xf0\x00\x00\xf0\x00\x00\x00\x01" + answer); len(back) > 0 {
			t.Errorf("the answer %q is answered with %q", answer, back)
		}
	}
	for _, garbage := range []string{"", "\xf0", "\xf0\x00\x00\x00\x00\x00\x00", "\x45\x00", strings.Repeat("\xaa", 60000)} {
		if back := dial(t, "udp", server.Addr).answers(garbage); len(back) > 0 {
			t.Errorf("%.20q is answered with %q", garbage, back)
		}
	}
	values := metrics.values(t)
	for _, state := range []string{"login", "open", "answered"} {
		if n := values[`ddtb_tsp_dialogues{network="udp",state="`+state+`"}`]; n != 0 {
			t.Errorf("%v dialogues are kept in state %s", n, state)
		}
	}
	if values[`ddtb_tsp_dropped_total{reason="malformed"}`] != 5 || values[`ddtb_tsp_dropped_total{reason="unknown"}`] != 9 {
		t.Errorf("counted: %v", values)
	}
}

// TestTableIsBounded floods a small table. Who is logged in goes on, who is not makes room.
func TestTableIsBounded(t *testing.T) {
	metrics := newRegistry()
	server, backend := serve(t, tsp.ServerConfig{Metrics: metrics, Limits: tsp.Limits{Dialogues: 8}})
	inside := dial(t, "udp", server.Addr)
	inside.login()
	framed(t, inside.ask(create("v6udpv4", "192.0.2.2")))
	named := dial(t, "udp", server.Addr)
	named.ask("AUTHENTICATE PLAIN\r\n")
	named.expect("\x00alice\x00s3cret pw\r\n", success)
	first := dial(t, "udp", server.Addr)
	first.expect("AUTHENTICATE PLAIN\r\n", "")
	for range 100 {
		dial(t, "udp", server.Addr).expect("AUTHENTICATE PLAIN\r\n", "")
	}
	if n := metrics.value(t, `ddtb_tsp_dialogues{network="udp",state="login"}`); n != 6 {
		t.Errorf("%v strangers, want 6", n)
	}
	first.silence(func() { first.send(first.sequence+1, 1, "\x00alice\x00s3cret pw\r\n") }) // forgotten
	for range 10 {                                                                          // anybody can be anonymous
		dial(t, "udp", server.Addr).login()
	}
	inside.expect(frame(accept), frame(success))
	framed(t, named.ask(create("v6udpv4", "192.0.2.2")))
	named.expect(frame(accept), frame(success))
	if len(backend.Tunnels()) != 2 {
		t.Error("no tunnel")
	}
	if n := metrics.value(t, `ddtb_tsp_evicted_total`); n != 105 {
		t.Errorf("%v evicted", n)
	}
}

// from opens a datagram socket with an address of ours, out of 127.0.0.0/8.
func from(t testing.TB, network, local string, server netip.AddrPort) *wire {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(local)}}
	if network == "tcp" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	conn, err := dialer.Dial(network, server.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, conn: conn, sequence: 0xef}
}

func TestOneSourceIsBounded(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{Limits: tsp.Limits{PerSource: 3}})
	for i := range 5 {
		w := from(t, "udp", "127.0.0.1", server.Addr)
		if i < 3 {
			w.expect("AUTHENTICATE PLAIN\r\n", "")
		} else {
			w.silence(func() { w.send(1, 1, "AUTHENTICATE PLAIN\r\n") })
		}
	}
	from(t, "udp", "127.0.0.2", server.Addr).expect("AUTHENTICATE PLAIN\r\n", "")
	for i := range 5 {
		w := from(t, "tcp", "127.0.0.1", server.Addr)
		_, _ = w.conn.Write([]byte("VERSION=2.0.2\r\n")) // perhaps it is closed already
		if got := w.read(); strings.HasPrefix(got, "CAPABILITY") != (i < 3) {
			t.Errorf("TCP connection %d: %q", i, got)
		}
	}
	w := from(t, "tcp", "127.0.0.2", server.Addr)
	w.raw("VERSION=2.0.2\r\n")
	if got := w.read(); !strings.HasPrefix(got, "CAPABILITY") {
		t.Errorf("another source: %q", got)
	}
}

func TestRateLimit(t *testing.T) {
	metrics := newRegistry()
	server, _ := serve(t, tsp.ServerConfig{Metrics: metrics, Limits: tsp.Limits{Rate: 0.0001, Burst: 5}})
	w := from(t, "udp", "127.0.0.1", server.Addr)
	for range 5 {
		w.expect("ECHO REQUEST", success)
	}
	for range 20 {
		w.send(1, 1, "ECHO REQUEST")
	}
	await(t, func() bool { return metrics.value(t, `ddtb_tsp_dropped_total{reason="rate"}`) == 20 })
	other := from(t, "udp", "127.0.0.2", server.Addr)
	other.expect("ECHO REQUEST", success)
	c := from(t, "tcp", "127.0.0.1", server.Addr)
	if got := c.read(); got != "" {
		t.Errorf("TCP: %q", got)
	}
	c = from(t, "tcp", "127.0.0.3", server.Addr) // the connection and each line count
	for range 4 {
		c.raw("VERSION=2.0.2\r\n")
		if got := c.read(); !strings.HasPrefix(got, "CAPABILITY") {
			t.Fatalf("%q", got)
		}
	}
	c.raw("VERSION=2.0.2\r\n")
	if got := c.read(); got != "" {
		t.Errorf("over the limit: %q", got)
	}
}

// TestSlowLoris: a connection that does not get on is closed, one that is not logged in makes room for others.
func TestSlowLoris(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{Limits: tsp.Limits{AuthTimeout: 100 * time.Millisecond, Timeout: 100 * time.Millisecond}})
	for _, start := range []string{"", "V", "VERSION=2.0.2\r\n", "AUTHENTICATE PLAIN\r\n", "AUTHENTICATE DIGEST-MD5\r\nxyz", "AUTHENTICATE ANONYMOUS\r\n", "AUTHENTICATE ANONYMOUS\r\nContent-length: 100\r\n<"} {
		w := dial(t, "tcp", server.Addr)
		w.raw(start)
		if _, err := io.Copy(io.Discard, w.conn); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: the connection stays open", start)
		}
	}

	server, _ = serve(t, tsp.ServerConfig{Limits: tsp.Limits{Connections: 2}})
	inside := dial(t, "tcp", server.Addr)
	inside.raw("AUTHENTICATE ANONYMOUS\r\n")
	inside.read()
	first := dial(t, "tcp", server.Addr)
	first.raw("VERSION=2.0.2\r\n")
	first.read()
	second := dial(t, "tcp", server.Addr)
	second.raw("VERSION=2.0.2\r\n")
	if got := second.read(); !strings.HasPrefix(got, "CAPABILITY") {
		t.Errorf("no room for another: %q", got)
	}
	if got := first.read(); got != "" {
		t.Errorf("the idle one is still there: %q", got)
	}
	inside.raw(create("v6v4", "127.0.0.1"))
	framed(t, inside.read())
}

const malformed = "500 Invalid request format or specified length\r\n"

// TestGiants sends too much of everything.
func TestGiants(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{})
	deep := frame(strings.Repeat("<a>", 500) + strings.Repeat("</a>", 500))
	wide := frame("<tunnel>" + strings.Repeat("<a/>", 1000) + "</tunnel>")
	bomb := frame(`<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]><tunnel action="&c;"/>`)
	giant := frame("<tunnel action=\"create\" type=\"v6v4\">" + strings.Repeat(" ", 60000) + "</tunnel>")
	for name, request := range map[string]string{"deep": deep, "wide": wide, "bomb": bomb, "giant": giant, "number": "Content-length: 18446744073709551617\r\n<tunnel/>"} {
		w := dial(t, "udp", server.Addr)
		w.login()
		if status, _ := framed(t, w.ask(request)); status != malformed {
			t.Errorf("%s: %q", name, status)
		}
		c := dial(t, "tcp", server.Addr)
		c.raw("AUTHENTICATE ANONYMOUS\r\n")
		c.read()
		_, _ = c.conn.Write([]byte(request)) // it may be cut off in the middle
		if status, _ := framed(t, c.read()); status != malformed {
			t.Errorf("%s, TCP: %q", name, status)
		}
	}
	for _, line := range []string{strings.Repeat("A", 1<<20), "AUTHENTICATE PLAIN\r\n" + strings.Repeat("\x00", 1<<20), "AUTHENTICATE ANONYMOUS\r\n" + strings.Repeat("\n", 1<<20)} {
		c := dial(t, "tcp", server.Addr)
		_, _ = c.conn.Write([]byte(line))
		if _, err := io.Copy(io.Discard, c.conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.20q...: the connection stays open", line)
		}
	}
	w := dial(t, "udp", server.Addr)
	w.expect("AUTHENTICATE DIGEST-MD5 "+strings.Repeat("x", 5000), "300 Authentication failed\r\n")
	w.ask("AUTHENTICATE PLAIN\r\n")
	w.expect("\x00alice\x00"+strings.Repeat("x", 50000), "300 Authentication failed\r\n")
}

func TestCommandsAreBounded(t *testing.T) {
	server, backend := serve(t, tsp.ServerConfig{})
	w := dial(t, "udp", server.Addr)
	w.login()
	for range 16 {
		if status, _ := framed(t, w.ask(create("v6udpv4", "192.0.2.2"))); status != success {
			t.Fatal(status)
		}
	}
	if status, _ := framed(t, w.ask(create("v6udpv4", "192.0.2.2"))); status != malformed {
		t.Errorf("the 17th: %q", status)
	}
	w.silence(func() { w.send(w.sequence+1, 1, frame(accept)) })
	await(t, func() bool { return backend.Offers() == 0 })

	c := dial(t, "tcp", server.Addr)
	for i := range 17 {
		c.raw("VERSION=2.0.2\r\n")
		if got := c.read(); (got != "") != (i < 16) {
			t.Fatalf("VERSION %d: %q", i, got)
		}
	}
}

// TestFailedCreate: what was offered before a create that failed is not there any more, and is given back.
func TestFailedCreate(t *testing.T) {
	backend := tsptest.NewBackend()
	creates := 0
	backend.Fail = func(_ context.Context, call, _ string) error {
		if call == "create" {
			creates++
		}
		if call == "create" && creates == 2 {
			return &tsp.StatusError{Code: tsp.StatusPrefixLength}
		}
		return nil
	}
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	w := dial(t, "udp", server.Addr)
	w.login()
	if status, _ := framed(t, w.ask(create("v6udpv4", "192.0.2.2"))); status != success {
		t.Fatal(status)
	}
	w.expect(create("v6udpv4", "192.0.2.2"), frame("507 Requested prefix length cannot be assigned\r\n"))
	w.expect(frame(accept), frame("500 Invalid request format or specified length\r\n"))
	if n := backend.Offers(); n != 0 || len(backend.Tunnels()) != 0 {
		t.Errorf("%d offers, tunnels %v", n, backend.Tunnels())
	}
}

// TestRestarts: a VERSION on the 4-tuple of a dialogue neither ends it nor hinders a new one.
func TestRestarts(t *testing.T) {
	server, backend := serve(t, tsp.ServerConfig{})
	w := dial(t, "udp", server.Addr)
	w.login() // VERSION is f0, AUTHENTICATE f1
	if answer := w.repeat(0xf0, 1, "VERSION=2.0.2\r\n"); !strings.HasPrefix(answer, "CAPABILITY") {
		t.Fatalf("%q", answer)
	}
	framed(t, w.ask(create("v6udpv4", "192.0.2.2"))) // the late copy did no harm
	if backend.Offers() != 1 {
		t.Fatal("no offer")
	}
	w.silence(func() { w.send(0xf1, 1, "AUTHENTICATE ANONYMOUS\r\n\x00") }) // nor does one of AUTHENTICATE
	w.silence(func() { w.send(0xf0-1, 1, frame(accept)) })                  // or anything old
	w.repeat(0xf0, 1, "VERSION=2.0.2\r\n")
	w.silence(func() { w.send(0xf1, 1014, "AUTHENTICATE ANONYMOUS\r\n\x00") }) // nor both, the network's own copy of what was sent
	w.sequence = 0xf2
	w.expect(frame(accept), frame(success))

	w.sequence = 0xef // the client's process starts again, on the same port
	w.login()
	framed(t, w.ask(create("v6udpv4", "192.0.2.2")))
	w.sequence = 0xef // and again, in the middle of things: the offer is given back
	w.stamp = 900000
	w.login()
	await(t, func() bool { return backend.Offers() == 0 })
	framed(t, w.ask(create("v6udpv4", "192.0.2.2")))
	w.expect(frame(accept), frame(success))
	if backend.Logins() != 3 || len(backend.Tunnels()) != 2 {
		t.Errorf("%d logins, %d tunnels", backend.Logins(), len(backend.Tunnels()))
	}
	w.sequence += 100 // or goes on counting
	w.login()
	if backend.Logins() != 4 {
		t.Errorf("%d logins", backend.Logins())
	}
}

// TestOutOfOrder: what does not belong here gets a code.
func TestOutOfOrder(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{})
	w := dial(t, "udp", server.Addr)
	w.login()
	for _, action := range []string{"accept", "reject", "delete", "info", "list", ""} {
		if status, _ := framed(t, w.ask(frame(`<tunnel action="`+action+`"></tunnel>`))); status != malformed {
			t.Errorf("%s: %q", action, status)
		}
	}
	framed(t, w.ask(create("v6udpv4", "192.0.2.2")))
	w.expect(frame(`<tunnel action="reject"></tunnel>`), frame(success))
	if status, _ := framed(t, w.ask(frame(accept))); status != malformed {
		t.Errorf("accept after reject: %q", status)
	}
	if status, _ := framed(t, w.ask(frame(`<tunnel action="create"></tunnel>`))); status != malformed {
		t.Errorf("create without type: %q", status)
	}
	c := dial(t, "tcp", server.Addr)
	c.raw("HELLO\r\n")
	if got := c.read(); got != malformed {
		t.Errorf("TCP: %q", got)
	}
	if got := c.read(); got != "" {
		t.Errorf("TCP goes on: %q", got)
	}
}
