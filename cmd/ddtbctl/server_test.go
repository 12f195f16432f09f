// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/provision"
	"ddtb/provision/datapath"
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

// lost has a server that is gone leave sessions in the store that is shared.
func (d *desk) lost(t *testing.T, node string, users ...string) {
	t.Helper()
	path := datapath.NewNull(time.Now)
	config := datapath.Config{Device: "ddtb0", Local: []netip.AddrPort{deskLocal}, Server: deskServer, MTU: 1280}
	for _, pool := range deskPools {
		config.Pools = append(config.Pools, datapath.Pool(pool))
	}
	check(t, path.Configure(t.Context(), config))
	broker, err := provision.New(provision.Config{Node: node, Server: deskServer, Pools: deskPools},
		provision.Deps{Store: d.store, Datapath: path, Logger: zerolog.Nop()})
	check(t, err)
	check(t, broker.Recover(t.Context()))
	there := &desk{broker: broker}
	for i, user := range users {
		there.session(t, user, 100+i)
	}
}

func TestServerBury(t *testing.T) {
	d := newDesk(t)
	alice := d.session(t, "alice", 1)
	d.lost(t, "ts3", "zoe", "yan")
	d.wantFails(t, exitUsage, "--yes", "server", "bury", "ts3")
	for _, alive := range []string{"tb1", "ts2"} {
		d.wantFails(t, exitFailed, "the server is there", "server", "bury", alive, "--yes")
	}
	d.wantFails(t, exitFailed, "no such server", "server", "bury", "nobody", "--yes")
	d.wantFails(t, exitUsage, "--nas-address", "server", "bury", "ts3", "--yes", "--nas-address", "here")
	d.typed = []string{"yes"}
	code, out, errs := d.ctl("server", "bury", "ts3")
	if code != exitFailed || out != "" || !strings.Contains(errs, "2 sessions") || !strings.Contains(errs, "nothing was done") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if out := d.must(t, "lease", "list", "--state", "active"); !strings.Contains(out, "zoe") || !strings.Contains(out, "yan") {
		t.Errorf("leases:\n%s", out)
	}
	d.typed = []string{"ts3"}
	code, out, errs = d.ctl("server", "bury", "ts3")
	if code != exitOK || out != "ts3: 2 sessions ended, 2 leases given back\n" || !strings.Contains(errs, "off for good") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if out := d.must(t, "lease", "list", "--state", "active"); strings.Contains(out, "zoe") || strings.Contains(out, "yan") || !strings.Contains(out, "alice") {
		t.Errorf("leases:\n%s", out)
	}
	if out := d.must(t, "server", "bury", "ts3", "--json"); out != `{"server":"ts3","ended":0,"released":0}`+"\n" {
		t.Errorf("again: %q", out)
	}
	if s, ok := d.broker.Session(alice.ID); !ok || s.State != provision.Active {
		t.Errorf("the session of this server is %+v", s)
	}
	if _, out, _ := d.ctl("__complete", "server", "bury", "t"); !strings.Contains(out, "ts3") || strings.Contains(out, "ts2") {
		t.Errorf("completion:\n%s", out)
	}
}
