// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ddtb/aaa/ldap/ldaptest"
	"ddtb/aaa/radius/radiustest"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

var radiusUsers = `
alice	Cleartext-Password := "wonderland"
	Delegated-IPv6-Prefix = "2001:db8:7777::/48",
	Class = 0xc1a55e,
	Session-Timeout = 3600

blocked	Auth-Type := Reject
	Reply-Message = "Account suspended"

lost	Cleartext-Password := "wonderland"
	Framed-IPv6-Pool = "nowhere"

laden	Cleartext-Password := "wonderland"
	Class = "` + strings.Repeat("c", 250) + `", Class += "` + strings.Repeat("d", 250) + `", Class += "` + strings.Repeat("e", 250) + `",
	Class += "` + strings.Repeat("f", 250) + `", Class += "` + strings.Repeat("g", 250) + `", Class += "` + strings.Repeat("h", 250) + `"

routed	Cleartext-Password := "wonderland"
	Framed-IPv6-Route = "2001:db8:1000:4200::/56"

multicast	Cleartext-Password := "wonderland"
	Delegated-IPv6-Prefix = "ff02::/56"
`

// secretFile writes a secret where the configuration wants it.
func (s *site) secretFile(t *testing.T, name, secret string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// radiusSite is a site whose subscribers, billing and NOC are RADIUS.
func radiusSite(t *testing.T, server *radiustest.Server) *site {
	t.Helper()
	s := newSite(t)
	secret := s.secretFile(t, "radius.secret", radiustest.Secret)
	s.lines["tsp"] = `realm = "tunnels.example"`
	s.lines["session"] = fmt.Sprintf(`
[aaa]
backends = ["radius"]
accounting = "radius"
[aaa.radius]
digest = "radius-sasl"
nas_address = "127.0.0.1"
retransmit = "200ms"
[[aaa.radius.server]]
address = %q
secret_file = %q
message_authenticator = "yes"
[[aaa.radius.accounting]]
address = %q
secret_file = %q
[aaa.dynamic]
listen = "127.0.0.1:%d"
[[aaa.dynamic.client]]
source = "127.0.0.1/32"
secret_file = %q
`, server.Auth, secret, server.Acct, secret, s.port+1, s.secretFile(t, "coa.secret", "the coa secret"))
	return s
}

// await polls a state until it holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// billed are the records of a session that the server has, by Acct-Status-Type.
func billed(server *radiustest.Server, session string) (kinds []string, last radiustest.Record) {
	for _, r := range server.Records() {
		if r["Acct-Session-Id"] == session {
			kinds, last = append(kinds, r["Acct-Status-Type"]), r
		}
	}
	return kinds, last
}

func TestDaemonRADIUS(t *testing.T) {
	server := radiustest.Start(t, radiusUsers)
	s := radiusSite(t, server)
	r := s.start(t)
	for _, mechanism := range []sasl.Mechanism{sasl.DigestMD5, sasl.Plain} {
		client := tsp.Client{User: "alice", Password: "wonderland", Mechanisms: []sasl.Mechanism{mechanism}}
		offer, err := s.login(t, "udp", client, tsp.Request{Type: tsp.V6UDPV4, Router: true})
		if err != nil {
			t.Fatalf("%s: %v", mechanism, err)
		}
		if offer.Prefix != netip.MustParsePrefix("2001:db8:7777::/48") || offer.Lifetime != time.Hour {
			t.Errorf("%s: offer %+v: not what RADIUS grants", mechanism, offer)
		}
	}
	for _, client := range []tsp.Client{{User: "alice", Password: "guess"}, {User: "blocked", Password: "guess"}, {User: "nobody", Password: "guess"}} {
		_, err := s.login(t, "udp", client, tsp.Request{Type: tsp.V6UDPV4})
		wantCode(t, err, 300)
	}
	sessions := r.sessions(t)
	if len(sessions) != 1 {
		t.Fatalf("sessions %+v, want one", sessions)
	}
	id := sessions[0].ID
	await(t, "Start record", func() bool { kinds, _ := billed(server, id); return slices.Equal(kinds, []string{"Start"}) })

	cmd := exec.Command("radclient", "-x", fmt.Sprintf("127.0.0.1:%d", s.port+1), "disconnect", "the coa secret")
	cmd.Stdin = strings.NewReader(`User-Name = "alice", NAS-Identifier = "test"`)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Disconnect-ACK") {
		t.Fatalf("%v:\n%s", err, out)
	}
	if left := r.sessions(t); len(left) != 0 {
		t.Errorf("sessions %+v after a Disconnect-Request", left)
	}
	await(t, "Stop record", func() bool { kinds, _ := billed(server, id); return slices.Equal(kinds, []string{"Start", "Stop"}) })
	if _, stop := billed(server, id); stop["Acct-Terminate-Cause"] != "Admin-Reset" || stop["Class"] != "0xc1a55e" ||
		stop["Delegated-IPv6-Prefix"] != "2001:db8:7777::/48" || stop["NAS-Identifier"] != "test" {
		t.Errorf("Stop record %v", stop)
	}
	for _, secret := range []string{radiustest.Secret, "the coa secret", "wonderland", "guess"} {
		if strings.Contains(r.logs.String(), secret) {
			t.Errorf("%q stands in the log:\n%s", secret, r.logs)
		}
	}
}

