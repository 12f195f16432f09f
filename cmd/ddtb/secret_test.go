// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/radius/radiustest"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// TestNoSecretShows: at the most talkative level, through logins of every mechanism, right and wrong, RADIUS accounting and
// dynamic authorization, no secret comes out: not in the log, not in the metrics, not over the control socket, and no
// password stays in the state directory either.
func TestNoSecretShows(t *testing.T) {
	before := zerolog.GlobalLevel()
	zerolog.SetGlobalLevel(zerolog.TraceLevel)
	t.Cleanup(func() { zerolog.SetGlobalLevel(before) })
	const right, wrong, guest, local = "Zm-right-password", "Zm-wrong-password", "Zm-guest-password", "Zm-local-password"
	server := radiustest.Start(t, fmt.Sprintf("alice\tCleartext-Password := %q\n\nvisitor\tCleartext-Password := %q\n", right, guest))
	s := radiusSite(t, server)
	s.lines["session"] = strings.NewReplacer(
		`backends = ["radius"]`, `backends = ["local", "radius"]`,
		`digest = "radius-sasl"`, fmt.Sprintf("digest = \"radius-sasl\"\ncram = true\nguest = \"visitor\"\nguest_password_file = %q", s.secretFile(t, "guest.secret", guest)),
	).Replace(s.lines["session"]) + "[aaa.local]\ncram = true\n"
	s.lines["tsp"] += "\nmechanisms = [\"DIGEST-MD5\", \"CRAM-MD5\", \"PLAIN\"]"
	r := s.start(t)
	r.addUser(t, "bob", local)

	secrets := []string{radiustest.Secret, "the coa secret", right, wrong, guest, local}
	for _, user := range []struct{ name, password string }{{"alice", right}, {"alice", wrong}, {"bob", local}, {"bob", wrong}} {
		for _, m := range []sasl.Mechanism{sasl.DigestMD5, sasl.CramMD5, sasl.Plain} {
			client := tsp.Client{User: user.name, Password: user.password, Mechanisms: []sasl.Mechanism{m}}
			for _, network := range []string{"udp", "tcp"} {
				_, err := s.login(t, network, client, tsp.Request{Type: tsp.V6UDPV4, Router: true})
				t.Logf("%s %s %s: %v", user.name, m, network, err)
			}
		}
		ha1 := aaa.NewHA1(user.name, "tunnels.example", user.password)
		secrets = append(secrets, hex.EncodeToString(ha1[:]), base64.StdEncoding.EncodeToString([]byte("\x00"+user.name+"\x00"+user.password)))
	}
	if _, err := s.login(t, "udp", tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}}, tsp.Request{Type: tsp.V6UDPV4}); err != nil {
		t.Errorf("anonymous: %v", err)
	}
	if len(r.sessions(t)) == 0 {
		t.Error("nobody got in: nothing was tried")
	}
	s.ask(t, "coa", `User-Name = "alice", Idle-Timeout = 600`)
	s.ask(t, "disconnect", `User-Name = "alice"`)

	shown := map[string]string{"log": r.logs.String()}
	_, shown["metrics"] = get(t, "http://"+s.metrics+"/metrics")
	for _, path := range []string{"status", "config", "sessions", "users", "users/bob", "leases", "pools", "accounting", "accounting/parked"} {
		shown["control "+path] = s.control(t, path)
	}
	for where, text := range shown {
		for _, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s shows the secret %q: ...%s...", where, secret, text[max(0, i-100):min(len(text), i+100)])
			}
		}
	}
	kept, err := filepath.Glob(filepath.Join(s.dir, "state", "*"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("state directory: %v, %v", kept, err)
	}
	for _, file := range kept {
		text, err := os.ReadFile(file)
		for _, secret := range []string{right, wrong, guest, local, radiustest.Secret} {
			if err == nil && strings.Contains(string(text), secret) {
				t.Errorf("%s holds %q", file, secret)
			}
		}
	}
}

// control gives the raw answer of the control socket to a question.
func (s *site) control(t *testing.T, path string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", s.socket())
	}}}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://control/v1/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var text strings.Builder
	decoder := json.NewDecoder(response.Body)
	for {
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			return text.String()
		}
		text.Write(value)
	}
}
