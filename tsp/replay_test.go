// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

// packet is one of a recorded dialogue (testdata/dialogues/README.md).
type packet struct {
	fromClient bool
	kind       string // "UDP", "TCP", "UDP-data"
	data       string
}

// recorded reads a dialogue; what passed while UDP was dead is left out.
func recorded(t *testing.T, file string) (packets []packet) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ignored := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			fields := strings.Fields(line[strings.Index(line, "s ")+2:])
			if ignored = strings.HasSuffix(fields[0], "(ignored)"); !ignored {
				packets = append(packets, packet{fromClient: fields[0] == "C>S", kind: fields[1]})
			}
		}
		if strings.HasPrefix(line, "  ") && !ignored {
			octets, _, _ := strings.Cut(line[8:], "|")
			b, err := hex.DecodeString(strings.ReplaceAll(octets, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			packets[len(packets)-1].data += string(b)
		}
	}
	if len(packets) < 8 {
		t.Fatalf("%s has %d packets", file, len(packets))
	}
	return packets
}

// as2010 is a backend that gives what the server of the recordings gave.
func as2010() *tsptest.Backend {
	backend := tsptest.NewBackend()
	backend.Users[tsptest.User] = "s3cret pw"
	backend.Offered.Mechanisms = []sasl.Mechanism{sasl.Anonymous, sasl.Plain, sasl.DigestMD5}
	backend.Offer.ServerIPv4 = netip.MustParseAddr("192.0.2.1")
	return backend
}

// TestRecordedDialogues gives our server what clients in the field sent, octet by octet, and holds its answers against what they
// were content with.
func TestRecordedDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/dialogues/*.hex")
	if err != nil || len(files) != 7 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".hex"), func(t *testing.T) {
			t.Parallel()
			replay(t, recorded(t, file), strings.Contains(file, "router"))
		})
	}
}

func replay(t *testing.T, packets []packet, router bool) {
	backend := as2010()
	if packets[0].kind == "TCP" { // where the password was another
		backend.Users[tsptest.User] = "s3cretpw"
	}
	injected := make(chan string, len(packets))
	server, _ := serve(t, tsp.ServerConfig{Backend: backend, Inner: func(_, _ netip.AddrPort, b []byte) { injected <- string(b) }})
	w := dial(t, strings.ToLower(packets[0].kind), server.Addr)
	p := player{t: t, wire: w, router: router}
	for i, packet := range packets {
		switch {
		case packet.kind == "UDP-data":
			if packet.fromClient {
				w.raw(packet.data)
				if got := <-injected; got != packet.data {
					t.Errorf("tunnel packet %q became %q", packet.data, got)
				}
			}
		case packet.fromClient:
			p.send(packet.data)
		default:
			p.answer(i, packet.data)
		}
	}
	if packets[0].kind == "TCP" {
		if answer := w.read(); answer != frame(success) {
			t.Errorf("accept is answered with %q", answer)
		}
		if rest := w.read(); rest != "" {
			t.Errorf("the stream goes on with %q", rest)
		}
	}
	if tunnels := backend.Tunnels(); len(tunnels) != 1 || backend.Offers() != 0 {
		t.Errorf("tunnels %v, %d offers open", tunnels, backend.Offers())
	}
}

// player sends a recorded client's messages and checks the answers as that client would.
type player struct {
	t         *testing.T
	wire      *wire
	router    bool
	challenge string // ours, decoded
	proof     string // what rspauth has to be
}

// send sends a message as it is, except that a DIGEST-MD5 response answers our challenge, not the recorded one.
func (p *player) send(data string) {
	head, message := "", data
	if p.wire.conn.LocalAddr().Network() == "udp" {
		head, message = data[:8], data[8:]
	}
	if token, err := base64.StdEncoding.DecodeString(strings.TrimSpace(message)); err == nil && strings.Contains(string(token), "response=") {
		message = base64.StdEncoding.EncodeToString([]byte(p.respond(string(token)))) + "\r\n"
	}
	p.wire.raw(head + message)
}

// respond puts our nonce and the response to it into a recorded response.
func (p *player) respond(token string) string {
	value := func(s, name string) string {
		_, rest, _ := strings.Cut(s, name+"=")
		v, _, _ := strings.Cut(rest, ",")
		return strings.Trim(v, `"`)
	}
	old := sasl.DigestCredential{Username: value(token, "username"), Realm: value(token, "realm"), Nonce: value(token, "nonce"), CNonce: value(token, "cnonce"),
		NC: "00000001", QOP: "auth", URI: value(token, "digest-uri"), UTF8: true}
	password := "s3cret pw"
	if p.wire.conn.LocalAddr().Network() == "tcp" {
		password = "s3cretpw"
	}
	ha1 := sasl.NewHA1(old.Username, old.Realm, password)
	recordedResponse := value(token, "response")
	if response, _ := ha1.Proofs(old); response != recordedResponse {
		p.t.Errorf("the recorded response is %s, we compute %s", recordedResponse, response)
	}
	credential := old
	credential.Nonce = value(p.challenge, "nonce")
	var response string
	response, p.proof = ha1.Proofs(credential)
	return strings.NewReplacer(old.Nonce, credential.Nonce, recordedResponse, response).Replace(token)
}

// answer takes one answer and holds it against the recorded one.
func (p *player) answer(number int, recorded string) {
	p.t.Helper()
	got := p.wire.read()
	if p.wire.conn.LocalAddr().Network() == "udp" {
		if len(got) < 8 || got[:8] != recorded[:8] {
			p.t.Fatalf("packet %d is headed %x, was %x", number, got[:min(8, len(got))], recorded[:8])
		}
		got, recorded = got[8:], recorded[8:]
	}
	if token, err := base64.StdEncoding.DecodeString(strings.TrimSpace(recorded)); err == nil && len(token) > 0 {
		ours, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(got, "\r\n"))
		if err != nil || !strings.HasSuffix(got, "\r\n") {
			p.t.Fatalf("packet %d is %q", number, got)
		}
		if p.challenge == "" {
			p.challenge = string(ours)
			return
		}
		if string(ours) != "rspauth="+p.proof {
			p.t.Fatalf("packet %d is %q, want the proof %s", number, ours, p.proof)
		}
		return
	}
	switch {
	case recorded == "" && got == frame(success): // accept was acknowledged by a bare header
	case p.router && strings.Contains(recorded, "<prefix"): // where the servers of the reverse zone were not echoed
		const dns = "      <dns_server>\r\n        <address type=\"dn\">ns1.example.net</address>\r\n        <address type=\"dn\">ns2.example.net</address>\r\n      </dns_server>\r\n"
		_, xml := framed(p.t, got)
		_, want := framed(p.t, recorded)
		if strings.Replace(xml, dns, "", 1) != want {
			p.t.Errorf("packet %d is %s", number, got)
		}
	case got != recorded:
		p.t.Errorf("packet %d is %q, was %q", number, got, recorded)
	}
}