// TestDaemonRADIUSAway: without RADIUS nobody gets in and nobody is told that his password is wrong; records wait on disk,
// over a restart of the daemon, and arrive once when the server is back.
func TestDaemonRADIUSAway(t *testing.T) {
	server := radiustest.Start(t, radiusUsers)
	s := radiusSite(t, server)
	s.lines["session"] = strings.Replace(s.lines["session"], "retransmit =", "timeout = \"1s\"\nretransmit =", 1)
	r := s.start(t)
	alice := tsp.Client{User: "alice", Password: "wonderland"}
	if _, err := s.login(t, "udp", alice, tsp.Request{Type: tsp.V6UDPV4}); err != nil {
		t.Fatal(err)
	}
	id := r.sessions(t)[0].ID
	await(t, "Start record", func() bool { kinds, _ := billed(server, id); return len(kinds) == 1 })
	server.Stop()
	_, err := s.login(t, "udp", alice, tsp.Request{Type: tsp.V6UDPV4})
	wantCode(t, err, 530)
	if _, err := r.ctl.Kick(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	server.Run()
	await(t, "Stop record", func() bool { kinds, _ := billed(server, id); return slices.Equal(kinds, []string{"Start", "Stop"}) })
}

func TestDaemonLDAP(t *testing.T) {
	server := ldaptest.Start(t, `dn: uid=alice,`+ldaptest.Suffix+`
objectClass: inetOrgPerson
objectClass: ddtbSubscriber
uid: alice
cn: Alice
sn: Liddell
userPassword: wonderland
radiusDelegatedIPv6Prefix: 2001:db8:1000:4200::/56
`)
	s := newSite(t)
	s.lines["session"] = fmt.Sprintf(`
[aaa]
backends = ["local", "ldap"]
[aaa.ldap]
urls = [%q]
bind_dn = %q
password_file = %q
base = %q
`, server.URL, ldaptest.ReaderDN, s.secretFile(t, "ldap.secret", ldaptest.ServicePass), ldaptest.Suffix)
	r := s.start(t)
	r.addUser(t, "bob", "secret of bob")
	// Bob's account allows DIGEST-MD5, the directory PLAIN only: that is advertised, since it fits both.
	for _, client := range []tsp.Client{
		{User: "alice", Password: "wonderland"},
		{User: "bob", Password: "secret of bob"},
	} {
		offer, err := s.login(t, "udp", client, tsp.Request{Type: tsp.V6UDPV4, Router: true})
		if err != nil {
			t.Fatalf("%s: %v", client.User, err)
		}
		if static := netip.MustParsePrefix("2001:db8:1000:4200::/56"); (offer.Prefix == static) != (client.User == "alice") {
			t.Errorf("%s: prefix %v; %v is alice's", client.User, offer.Prefix, static)
		}
	}
	_, err := s.login(t, "udp", tsp.Client{User: "alice", Password: "guess", Mechanisms: []sasl.Mechanism{sasl.Plain}}, tsp.Request{})
	wantCode(t, err, 300)
	shown, err := r.ctl.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(shown)
	if err != nil || strings.Contains(string(text)+r.logs.String(), ldaptest.ServicePass) {
		t.Errorf("%v; the service account's password is shown", err)
	}
}

func TestCheckLogin(t *testing.T) {
	server := radiustest.Start(t, radiusUsers)
	s := radiusSite(t, server)
	s.write(t)
	c, err := load(s.file(), loopback())
	if err != nil {
		t.Fatal(err)
	}
	for password, bad := range map[string]bool{"wonderland": false, "guess": true} {
		findings, err := checkLogin(t.Context(), c, "alice", password)
		if err != nil || len(findings) != 2 {
			t.Fatalf("%v, %v: want a finding for each of DIGEST-MD5 and PLAIN", findings, err)
		}
		for _, f := range findings {
			if f.bad != bad || strings.Contains(f.detail, "2001:db8:7777::/48") == bad {
				t.Errorf("%+v, want bad %v", f, bad)
			}
		}
	}
	for user, want := range map[string]string{"lost": `pool "nowhere" of "lost": there is none`, "multicast": "foreign prefix ff02::/56",
		"laden": "1518 of class", "routed": `overlaps pool "homes"`} {
		findings, err := checkLogin(t.Context(), c, user, "wonderland")
		if err != nil || len(findings) != 2 || !findings[0].bad || !strings.Contains(findings[0].detail, "would be refused: ") || !strings.Contains(findings[0].detail, want) {
			t.Errorf("%s: %+v %v, want %s", user, findings, err, want)
		}
	}
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // an operator has more patience
	defer cancel()
	findings, err := checkLogin(ctx, c, "alice", "wonderland")
	if err != nil || len(findings) != 2 {
		t.Fatalf("%v, %v: want two findings", findings, err)
	}
	for _, f := range findings {
		if !f.bad || !strings.Contains(f.detail, "is the server running") {
			t.Errorf("%+v, want advice about a server that is away", f)
		}
	}
}
