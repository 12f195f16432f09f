// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

func factVersions(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{})
	w := dial(t, "udp", server.Addr)
	for _, version := range []string{"2.0.2", "2.0.1", "2.0.0"} {
		if answer := w.ask("VERSION=" + version + "\r\n"); !strings.HasPrefix(answer, "CAPABILITY ") {
			t.Errorf("%s: %q", version, answer)
		}
	}
	for _, version := range []string{"1.0.1", "1.0", "2.0.3", "2.0.20", "", "x"} {
		w.expect("VERSION="+version+"\r\n", "302 Unsupported client version\r\n")
	}
	c := dial(t, "tcp", server.Addr)
	c.raw("VERSION=1.0.1\r\n")
	if answer := c.read(); answer != "302 Unsupported client version\r\n" {
		t.Errorf("TCP: %q", answer)
	}
	if answer := c.read(); answer != "" { // section 4.4.2: the session is closed
		t.Errorf("TCP goes on with %q", answer)
	}
}

// factHeader: clients connect their sockets, and so does wire: an answer from elsewhere would never arrive. The server on the
// wildcard is spoken to at an address that is not the one it would choose itself.
func factHeader(t *testing.T) {
	for _, listen := range []string{"127.0.0.1", "0.0.0.0", "", "::1"} {
		server := tsptest.NewServerAt(t, listen, tsp.ServerConfig{Backend: tsptest.NewBackend()})
		to := server.Addr
		if to.Addr().IsUnspecified() {
			to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.77"), to.Port())
		}
		w := dial(t, "udp", to)
		w.login() // ask checks sequence and timestamp
		if status, _ := framed(t, w.ask(frame("<tunnel action=\"info\"></tunnel>\r\n"))); !strings.HasPrefix(status, "500 ") {
			t.Errorf("%s: %q", listen, status)
		}
		if listen != "" {
			continue
		}
		six := dial(t, "udp", netip.AddrPortFrom(netip.IPv6Loopback(), to.Port()))
		six.login()
	}
}

func factSequence(t *testing.T) {
	server, backend := serve(t, tsp.ServerConfig{})
	digest := func(w *wire) string { w.ask("VERSION=2.0.2\r\n"); return w.ask("AUTHENTICATE DIGEST-MD5\r\n\x00") }
	a, b := dial(t, "udp", server.Addr), dial(t, "udp", server.Addr)
	first, second := digest(a), digest(b)
	if first == second {
		t.Error("two sockets share a dialogue")
	}
	// The same message again: the same answer, under the new timestamp.
	if again := a.repeat(a.sequence, a.stamp+2000, "AUTHENTICATE DIGEST-MD5\r\n\x00"); again != first {
		t.Errorf("%q, was %q", again, first)
	}
	a.respondDigest(t, first, "s3cret pw")
	// A new process on the same port begins at the same sequence.
	a.sequence, a.stamp = 0xef, 500000
	if third := digest(a); third == first || !isBase64(third) {
		t.Errorf("the new dialogue got the old challenge %q", third)
	}
	if backend.Logins() != 1 {
		t.Errorf("%d logins", backend.Logins())
	}
}

func isBase64(line string) bool {
	_, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(line, "\r\n"))
	return err == nil
}

// respondDigest answers a challenge and takes the proof.
func (w *wire) respondDigest(t *testing.T, challenge, password string) {
	t.Helper()
	client, err := sasl.NewClient(sasl.DigestMD5, sasl.Identity{User: tsptest.User, Password: password, Host: "h"}, strings.NewReader("123456789012"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Next([]byte(strings.TrimSpace(challenge)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Next([]byte(strings.TrimSpace(w.ask(string(response) + "\r\n")))); err != nil {
		t.Fatal(err)
	}
}

func factOneAnswer(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{})
	w := dial(t, "udp", server.Addr)
	w.ask("VERSION=2.0.2\r\n")
	w.expect("AUTHENTICATE PLAIN\r\n\x00", "") // a bare header
	w.expect("\x00alice\x00s3cret pw\r\n", success)
	framed(t, w.ask(create("v6udpv4", "192.0.2.2")))
	w.expect(frame(accept), frame(success))
	// The client did not hear it and says it again, and again.
	for range 8 {
		if answer := w.repeat(w.sequence, w.stamp+2000, frame(accept)); answer != frame(success) {
			t.Fatalf("%q", answer)
		}
	}
}

func factPolls(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{})
	w := dial(t, "udp", server.Addr)
	w.ask("VERSION=2.0.2\r\n")
	w.respondDigest(t, w.ask("AUTHENTICATE DIGEST-MD5\r\n\x00"), "s3cret pw")
	w.expect("", success)
	if again := w.repeat(w.sequence, w.stamp+9, ""); again != success {
		t.Errorf("the poll repeated: %q", again)
	}
	w.expect("", "") // nothing is left
	framed(t, w.ask(create("v6udpv4", "192.0.2.2")))
}

// factDatagrams splits an answer: 50 IPv6 brokers are more than a client has room for.
func factDatagrams(t *testing.T) {
	backend := tsptest.NewBackend()
	brokers := make([]tsp.Broker, 50)
	for i := range brokers {
		brokers[i].Addr = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
	}
	backend.Fail = func(_ context.Context, call, _ string) error {
		if call == "create" && len(backend.Tunnels()) == 0 {
			return &tsp.StatusError{Code: tsp.StatusSuccess, Brokers: brokers}
		}
		return nil
	}
	inner := make(chan string, 1)
	server, _ := serve(t, tsp.ServerConfig{Backend: backend, Inner: func(_, _ netip.AddrPort, b []byte) { inner <- string(b) }})
	w := dial(t, "udp", server.Addr)
	w.login()
	answer := w.ask(create("v6udpv4", "192.0.2.2"))
	if len(answer) != 4096 {
		t.Errorf("%d octets in a datagram, want 4096", len(answer))
	}
	rest := w.ask("")
	if again := w.repeat(w.sequence, w.stamp+1, ""); again != rest {
		t.Errorf("the second piece repeated: %q, was %q", again, rest)
	}
	status, xml := framed(t, answer+rest)
	if status != "1200 Redirection\r\n" || strings.Count(xml, "<broker>") != 50 {
		t.Errorf("%q with %d brokers", status, strings.Count(xml, "<broker>"))
	}
	w.raw("`inner packet")
	if got := <-inner; got != "`inner packet" {
		t.Errorf("%q", got)
	}
	_, err := connect(t, server.Addr, tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}}).Create(ctxOf(t), tsp.Request{Type: tsp.V6UDPV4})
	status2 := new(tsp.StatusError)
	if !errors.As(err, &status2) || !slices.Equal(status2.Brokers, brokers) {
		t.Errorf("our client makes of the pieces: %v", err)
	}
}

