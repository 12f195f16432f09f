// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/aaa/radius/radiustest"
	"ddtb/provision"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// ask sends a request of RFC 5176 to a daemon and gives what radclient prints.
func (s *site) ask(t *testing.T, kind, attributes string) string {
	t.Helper()
	cmd := exec.Command("radclient", "-x", fmt.Sprintf("127.0.0.1:%d", s.port+1), kind, "the coa secret")
	cmd.Stdin = strings.NewReader(attributes)
	out, _ := cmd.CombinedOutput() // a NAK is an exit status, too
	if cmd.ProcessState == nil {
		t.Fatal("radclient is needed (Debian package freeradius-utils)")
	}
	return string(out)
}

// only is the one session that is active.
func (r *running) only(t *testing.T) provision.Session {
	t.Helper()
	all := slices.Collect(r.broker.Sessions(provision.Filter{State: provision.Active}))
	if len(all) != 1 {
		t.Fatalf("sessions %+v, want one", all)
	}
	return all[0]
}

// TestDaemonChange: a CoA-Request changes a session, found by each of its keys; a restart keeps that, billing tells it.
func TestDaemonChange(t *testing.T) {
	server := radiustest.Start(t, radiusUsers)
	s := radiusSite(t, server)
	r := s.start(t)
	alice := tsp.Client{User: "alice", Password: "wonderland", Mechanisms: []sasl.Mechanism{sasl.Plain}}
	if _, err := s.login(t, "udp", alice, tsp.Request{Type: tsp.V6UDPV4, Router: true}); err != nil {
		t.Fatal(err)
	}
	session := r.only(t)
	for i, key := range []string{
		fmt.Sprintf("Acct-Session-Id = %q", session.ID), `User-Name = "alice"`, fmt.Sprintf("NAS-Port = %d", session.TunnelID),
		fmt.Sprintf(`NAS-Port-Id = "tunnel-%d"`, session.TunnelID), fmt.Sprintf("Calling-Station-Id = %q", session.Client),
		fmt.Sprintf("Framed-IPv6-Address = %s", session.Endpoint), fmt.Sprintf("Delegated-IPv6-Prefix = %s", session.Prefix),
		fmt.Sprintf("Framed-IPv6-Prefix = %s/128", session.Endpoint),
	} {
		rate := aaa.Rate{Up: uint64(1+i) * 1e6, Down: 50e6}
		out := s.ask(t, "coa", fmt.Sprintf("%s, Filter-Id = \"50M/%dM\"", key, 1+i))
		if got := r.only(t).Subscriber; !strings.Contains(out, "CoA-ACK") || got.Rate != rate {
			t.Errorf("by %s: rate %+v, want %+v:\n%s", key, got.Rate, rate, out)
		}
		other := s.ask(t, "coa", key+`, Chargeable-User-Identity = "somebody else", Idle-Timeout = 60`)
		if !strings.Contains(other, "Session-Context-Not-Found") || r.only(t).Subscriber.IdleTimeout != 0 {
			t.Errorf("by %s and a key that does not match:\n%s", key, other)
		}
	}
	out := s.ask(t, "coa", `User-Name = "alice", Session-Timeout = 7200, Idle-Timeout = 600, Acct-Interim-Interval = 300, Class = 0xbeef`)
	if !strings.Contains(out, "CoA-ACK") {
		t.Fatal(out)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = s.start(t)
	got := r.only(t)
	if sub := got.Subscriber; sub.Rate != (aaa.Rate{Up: 8e6, Down: 50e6}) || sub.Filter != "50M/8M" || sub.SessionTimeout != 2*time.Hour ||
		sub.IdleTimeout != 10*time.Minute || sub.InterimInterval != 5*time.Minute || got.Lifetime <= 2*time.Hour || got.Lifetime > 2*time.Hour+time.Minute {
		t.Errorf("after a restart: %+v", got)
	}
	if out := s.ask(t, "disconnect", `User-Name = "alice"`); !strings.Contains(out, "Disconnect-ACK") {
		t.Error(out)
	}
	await(t, "Stop record", func() bool { kinds, _ := billed(server, got.ID); return slices.Equal(kinds, []string{"Start", "Stop"}) })
	if _, stop := billed(server, got.ID); stop["Class"] != "0xbeef" {
		t.Errorf("Stop record %v", stop)
	}
	if out := s.ask(t, "coa", `User-Name = "alice", Idle-Timeout = 60`); !strings.Contains(out, "Session-Context-Not-Found") {
		t.Errorf("a session that is gone: %s", out)
	}
}

const renewedUsers = `
renewed	Service-Type == Authorize-Only, State == 0x7374, Cleartext-Password := "wonderland"
	Filter-Id = "20M/4M", Session-Timeout = 3600

suspended	Service-Type == Authorize-Only, Auth-Type := Reject
	Reply-Message = "Account suspended"

renewed	Cleartext-Password := "wonderland"
	Filter-Id = "10M/2M", Session-Timeout = 5, Termination-Action = RADIUS-Request, State = 0x7374, Class = 0x01

suspended	Cleartext-Password := "wonderland"
	Session-Timeout = 5, Termination-Action = RADIUS-Request, State = 0x7374
`

// TestDaemonReauthorize: at Session-Timeout a real server is asked again. Its new grant is in force; its reject ends the session.
func TestDaemonReauthorize(t *testing.T) {
	server := radiustest.Start(t, renewedUsers)
	s := radiusSite(t, server)
	s.lines["session"] = "sweep = \"1s\"\n" + s.lines["session"]
	r := s.start(t)
	ids := map[string]string{}
	for _, user := range []string{"renewed", "suspended"} {
		client := tsp.Client{User: user, Password: "wonderland"}
		if _, err := s.login(t, "udp", client, tsp.Request{Type: tsp.V6UDPV4}); err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		ids[user] = r.broker.Owned(user)[0].ID
	}
	await(t, "the new grant", func() bool {
		session, ok := r.broker.Session(ids["renewed"])
		return ok && session.Subscriber.Rate == aaa.Rate{Up: 4e6, Down: 20e6} && session.Subscriber.SessionTimeout == time.Hour
	})
	await(t, "the end of the other", func() bool {
		kinds, _ := billed(server, ids["suspended"])
		return slices.Equal(kinds, []string{"Start", "Stop"})
	})
	if session := r.only(t); session.ID != ids["renewed"] || session.Lifetime > time.Hour+time.Minute || len(session.Subscriber.Class) != 1 {
		t.Errorf("session %+v", session)
	}
	if _, stop := billed(server, ids["suspended"]); stop["Acct-Terminate-Cause"] != "Reauthentication-Failure" {
		t.Errorf("Stop record %v", stop)
	}
}
