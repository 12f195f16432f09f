// SPDX-License-Identifier: GPL-2.0-or-later

package logins

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ddtb/tsp/sasl"
)

func config(server netip.AddrPort, count int) Config {
	return Config{
		Server: server, Host: "test", Count: count, Window: 8, Random: rand.Reader, Retry: 20 * time.Millisecond, Tries: 8,
		Account: func(n int) Account { return Account{User: fmt.Sprint("user", n), Password: "secret"} },
	}
}

// check holds the result against what was asked: each login once, each with the address meant for its client.
func check(t *testing.T, result Result, count int) {
	t.Helper()
	if len(result.Sessions) != count || len(result.Durations) != count || result.Failed() != 0 {
		t.Fatalf("%d sessions, %d durations, failures %v; want %d", len(result.Sessions), len(result.Durations), result.Failures, count)
	}
	seen := map[int]bool{}
	for _, session := range result.Sessions {
		if seen[session.Login] {
			t.Errorf("login %d twice", session.Login)
		}
		seen[session.Login] = true
		if want := endpointOf(session.Client); session.Endpoint != want {
			t.Errorf("client %v has %v, want %v", session.Client, session.Endpoint, want)
		}
	}
}

// TestRun logs in from a socket each.
func TestRun(t *testing.T) {
	for _, mechanism := range []sasl.Mechanism{sasl.DigestMD5, sasl.Plain} {
		c := config(startServer(t, &server{password: "secret"}), 100)
		c.Mechanism = mechanism
		result, err := Run(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		check(t, result, 100)
	}
}

// TestRunSources logs in from an address each, over two sockets.
func TestRunSources(t *testing.T) {
	c := config(startServer(t, &server{password: "secret"}), 500)
	c.Workers, c.Window, c.Port = 2, 32, 40123
	c.Source = func(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)}) }
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	check(t, result, 500)
	clients := map[netip.AddrPort]bool{}
	for _, session := range result.Sessions {
		clients[session.Client] = true
		if want := c.Source(session.Login); session.Client.Addr() != want {
			t.Errorf("login %d came from %v, want %v", session.Login, session.Client, want)
		}
	}
	if len(clients) != 500 {
		t.Errorf("%d clients, want 500", len(clients))
	}
}

// TestRunLoss repeats what gets lost, until all are in.
func TestRunLoss(t *testing.T) {
	result, err := Run(context.Background(), config(startServer(t, &server{password: "secret", lose: 5}), 50))
	if err != nil {
		t.Fatal(err)
	}
	check(t, result, 50)
	if result.Resent == 0 {
		t.Error("a fifth of all datagrams was lost, none was sent again")
	}
}

// TestRunRate does not begin logins faster than told.
func TestRunRate(t *testing.T) {
	c := config(startServer(t, &server{password: "secret"}), 20)
	c.Rate = 200
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	check(t, result, 20)
	if least := 19 * time.Second / 200; result.Elapsed < least {
		t.Errorf("20 logins in %v, want at least %v", result.Elapsed, least)
	}
}

// TestRunFailures counts what goes wrong, by reason.
func TestRunFailures(t *testing.T) {
	for name, test := range map[string]struct {
		server server
		want   string
	}{
		"wrong password": {server{password: "other"}, "300 Authentication failed"},
		"no tunnel":      {server{password: "secret", refuse: "301 No more tunnels available"}, "301"},
		"false server":   {server{password: "secret", lie: true}, "rspauth"},
		"silence":        {server{password: "secret", lose: 1}, ErrTimeout.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(startServer(t, &test.server), 3)
			c.Tries = 2
			result, err := Run(context.Background(), c)
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Sessions) != 0 || result.Failed() != 3 || len(result.Failures) != 1 {
				t.Fatalf("%d sessions, failures %v; want 3 failures of one kind", len(result.Sessions), result.Failures)
			}
			for reason := range result.Failures {
				if !strings.Contains(reason, test.want) {
					t.Errorf("reason %q, want %q in it", reason, test.want)
				}
			}
		})
	}
}

// TestRunStops ends at once when it is told to.
func TestRunStops(t *testing.T) {
	c := config(startServer(t, &server{password: "secret", lose: 1}), 3)
	c.Retry = time.Hour
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run = %v, want %v", err, context.DeadlineExceeded)
	}
}
