// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"ddtb/provision/control"
)

func TestLease(t *testing.T) {
	d := newDesk(t)
	s := d.session(t, "alice", 1)
	wantParts(t, d.must(t, "lease", "list"), "LEASE    OWNER  STATE   ENDPOINT", "homes/1  alice  active  "+s.Endpoint.String(), "in 1h0m", s.ID)
	for _, name := range []string{"homes/1", s.Endpoint.String(), s.Prefix.Addr().Next().String()} {
		var l control.Lease
		check(t, json.Unmarshal([]byte(d.must(t, "lease", "show", name, "--json")), &l))
		if l.Pool != "homes" || l.Index != 1 || l.Session != s.ID {
			t.Errorf("%s gives %+v", name, l)
		}
	}
	wantParts(t, d.must(t, "lease", "show", "homes/1"), "owner      alice\n", "prefix     "+s.Prefix.String()+"\n")
	d.wantFails(t, exitFailed, "lies in no pool", "lease", "show", "2001:db8:ffff::1")

	if out := d.must(t, "lease", "release", "homes/1"); out != "released homes/1\n" {
		t.Errorf("said %q", out)
	}
	if out := d.must(t, "session", "list", "--json"); out != "" {
		t.Errorf("sessions left: %s", out)
	}
	if out := d.must(t, "lease", "list", "--state", "idle", "--user", "alice", "--pool", "homes", "--json"); strings.Count(out, "\n") != 1 {
		t.Errorf("idle leases: %s", out)
	}
}

func TestLeaseReserve(t *testing.T) {
	d := newDesk(t)
	endpoint := "2001:db8:f000:1::1234"
	if out := d.must(t, "lease", "reserve", endpoint, "--user", "bob"); out != "homes/4660 is reserved for bob\n" {
		t.Errorf("said %q", out)
	}
	if s := d.session(t, "bob", 1); s.Endpoint.String() != endpoint {
		t.Errorf("bob got %s, want %s", s.Endpoint, endpoint)
	}
	if code, _, errs := d.ctl("lease", "reserve", endpoint, "--user", "carol"); code != exitFailed {
		t.Errorf("reserved for two: exit %d, %s", code, errs)
	}
	want := fmt.Sprintln(`{"done":"no longer reserved","index":4660,"pool":"homes","user":"bob"}`)
	if out := d.must(t, "lease", "reserve", endpoint, "--user", "bob", "--off", "--json"); out != want {
		t.Errorf("said %q", out)
	}
}
