// SPDX-License-Identifier: GPL-2.0-or-later

package radius_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
	"ddtb/aaa/radius"
	"ddtb/aaa/radius/radiustest"
)

// radsec is how a test server is reached over TLS.
func radsec(t *testing.T, s *radiustest.Server) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile(s.CA)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(s.ClientCert, s.ClientKey)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	c.RootCAs.AppendCertsFromPEM(ca)
	return c
}

func overTLS(t *testing.T, s *radiustest.Server, c *tls.Config, timeout time.Duration) (*radius.Client, *radius.Authenticator) {
	t.Helper()
	client, err := radius.NewClient(radius.Options{
		Servers: []radius.Server{{Address: s.RadSec, TLS: c, MessageAuthenticator: radius.Require}}, Timeout: timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := radius.NewAuthenticator(client, radius.AuthOptions{
		NAS: radius.NAS{Identifier: "ts1", Address: netip.MustParseAddr("127.0.0.1")}, Digest: radius.DigestHA1, Secured: true, Cram: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client, a
}

// TestRadSec: each mechanism and accounting over TLS 1.2 and 1.3, 300 logins at a time.
func TestRadSec(t *testing.T) {
	server := radiustest.Start(t, users)
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			c := radsec(t, server)
			c.MinVersion, c.MaxVersion = version, version
			client, a := overTLS(t, server, c, 0)
			for _, m := range a.Mechanisms() {
				t.Run(string(m), func(t *testing.T) { checkLogins(t, a, m) })
			}
			var wg sync.WaitGroup
			for range 300 {
				wg.Go(func() {
					if _, err := a.Authenticate(context.Background(), aaatest.Login(aaa.MechanismPlain, "alice", realm, "wonderland")); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			before := len(server.Records())
			billing := radius.NewAccounting(client, radius.AcctOptions{NAS: radius.NAS{Identifier: "ts1"}}, time.Now)
			if err := billing.Deliver(context.Background(), aaa.Record{Status: aaa.StatusStart, Session: name, Time: time.Now()}); err != nil {
				t.Error(err)
			}
			if n := len(server.Records()); n != before+1 {
				t.Errorf("%d records, %d before", n, before)
			}
		})
	}
}

// TestRadSecTrust: who cannot show a certificate of the authority, and a server that cannot, get nothing.
func TestRadSecTrust(t *testing.T) {
	server := radiustest.Start(t, users)
	for name, test := range map[string]struct {
		spoil func(*tls.Config)
		want  string
	}{
		"no certificate of ours":   {func(c *tls.Config) { c.Certificates = nil }, "connection lost"}, // FreeRADIUS says no more
		"the server is a stranger": {func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, "certificate"},
		"another name":             {func(c *tls.Config) { c.ServerName = "radius.example" }, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each asks again till its time is over, which a busy server needs
			c := radsec(t, server)
			test.spoil(c)
			_, a := overTLS(t, server, c, 15*time.Second)
			_, err := a.Authenticate(context.Background(), aaatest.Login(aaa.MechanismPlain, "alice", realm, "wonderland"))
			if !errors.Is(err, aaa.ErrUnavailable) || strings.Contains(err.Error(), "wonderland") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestRadSecReconnect takes the server away in the middle of logins: none of them fails.
func TestRadSecReconnect(t *testing.T) {
	server := radiustest.Start(t, users)
	_, a := overTLS(t, server, radsec(t, server), time.Minute)
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
