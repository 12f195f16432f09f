// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

// TestClientFact has a subtest for every number of clients.md.
func TestClientFact(t *testing.T) {
	facts := []struct {
		name string
		test func(*testing.T)
	}{
		{"versions", factVersions},
		{"header and port", factHeader},
		{"sequence of a new socket", factSequence},
		{"one answer each", factOneAnswer},
		{"polls", factPolls},
		{"4096 octets and then IPv6", factDatagrams},
		{"router solicitations", factSolicitations},
		{"one recv a message", factStream},
		{"UDP dead", factFallback},
		{"capability line", factCapability},
		{"line ends of AUTHENTICATE", factLineEnds},
		{"raw PLAIN", factPlain},
		{"challenge", factChallenge},
		{"figure 12", factFigure12},
		{"H(A1) cut at NUL", factCutHash},
		{"any mechanism", factAny},
		{"lenient reading", factLenient},
		{"exact length", factLength},
		{"careful XML", factXML},
		{"resolver", factResolver},
		{"expanded addresses", factExpanded},
		{"concrete type", factConcrete},
		{"only create and accept", factSilence},
		{"takeover", factTakeover},
		{"all at once", factAllAtOnce},
		{"prefix apart", factPrefix},
		{"redirection", factRedirection},
		{"echo request", factEcho},
	}
	text, err := os.ReadFile("clients.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`(?m)^\d+\. `).FindAll(text, -1)); n != len(facts) {
		t.Errorf("%d facts, %d tests", n, len(facts))
	}
	for i, fact := range facts {
		t.Run(fmt.Sprintf("%02d %s", i+1, fact.name), func(t *testing.T) {
			t.Parallel()
			fact.test(t)
		})
	}
}

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
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0") // it never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	listener, err := net.Listen("tcp4", silent.LocalAddr().String())
	if err != nil {
		t.Skipf("the port is taken for TCP: %v", err)
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

func factCapability(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{})
	const want = "CAPABILITY TUNNEL=V6V4 TUNNEL=V6UDPV4 AUTH=ANONYMOUS AUTH=PLAIN AUTH=DIGEST-MD5 AUTH=CRAM-MD5\r\n"
	for _, network := range []string{"udp", "tcp"} {
		w := dial(t, network, server.Addr)
		if network == "udp" {
			w.expect("VERSION=2.0.2\r\n", want)
			continue
		}
		w.raw("VERSION=2.0.2\r\n")
		if got := w.read(); got != want {
			t.Errorf("%q", got)
		}
	}
}

func factLineEnds(t *testing.T) {
	server, backend := serve(t, tsp.ServerConfig{})
	ends := []string{"\r\n", "\r\n\x00", "\r\b", "\n", "", " \r\n"}
	for _, end := range ends {
		w := dial(t, "udp", server.Addr)
		w.expect("AUTHENTICATE ANONYMOUS"+end, success)
		w = dial(t, "udp", server.Addr)
		w.expect("AUTHENTICATE plain"+end, "")
	}
	for _, end := range []string{"\r\n", "\r\n\x00", "\r\b", "\n"} {
		w := dial(t, "tcp", server.Addr)
		w.raw("AUTHENTICATE ANONYMOUS" + end)
		if got := w.read(); got != success {
			t.Errorf("TCP, %q: %q", end, got)
		}
		w.raw(create("v6v4", "127.0.0.1"))
		framed(t, w.read())
	}
	if backend.Logins() != len(ends)+4 {
		t.Errorf("%d logins", backend.Logins())
	}
	w := dial(t, "udp", server.Addr)
	for _, line := range []string{"AUTHENTICATE\r\n", "AUTHENTICATEPLAIN\r\n"} {
		w.silence(func() { w.send(1, 1, line) }) // not that command
	}
	w.expect("AUTHENTICATE PASSDSS-3DES-1\r\n", "300 Authentication failed\r\n")
	w.expect("AUTHENTICATE PLAIN AHgAeA==\r\n", "300 Authentication failed\r\n")
}

