// SPDX-License-Identifier: GPL-2.0-or-later

package radius_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
	"ddtb/aaa/radius"
	"ddtb/aaa/radius/radiustest"
)

const (
	realm = "tunnels.example"
	odd   = `pä"ss\w%{User-Name}ord ' $1 ,=`
)

const users = `
alice	Cleartext-Password := "wonderland"
	Service-Type = Framed-User,
	Framed-IPv6-Prefix = "2001:db8:0:1::/64",
	Delegated-IPv6-Prefix = "2001:db8:100::/56",
	Delegated-IPv6-Prefix += "2001:db8:101::/56",
	Delegated-IPv6-Prefix += "2001:db8:99::/56",
	Framed-IPv6-Address = "2001:db8:0:1::2",
	Framed-IPv6-Pool = "other",
	Delegated-IPv6-Prefix-Pool = "residential",
	Framed-IPv6-Route = "2001:db8:abcd::/48 :: 1",
	Session-Timeout = 86400,
	Idle-Timeout = 3600,
	Acct-Interim-Interval = 30,
	Termination-Action = RADIUS-Request,
	State = 0x7374,
	Port-Limit = 2,
	Filter-Id = "10M/2M",
	Class = 0x0102030405,
	Class += 0x06,
	Reply-Message = "Welcome "

böb@isp.example	Cleartext-Password := 'pä"ss\\w%{User-Name}ord \' $1 ,='
	User-Name = "bob"

console	Cleartext-Password := "enable"
	Service-Type = NAS-Prompt-User

blocked	Auth-Type := Reject
	Reply-Message = "Account suspended"
`

func authenticator(t *testing.T, s *radiustest.Server, o radius.AuthOptions) *radius.Authenticator {
	t.Helper()
	c, err := radius.NewClient(radius.Options{
		Servers:    []radius.Server{{Address: s.Auth, Secret: []byte(radiustest.Secret), MessageAuthenticator: radius.Require}},
		Retransmit: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	o.NAS = radius.NAS{Identifier: "ts1", Address: netip.MustParseAddr("127.0.0.1")}
	a, err := radius.NewAuthenticator(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFreeRADIUS(t *testing.T) {
	server := radiustest.Start(t, users)
	variants := map[string]radius.AuthOptions{
		"sterman":    {Digest: radius.DigestSASL, Style: radius.StyleSterman, Cram: true},
		"rfc5090":    {Digest: radius.DigestSASL, Style: radius.StyleRFC5090, Cram: true},
		"stored HA1": {Digest: radius.DigestHA1, Force: true, Cram: true},
	}
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			a := authenticator(t, server, o)
			for _, m := range a.Mechanisms() {
				t.Run(string(m), func(t *testing.T) { checkLogins(t, a, m) })
			}
		})
	}
}

// checkLogins tries right and wrong passwords.
func checkLogins(t *testing.T, a aaa.Authenticator, m aaa.Mechanism) {
	tests := []struct {
		user, password string
		want           error
	}{
		{"alice", "wonderland", nil},
		{"alice", "Wonderland", aaa.ErrRejected},
		{"böb@isp.example", odd, nil},
		{"böb@isp.example", odd + " ", aaa.ErrRejected},
		{"blocked", "blocked", aaa.ErrRejected},
		{"console", "enable", aaa.ErrRejected},
		{"nobody", "x", aaa.ErrRejected},
		{strings.Repeat("n", 254), "x", aaa.ErrRejected},
	}
	for _, tt := range tests {
		login := aaatest.Login(m, tt.user, realm, tt.password)
		if d, ok := login.Credential.(aaa.Digest); ok {
			// The server hashes what it has, UTF-8 as it stands.
			d.Response = d.Respond(aaa.NewRawHA1(tt.user, realm, tt.password))
			login.Credential = d
		}
		s, err := a.Authenticate(context.Background(), login)
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%.20s: got %v, want %v", tt.user, err, tt.want)
			continue
		}
		if d, ok := login.Credential.(aaa.Digest); ok && err == nil {
			if proof, _ := d.Verify(aaa.NewRawHA1(tt.user, realm, tt.password)); s.ResponseAuth != proof {
				t.Errorf("%s: rspauth %q, want %q", tt.user, s.ResponseAuth, proof)
			}
		}
	}
}

