// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
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
		if errors.Is(err, io.EOF) {
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
