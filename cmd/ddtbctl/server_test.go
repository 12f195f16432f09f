// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ddtb/provision/fleet"
)

func TestServerList(t *testing.T) {
	d := newDesk(t)
	d.session(t, "alice", 1)
	out := d.must(t, "server", "list")
	for _, word := range []string{"SERVER", "tb1", "192.0.2.1", "serving", "ts2", "198.51.100.2", "25.0 %", "ts3", "gone"} {
		if !strings.Contains(out, word) {
			t.Errorf("%q is not in:\n%s", word, out)
		}
	}
	if out := d.must(t, "server", "list", "--json"); strings.Count(out, "\n") != 3 || !strings.Contains(out, `"capacity":4`) {
		t.Errorf("as JSON:\n%s", out)
	}
}

func TestServerDrain(t *testing.T) {
	d := newDesk(t)
	if out := d.must(t, "server", "drain"); out != "this server is being drained\n" {
		t.Errorf("drain says %q", out)
	}
	if out := d.must(t, "server", "list"); !strings.Contains(out, "drained") {
		t.Errorf("servers:\n%s", out)
	}
	if out := d.must(t, "server", "drain", "--undo", "tb1"); out != "tb1 serves again\n" {
		t.Errorf("undo says %q", out)
	}
	if code, _, errs := d.ctl("server", "drain", "nobody"); code != exitFailed || !strings.Contains(errs, "no such server") {
		t.Errorf("exit %d, %q", code, errs)
	}
	if code, _, _ := d.ctl("server", "drain", "a", "b"); code != exitUsage {
		t.Errorf("two servers: exit %d", code)
	}
}

func TestSessionsOfAllNodes(t *testing.T) {
	d := newDesk(t)
	alice := d.session(t, "alice", 1)
	remote := fleet.Session{Session: alice}
	remote.ID, remote.Subscriber.Name, remote.Endpoint = "0123456789abcdef01234567", "zoe", netip.MustParseAddr("2001:db8:f000:1::77")
	check(t, d.board.Write(context.Background(), "ts2", fleet.Batch{Put: []fleet.Session{remote}, Keep: time.Hour}))
	out := d.must(t, "session", "list", "--all-nodes")
	for _, word := range []string{"SERVER", "alice", "tb1", "zoe", "ts2"} {
		if !strings.Contains(out, word) {
			t.Errorf("%q is not in:\n%s", word, out)
		}
	}
	if out := d.must(t, "session", "list"); strings.Contains(out, "zoe") || strings.Contains(out, "SERVER") {
		t.Errorf("without --all-nodes:\n%s", out)
	}
	for _, name := range []string{"zoe", remote.ID, "2001:db8:f000:1::77"} {
		if out := d.must(t, "session", "show", name); !strings.Contains(out, "ts2") {
			t.Errorf("show %s:\n%s", name, out)
		}
	}
}