// connect dials over UDP and logs in.
func connect(t *testing.T, server netip.AddrPort, client tsp.Client) *tsp.Conn {
	t.Helper()
	conn, err := client.Dial(ctxOf(t), "udp4", server.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.Login(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func factSolicitations(t *testing.T) {
	metrics := newRegistry()
	server, _ := serve(t, tsp.ServerConfig{Metrics: metrics})
	w := dial(t, "udp", server.Addr)
	for _, packet := range recorded(t, "testdata/dialogues/udp-anonymous-router.hex") {
		if packet.fromClient && packet.kind == "UDP-data" {
			w.silence(func() { w.raw(packet.data) })
		}
	}
	if got := metrics.value(t, `ddtb_tsp_dropped_total{reason="inner"}`); got != 4 {
		t.Errorf("%v packets counted as the tunnel's, want 4", got)
	}
	if got := metrics.value(t, `ddtb_tsp_dropped_total{reason="malformed"}`); got != 0 {
		t.Errorf("%v packets counted as malformed", got)
	}
}

func factStream(t *testing.T) {
	server, backend := serve(t, tsp.ServerConfig{})
	w := dial(t, "tcp", server.Addr)
	w.raw("VERSION=2.0.2\r\n")
	if line := w.read(); !strings.HasSuffix(line, "\r\n") || !strings.HasPrefix(line, "CAPABILITY ") {
		t.Fatalf("%q", line)
	}
	w.raw("AUTHENTICATE DIGEST-MD5\r\n\x00")
	client, _ := sasl.NewClient(sasl.DigestMD5, sasl.Identity{User: tsptest.User, Password: tsptest.Password, Host: "h"}, strings.NewReader("123456789012"))
	response, err := client.Next([]byte(strings.TrimSpace(w.read())))
	if err != nil {
		t.Fatal(err)
	}
	w.raw(string(response) + "\r\n")
	if _, err := client.Next([]byte(strings.TrimSpace(w.read()))); err != nil { // one recv: rspauth alone
		t.Fatal(err)
	}
	if got := w.read(); got != success { // another: the status
		t.Fatalf("%q", got)
	}
	w.raw(create("v6v4", "127.0.0.1"))
	framed(t, w.read())
	w.raw(frame(accept))
	if got := w.read(); got != frame(success) {
		t.Errorf("%q", got)
	}
	if got := w.read(); got != "" {
		t.Errorf("the connection outlives accept: %q", got)
	}
	if len(backend.Tunnels()) != 1 {
		t.Error("no tunnel")
	}
}

// factFallback: a server that answers by TCP alone is found, for v6v4 and v6anyv4.
func factFallback(t *testing.T) {
	var silent *net.UDPConn // it never answers
	var listener net.Listener
	for listener == nil {
		var err error
		silent = sockets(t)[0]
		if listener, err = net.Listen("tcp4", silent.LocalAddr().String()); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	server, err := tsp.NewServer(tsp.ServerConfig{Backend: tsptest.NewBackend(), TCP: []net.Listener{listener}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	defer func() { cancel(); <-done }()
	client := tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}, MinRTO: 20 * time.Millisecond}
	conn, err := client.Dial(ctxOf(t), "", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 { // what UDP was tried with
		b := make([]byte, 100)
		if n, _, err := silent.ReadFrom(b); err != nil || !strings.HasSuffix(string(b[:n]), "VERSION=2.0.2\r\n") {
			t.Errorf("%q %v", b[:n], err)
		}
	}
	if conn.Peer().Network != "tcp" {
		t.Errorf("over %s", conn.Peer().Network)
	}
	if err := conn.Login(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.V6UDPV4}); err == nil {
		t.Error("v6udpv4 over TCP was granted")
	}
	offer, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.V6AnyV4})
	if err != nil || offer.Type != tsp.V6V4 {
		t.Errorf("v6anyv4 over TCP: %+v %v", offer, err)
	}
	if err := conn.Accept(ctxOf(t)); err != nil {
		t.Error(err)
	}
}