func factPlain(t *testing.T) {
	server, backend := serve(t, tsp.ServerConfig{})
	credentials := []string{"\x00alice\x00s3cret pw", base64.StdEncoding.EncodeToString([]byte("\x00alice\x00s3cret pw"))}
	for _, credential := range credentials {
		w := dial(t, "udp", server.Addr)
		w.expect("AUTHENTICATE PLAIN\r\n\x00", "")
		w.expect(credential+"\r\n", success)
		for _, nul := range []string{"", "\x00"} {
			w := dial(t, "tcp", server.Addr)
			w.raw("AUTHENTICATE PLAIN\r\n" + nul + credential + "\r\n")
			if got := w.read(); got != success {
				t.Errorf("TCP, %q: %q", nul+credential, got)
			}
		}
	}
	if backend.Logins() != 6 {
		t.Errorf("%d logins", backend.Logins())
	}
	w := dial(t, "udp", server.Addr)
	w.ask("AUTHENTICATE PLAIN\r\n")
	w.expect("\x00alice\x00wrong\r\n", "300 Authentication failed\r\n")
}

func factChallenge(t *testing.T) {
	server, backend := serve(t, tsp.ServerConfig{})
	for _, uri := range []string{"tsp/192.0.2.1", "tsp/broker.example:3653", "tsp/elsewhere"} {
		w := dial(t, "udp", server.Addr)
		line := w.ask("AUTHENTICATE DIGEST-MD5\r\n\x00")
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(line, "\r\n"))
		match := regexp.MustCompile(`^realm="([^",]+)",nonce="([^",]+)",qop="auth",algorithm=md5-sess,charset=utf-8$`).FindSubmatch(challenge)
		if err != nil || match == nil || !strings.HasSuffix(line, "\r\n") {
			t.Fatalf("%q", challenge)
		}
		c := sasl.DigestCredential{Realm: string(match[1]), Nonce: string(match[2]), CNonce: "179537497", NC: "00000001", QOP: "auth", URI: uri, UTF8: true}
		response, proof := sasl.NewHA1(tsptest.User, c.Realm, tsptest.Password).Proofs(c)
		token := `charset=utf-8,username="alice",realm="` + c.Realm + `",nonce="` + c.Nonce + `",nc=00000001,cnonce="179537497",digest-uri="` + uri + `",response=` + response + `,qop=auth`
		w.expect(base64.StdEncoding.EncodeToString([]byte(token))+"\r\n", base64.StdEncoding.EncodeToString([]byte("rspauth="+proof))+"\r\n")
		w.expect("", success)
	}
	if backend.Logins() != 3 {
		t.Errorf("%d logins", backend.Logins())
	}
}

// factFigure12 is also sasl.TestRFC5572Figure12, which goes through both sides' parsers.
func factFigure12(t *testing.T) {
	response, proof := sasl.NewHA1("username1", "hexos", "password").Proofs(sasl.DigestCredential{Nonce: "1113908968", CNonce: "1113923311", NC: "00000001",
		QOP: "auth", URI: "tsp/hexos"})
	if response != "f8e42b3c50c59771853f6274fcffd1ca" || proof != "70d5cabc9235568be380ba2c907381fe" {
		t.Error(response, proof)
	}
}

// factCutHash finds a user whose hash has a NUL octet, logs him in at every version, and sees what those clients send at 2.0.0 refused.
func factCutHash(t *testing.T) {
	backend := tsptest.NewBackend()
	user := ""
	for i := 0; user == ""; i++ {
		name := fmt.Sprintf("user%d", i)
		if ha1 := sasl.NewHA1(name, tsptest.Realm, "pw"); slices.Contains(ha1[:], 0) {
			user = name
		}
	}
	backend.Users[user] = "pw"
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	client := tsp.Client{User: user, Password: "pw", Mechanisms: []sasl.Mechanism{sasl.DigestMD5}}
	connect(t, server.Addr, client)
	// H("") takes the place of H(A1) when the first octet is NUL: everybody's password then.
	w := dial(t, "udp", server.Addr)
	w.ask("VERSION=2.0.0\r\n")
	challenge, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(w.ask("AUTHENTICATE DIGEST-MD5\r\n")))
	nonce := regexp.MustCompile(`nonce="([^"]+)"`).FindSubmatch(challenge)[1]
	token := `charset=utf-8,username="` + user + `",realm="` + tsptest.Realm + `",nonce="` + string(nonce) + `",nc=00000001,cnonce="1",digest-uri="tsp/h",response=` +
		cutResponse(user, string(nonce)) + `,qop=auth`
	w.expect(base64.StdEncoding.EncodeToString([]byte(token))+"\r\n", "300 Authentication failed\r\n")
}