// TestFreeRADIUSHexPrefix: what begins with 0x is text like any other.
func TestFreeRADIUSHexPrefix(t *testing.T) {
	const password = "0xfeed"
	server := radiustest.Start(t, "0xcafe\tCleartext-Password := \""+password+"\"\n")
	for name, o := range map[string]radius.AuthOptions{
		"sterman":    {Digest: radius.DigestSASL, Style: radius.StyleSterman, Cram: true},
		"rfc5090":    {Digest: radius.DigestSASL, Style: radius.StyleRFC5090, Cram: true},
		"stored HA1": {Digest: radius.DigestHA1, Force: true, Cram: true},
	} {
		a := authenticator(t, server, o)
		for _, m := range a.Mechanisms() {
			login := aaatest.Login(m, "0xcafe", "0x"+realm, password)
			if d, ok := login.Credential.(aaa.Digest); ok {
				d.Nonce, d.CNonce, d.URI = "0XmIsaYeUCYVu3yA", "0xnVqox/bQDSSLki", "0x/"+realm
				d.Response = d.Respond(aaa.NewHA1(d.Username, d.Realm, password))
				login.Credential = d
			}
			if _, err := a.Authenticate(context.Background(), login); err != nil {
				t.Errorf("%s, %s: %v", name, m, err)
			}
		}
	}
}

