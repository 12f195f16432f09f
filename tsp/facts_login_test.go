// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

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
	for _, end := range []string{"\r\n", "\r\n\x00", "\r\b", "\n", "\r\n\r\n"} {
		w := dial(t, "tcp", server.Addr)
		w.raw("VERSION=2.0.2" + end)
		if got := w.read(); !strings.HasPrefix(got, "CAPABILITY ") {
			t.Errorf("TCP, %q: %q", end, got)
		}
		w.raw("AUTHENTICATE ANONYMOUS" + end)
		if got := w.read(); got != success {
			t.Errorf("TCP, %q: %q", end, got)
		}
		w.raw(create("v6v4", "127.0.0.1"))
		framed(t, w.read())
	}
	if backend.Logins() != len(ends)+5 {
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