// cutResponse is what a gogo6 client sends at version 2.0.0 when the hash has a NUL octet.
func cutResponse(user, nonce string) string {
	hexMD5 := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	ha1 := sasl.NewHA1(user, tsptest.Realm, "pw")
	cut, _, _ := strings.Cut(string(ha1[:]), "\x00")
	return hexMD5(hexMD5(cut) + ":" + nonce + ":00000001:1:auth:" + hexMD5("AUTHENTICATE:tsp/h"))
}

func factAny(t *testing.T) {
	backend := tsptest.NewBackend()
	var used []sasl.Mechanism
	var mu sync.Mutex
	seen := &credentials{Backend: backend, see: func(c sasl.Credential) { mu.Lock(); defer mu.Unlock(); used = append(used, c.Mechanism()) }}
	server := tsptest.NewServer(t, tsp.ServerConfig{Backend: seen})
	client := tsp.Client{User: tsptest.User, Password: "wrong"}
	conn, err := client.Dial(ctxOf(t), "udp4", server.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	status := new(tsp.StatusError)
	if err := conn.Login(ctxOf(t)); !errors.As(err, &status) || status.Code != tsp.StatusAuthFailed {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(used, []sasl.Mechanism{sasl.DigestMD5}) {
		t.Errorf("tried %v", used)
	}
}

// credentials is a backend that shows what it is asked to verify.
type credentials struct {
	*tsptest.Backend
	see func(sasl.Credential)
}

func (c *credentials) Authenticate(ctx context.Context, peer tsp.Peer, credential sasl.Credential) (tsp.Session, string, error) {
	c.see(credential)
	return c.Backend.Authenticate(ctx, peer, credential)
}

func factLenient(t *testing.T) {
	for name, request := range map[string]string{
		"proxy, ::, names": "<tunnel action=\"create\" type=\"v6udpv4\" proxy=\"no\"><client><address type=\"ipv4\">10.0.0.1</address><keepalive interval=\"30\"><address type=\"ipv6\">::</address>" +
			"</keepalive><router><dns_server><address type=\"dn\">ns1.example.net</address></dns_server></router></client></tunnel>\r\n",
		"no interval":   `<tunnel action="create" type="v6udpv4"><client><address type="ipv4">127.0.0.1</address><keepalive></keepalive></client></tunnel>`,
		"no address":    `<tunnel action="create" type="v6udpv4"><client></client></tunnel>`,
		"extra":         `<?xml version="1.0"?><tunnel action="create" type="v6udpv4"><client><as number=""/><address type="ipv4">192.0.2.2</address></client></tunnel>`,
		"NUL behind it": "<tunnel action=\"create\" type=\"v6udpv4\"></tunnel>\r\n\x00",
	} {
		server, backend := serve(t, tsp.ServerConfig{})
		w := dial(t, "udp", server.Addr)
		w.login()
		if status, _ := framed(t, w.ask(frame(request))); status != success {
			t.Errorf("%s: %q", name, status)
		}
		w.expect(frame(accept), frame(success))
		if len(backend.Tunnels()) != 1 {
			t.Errorf("%s: no tunnel", name)
		}
	}
}

// factLength: framed compares the number with the octets there are.
func factLength(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{})
	for request, status := range map[string]string{
		create("v6udpv4", "192.0.2.2"):            success,
		create("v4v6", "192.0.2.2"):               "303 Unsupported tunnel type\r\n",
		create("v6udpv4", "192.0.2.256"):          "501 Invalid IPv4 address\r\n",
		frame("<tunnel action=\"dance\"/>"):       "500 Invalid request format or specified length\r\n",
		"Content-length: 99\r\n<tunnel":           "500 Invalid request format or specified length\r\n",
		"Content-length: 1000000\r\n<tunnel":      "500 Invalid request format or specified length\r\n",
		"<tunnel action=\"accept\"></tunnel>\r\n": "500 Invalid request format or specified length\r\n",
		frame(accept): "500 Invalid request format or specified length\r\n", // nothing was offered
		frame("<!DOCTYPE t [<!ENTITY a \"b\">]><t>&a;</t>"): "500 Invalid request format or specified length\r\n",
	} {
		w := dial(t, "udp", server.Addr)
		w.login()
		answer := w.ask(request)
		if got, _ := framed(t, answer); got != status || !strings.HasSuffix(answer, "\r\n") {
			t.Errorf("%q: %q", request, answer)
		}
	}
}

// offered gets an offer from a server over backend and gives the text.
func offered(t *testing.T, backend *tsptest.Backend, request string) string {
	t.Helper()
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	w := dial(t, "udp", server.Addr)
	w.login()
	status, xml := framed(t, w.ask(request))
	if status != success {
		t.Fatalf("%q", status)
	}
	return xml
}

func factXML(t *testing.T) {
	text := offered(t, tsptest.NewBackend(), create("v6udpv4", "192.0.2.2"))
	for _, bad := range []string{"<?", "<!", "/>", "'", "> 2", ">\r\n2", ">\t"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q in %s", bad, text)
		}
	}
	if regexp.MustCompile(`<(address|prefix)[^>]*>[^<]*\s[^<]*</`).MatchString(text) {
		t.Errorf("blanks in %s", text)
	}
	addresses := map[string]int{}
	path, decoder := []string{}, xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			path = append(path, token.Name.Local)
			if token.Name.Local == "keepalive" && (len(token.Attr) != 1 || token.Attr[0].Name.Local != "interval") {
				t.Errorf("keepalive without interval in %s", text)
			}
			if token.Name.Local == "address" {
				if len(token.Attr) != 1 || token.Attr[0].Name.Local != "type" {
					t.Fatalf("address without type in %s", text)
				}
				addresses[strings.Join(path, "/")+" "+token.Attr[0].Value]++
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
	for _, want := range []string{"tunnel/server/address ipv4", "tunnel/server/address ipv6", "tunnel/client/address ipv4", "tunnel/client/address ipv6"} {
		if addresses[want] != 1 {
			t.Errorf("%s: %d in %s", want, addresses[want], text)
		}
	}
}

// factResolver: also a backend that names no resolver must not crash that client.
func factResolver(t *testing.T) {
	backend := tsptest.NewBackend()
	const element = "    <dns_server>\r\n      <address type=\"ipv6\">%s</address>\r\n    </dns_server>\r\n"
	if text := offered(t, backend, create("v6udpv4", "192.0.2.2")); !strings.Contains(text, fmt.Sprintf(element, "2001:0db8:cafe:0000:0000:0000:0000:0001")) {
		t.Error(text)
	}
	backend = tsptest.NewBackend()
	backend.Offer.Resolvers = nil
	if text := offered(t, backend, create("v6udpv4", "192.0.2.2")); !strings.Contains(text, fmt.Sprintf(element, "2001:0db8:0f00:0000:0000:0000:0000:0001")) {
		t.Error(text)
	}
}

func factExpanded(t *testing.T) {
	text := offered(t, tsptest.NewBackend(), frame(`<tunnel action="create" type="v6udpv4"><client><router/></client></tunnel>`))
	found := regexp.MustCompile(`>([0-9a-f:]*:[0-9a-f:]*)<`).FindAllStringSubmatch(text, -1)
	if len(found) != 4 { // server, client, resolver, prefix
		t.Errorf("%d addresses in %s", len(found), text)
	}
	for _, address := range found {
		if !regexp.MustCompile(`^([0-9a-f]{4}:){7}[0-9a-f]{4}$`).MatchString(address[1]) {
			t.Errorf("%s is not written out", address[1])
		}
	}
}

func factConcrete(t *testing.T) {
	for stated, want := range map[string]string{"127.0.0.1": "v6v4", "192.168.1.2": "v6udpv4"} {
		text := offered(t, tsptest.NewBackend(), create("v6anyv4", stated))
		if !strings.HasPrefix(text, `<tunnel action="info" type="`+want+`"`) || !strings.Contains(text, ">"+stated+"<") {
			t.Errorf("%s: %s", stated, text)
		}
	}
	for kind, refused := range map[string]tsp.TunnelType{"v6v4": tsp.V6V4, "v6udpv4": tsp.V6UDPV4} {
		backend := tsptest.NewBackend()
		backend.Offered.Tunnels = slices.DeleteFunc(backend.Offered.Tunnels, func(t tsp.TunnelType) bool { return t == refused })
		server, _ := serve(t, tsp.ServerConfig{Backend: backend})
		w := dial(t, "udp", server.Addr)
		w.login()
		if status, _ := framed(t, w.ask(create(kind, "127.0.0.1"))); status != "303 Unsupported tunnel type\r\n" {
			t.Errorf("%s is not offered and answered with %q", kind, status)
		}
	}
	backend := tsptest.NewBackend()
	backend.Offered.Tunnels = []tsp.TunnelType{tsp.V6V4} // and the client is behind a NAT
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	w := dial(t, "udp", server.Addr)
	w.login()
	if status, _ := framed(t, w.ask(create("v6anyv4", "10.0.0.1"))); status != "303 Unsupported tunnel type\r\n" {
		t.Errorf("v6anyv4 behind a NAT without UDP: %q", status)
	}
}

// factSilence: a client that goes away after create without a word gives its offer back all the same.
func factSilence(t *testing.T) {
	server, backend := serve(t, tsp.ServerConfig{Limits: tsp.Limits{Timeout: 50 * time.Millisecond}})
	w := dial(t, "udp", server.Addr)
	w.login()
	framed(t, w.ask(create("v6udpv4", "192.0.2.2")))
	c := dial(t, "tcp", server.Addr)
	c.raw("AUTHENTICATE ANONYMOUS\r\n")
	c.read()
	c.raw(create("v6v4", "127.0.0.1"))
	framed(t, c.read())
	c.conn.Close()
	await(t, func() bool { return backend.Offers() == 0 })
	if len(backend.Tunnels()) != 0 {
		t.Error("a tunnel nobody accepted")
	}
}

// await waits for a state that comes by itself.
func await(t testing.TB, state func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !state(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

func factTakeover(t *testing.T) {
	server, backend := serve(t, tsp.ServerConfig{})
	client := tsp.Client{User: tsptest.User, Password: tsptest.Password}
	var offers []tsp.Offer
	var ports []uint16
	for range 2 { // the second one from another port, and the first says nothing
		conn := connect(t, server.Addr, client)
		offer, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.V6UDPV4, Keepalive: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Accept(ctxOf(t)); err != nil {
			t.Fatal(err)
		}
		offers, ports = append(offers, offer), append(ports, conn.Peer().Local.Port())
	}
	if ports[0] == ports[1] || offers[0].ClientIPv6 != offers[1].ClientIPv6 {
		t.Errorf("ports %v, offers %+v", ports, offers)
	}
	if offers[1].Keepalive != 30*time.Second || offers[1].KeepaliveTo != backend.Offer.KeepaliveTo {
		t.Errorf("keepalive %+v", offers[1])
	}
	if tunnels := backend.Tunnels(); len(tunnels) != 1 || tunnels[tsptest.User].Peer.Remote.Port() != ports[1] {
		t.Errorf("tunnels %+v", tunnels)
	}
}

// factAllAtOnce: more clients than there are workers, behind one address, within the default limits.
func factAllAtOnce(t *testing.T) {
	const clients = 150
	backend := tsptest.NewBackend()
	server, _ := serve(t, tsp.ServerConfig{Backend: backend, Limits: tsp.Limits{Workers: 4}})
	client := tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}}
	start := make(chan struct{})
	failed := make(chan error, clients)
	for range clients {
		go func() {
			<-start
			failed <- login(client, server.Addr.String())
		}()
	}
	close(start)
	for range clients {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if n := len(backend.Tunnels()); n != clients {
		t.Errorf("%d tunnels, want %d", n, clients)
	}
}

// factPrefix: an offer whose own addresses lie in the prefix would break the client's LAN. It is not sent.
func factPrefix(t *testing.T) {
	for _, prefix := range []string{"2001:db8:f00::/48", "2001:db8::/32"} {
		backend := tsptest.NewBackend()
		backend.Prefix = netip.MustParsePrefix(prefix)
		server, _ := serve(t, tsp.ServerConfig{Backend: backend})
		w := dial(t, "udp", server.Addr)
		w.login()
		status, _ := framed(t, w.ask(frame(`<tunnel action="create" type="v6udpv4"><client><router/></client></tunnel>`)))
		if status != "310 Server side error\r\n" {
			t.Errorf("%s: %q", prefix, status)
		}
	}
}

func factRedirection(t *testing.T) {
	broker := []tsp.Broker{{Addr: netip.MustParseAddr("198.51.100.201")}, {Addr: netip.MustParseAddr("198.51.100.202")}}
	backend := tsptest.NewBackend()
	backend.Offered.Redirect = broker
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	const one = `<broker><address type="ipv4">198.51.100.201</address></broker>`
	const both = `<tunnel action="list" type="broker">` + one + `<broker><address type="ipv4">198.51.100.202</address></broker></tunnel>` + "\r\n"

	// To VERSION, without Content-length: all of them over TCP, as many as fit over UDP.
	c := dial(t, "tcp", server.Addr)
	c.raw("VERSION=2.0.2\r\n")
	if got := c.read(); got != "1200 Redirection\r\n"+both {
		t.Errorf("%q", got)
	}
	if got := c.read(); got != "" {
		t.Errorf("the stream goes on: %q", got)
	}
	w := dial(t, "udp", server.Addr)
	w.expect("VERSION=2.0.2\r\n", "1200 OK\r\n"+`<tunnel action="list" type="broker">`+one+`</tunnel>`)

	// To create, with it.
	w.expect("AUTHENTICATE ANONYMOUS\r\n", success)
	w.expect(create("v6udpv4", "192.0.2.2"), frame("1200 Redirection\r\n"+both))
	if backend.Offers() != 0 {
		t.Error("an offer is open")
	}

	// Not to AUTHENTICATE.
	backend = tsptest.NewBackend()
	backend.Fail = func(_ context.Context, call, _ string) error {
		if call == "authenticate" {
			return &tsp.StatusError{Code: tsp.StatusSuccess, Brokers: broker}
		}
		return nil
	}
	server, _ = serve(t, tsp.ServerConfig{Backend: backend})
	w = dial(t, "udp", server.Addr)
	w.expect("AUTHENTICATE ANONYMOUS\r\n", "530 Server too busy\r\n")

	// Ours is sent on by both.
	backend = tsptest.NewBackend()
	backend.Offered.Redirect = broker
	server, _ = serve(t, tsp.ServerConfig{Backend: backend})
	for network, want := range map[string][]tsp.Broker{"udp4": broker[:1], "tcp4": broker} {
		_, err := new(tsp.Client).Dial(ctxOf(t), network, server.Addr.String())
		status := new(tsp.StatusError)
		if !errors.As(err, &status) || !status.Redirect() || !slices.Equal(status.Brokers, want) {
			t.Errorf("%s: %v", network, err)
		}
	}
}

func factEcho(t *testing.T) {
	server, _ := serve(t, tsp.ServerConfig{})
	w := dial(t, "udp", server.Addr)
	for range 3 {
		w.expect("ECHO REQUEST", success)
	}
}