func TestFreeRADIUSAuthorisation(t *testing.T) {
	a := authenticator(t, radiustest.Start(t, users), radius.AuthOptions{})
	s, err := a.Authenticate(context.Background(), aaatest.Login(aaa.MechanismPlain, "alice", realm, "wonderland"))
	if err != nil {
		t.Fatal(err)
	}
	want := aaa.Subscriber{
		Name: "alice", Backend: "radius", Authentic: aaa.AuthenticRADIUS, Pool: "residential",
		Endpoint: netip.MustParseAddr("2001:db8:0:1::2"), Prefix: netip.MustParsePrefix("2001:db8:100::/56"),
		SessionLimit: 2, SessionTimeout: 24 * time.Hour, IdleTimeout: time.Hour, InterimInterval: time.Minute,
		Class: [][]byte{{1, 2, 3, 4, 5}, {6}}, Filter: "10M/2M", Rate: aaa.Rate{Up: 2e6, Down: 10e6},
		Routes: []aaa.Route{
			{Prefix: netip.MustParsePrefix("2001:db8:101::/56"), Delegated: true}, {Prefix: netip.MustParsePrefix("2001:db8:99::/56"), Delegated: true},
			{Prefix: netip.MustParsePrefix("2001:db8:abcd::/48"), Metric: 1},
		},
		Reauthorize: []byte("st"), Message: "Welcome ",
	}
	if diff := cmp.Diff(want, s, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
	s, err = a.Authenticate(context.Background(), aaatest.Login(aaa.MechanismPlain, "böb@isp.example", realm, odd))
	if err != nil || s.Name != "bob" {
		t.Errorf("got %q, %v: a User-Name in the Access-Accept renames", s.Name, err)
	}
	_, err = a.Authenticate(context.Background(), aaatest.Login(aaa.MechanismPlain, "blocked", realm, "x"))
	if !errors.Is(err, aaa.ErrRejected) || !strings.Contains(err.Error(), "Account suspended") {
		t.Errorf("got %v: the Reply-Message of a Reject is for the operator's log", err)
	}
}

// TestFreeRADIUSRestart takes the server away in the middle of logins: none of them fails.
func TestFreeRADIUSRestart(t *testing.T) {
	server := radiustest.Start(t, users)
	a := authenticator(t, server, radius.AuthOptions{})
	const logins = 200
	began, done := make(chan struct{}, logins), make(chan error, logins)
	for range logins {
		go func() {
			began <- struct{}{}
			_, err := a.Authenticate(context.Background(), aaatest.Login(aaa.MechanismPlain, "alice", realm, "wonderland"))
			done <- err
		}()
	}
	<-began
	server.Stop()
	server.Run()
	for range logins {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestFreeRADIUSAccounting(t *testing.T) {
	server := radiustest.Start(t, users)
	c, err := radius.NewClient(radius.Options{Servers: []radius.Server{{Address: server.Acct, Secret: []byte(radiustest.Secret)}}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 1, 12, 0, 30, 0, time.UTC)
	a := radius.NewAccounting(c, radius.AcctOptions{NAS: radius.NAS{Identifier: "ts1", Address: netip.MustParseAddr("192.0.2.1")}},
		func() time.Time { return now })
	record := aaa.Record{
		Status: aaa.StatusStart, Session: "0123456789abcdef0123456789abcdef", Time: now.Add(-30 * time.Second),
		Subscriber: aaa.Subscriber{Name: "alice", Class: [][]byte{{1, 2}, {3}}, CUI: []byte("cui"), Authentic: aaa.AuthenticRADIUS},
		TunnelID:   4711, Encap: "v6udpv4",
		Client: netip.MustParseAddrPort("198.51.100.7:40000"), Server: netip.MustParseAddrPort("192.0.2.1:3653"),
		Endpoint: netip.MustParseAddr("2001:db8::5"), Prefix: netip.MustParsePrefix("2001:db8:500::/56"),
		Further: []netip.Prefix{netip.MustParsePrefix("2001:db8:501::/56")},
		Routes:  []netip.Prefix{netip.MustParsePrefix("2001:db8:abcd::/48"), netip.MustParsePrefix("2001:db8:abce::5/128")},
	}
	stop := record
	stop.Status, stop.Cause, stop.SessionTime = aaa.StatusStop, aaa.CauseAdminReset, 90*time.Second
	stop.Octets, stop.Packets = aaa.Traffic{Input: 5<<32 + 7, Output: 9}, aaa.Traffic{Input: 3, Output: 1}
	other := stop
	other.Session, other.NAS = "another", aaa.NAS{Identifier: "ts9", Address: netip.MustParseAddr("203.0.113.9")}
	bare := radius.NewAccounting(c, radius.AcctOptions{NAS: radius.NAS{Identifier: "ts1"}}, func() time.Time { return now })
	if err := bare.Deliver(context.Background(), aaa.Record{Status: aaa.StatusOn, Time: now}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []aaa.Record{record, stop, other} {
		if err := a.Deliver(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	records := server.Records()
	if len(records) != 4 {
		t.Fatalf("%d records, want 4", len(records))
	}
	// Without an address of its own the server is told apart by where it sends from: sql closes what is open of one.
	check(t, records[0], radiustest.Record{"Acct-Status-Type": "Accounting-On", "NAS-IP-Address": "127.0.0.1"})
	records = records[1:]
	// The key of sql's table: without it the second session is the first one's row.
	if unique := "Acct-Unique-Session-Id"; records[0][unique] == "" || records[0][unique] != records[1][unique] || records[0][unique] == records[2][unique] {
		t.Errorf("%s is %q, %q and of another session %q", unique, records[0][unique], records[1][unique], records[2][unique])
	}
	session := radiustest.Record{
		"Acct-Session-Id": record.Session, "User-Name": "alice", "Class": "0x0102,0x03", "Chargeable-User-Identity": "0x637569",
		"Acct-Authentic": "RADIUS", "NAS-Identifier": "ts1", "NAS-IP-Address": "192.0.2.1", "NAS-Port": "4711",
		"NAS-Port-Id": "tunnel-4711", "NAS-Port-Type": "Virtual", "Service-Type": "Framed-User", "Connect-Info": "v6udpv4",
		"Event-Timestamp": "Nov  1 2026 12:00:00 UTC", "Acct-Delay-Time": "30", "Framed-IPv6-Address": "2001:db8::5",
		"Delegated-IPv6-Prefix": "2001:db8:500::/56,2001:db8:501::/56", "Framed-IPv6-Route": "2001:db8:abcd::/48 :: 1,2001:db8:abce::5/128 :: 1", "Calling-Station-Id": "198.51.100.7:40000",
		"Tunnel-Client-Endpoint:0": "198.51.100.7", "Tunnel-Server-Endpoint:0": "192.0.2.1", "Acct-Status-Type": "Start",
	}
	check(t, records[0], session)
	check(t, records[1], radiustest.Record{
		"Acct-Status-Type": "Stop", "Acct-Terminate-Cause": "Admin-Reset", "Acct-Session-Time": "90", "Acct-Input-Octets": "7",
		"Acct-Input-Gigawords": "5", "Acct-Output-Octets": "9", "Acct-Output-Gigawords": "0", "Acct-Input-Packets": "3",
		"NAS-Port": "4711", "Framed-IPv6-Route": session["Framed-IPv6-Route"],
	})
	check(t, records[2], radiustest.Record{"Acct-Session-Id": "another", "NAS-Identifier": "ts9", "NAS-IP-Address": "203.0.113.9"})
}

func check(t *testing.T, got, want radiustest.Record) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s = %q, want %q", name, got[name], value)
		}
	}
}

// TestPolicyNestsNoFunction: FreeRADIUS 3.2 gives nothing, now and then, for a function of another's result, and a right password is refused.
func TestPolicyNestsNoFunction(t *testing.T) {
	nested := regexp.MustCompile(`%\{\w+:[^{}]*%\{\w+:`)
	for _, file := range []string{"policy-ddtb", "site-ddtb", "site-ddtb-radsec"} {
		text, err := os.ReadFile(filepath.Join("../../contrib/freeradius", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range nested.FindAllString(string(text), -1) {
			t.Errorf("%s: %s…", file, found)
		}
	}
}
