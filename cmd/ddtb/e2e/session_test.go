// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"fmt"
	"testing"
	"time"

	"ddtb/provision/control"
	"ddtb/provision/datapath/datapathtest/slow"
)

// short makes silence tell within seconds, of clients that are lively.
var (
	short  = fmt.Sprintf("keepalive_min = %q\nsweep = \"1s\"\n", slow.Times(time.Second))
	lively = fmt.Sprintf("keepalive = %q\n", slow.Times(time.Second))
)

// A subscriber keeps address and prefix: over a reconnect, a restart of the daemon, and from another place.
func TestRootStableAddress(t *testing.T) {
	isp := serve(t, nil)
	const router = "[router]\nenable = true\n"
	client, address := subscribe(t, isp, isp.Natted, "alice", router)
	first := only(t, isp)
	must(t, client.Stop())
	must(t, isp.Empty())
	other, _ := subscribe(t, isp, isp.Open, "bob", "") // somebody else comes between

	again := func(host *Host) {
		t.Helper()
		client, err := isp.Subscribe(host, "alice", password, router)
		must(t, err)
		show(t, client.Process)
		now, err := client.Up()
		must(t, err)
		session, err := isp.Session("alice")
		must(t, err)
		if now != address || session.Endpoint != address || session.Prefix == nil || *session.Prefix != *first.Prefix {
			t.Errorf("at %s: address %s, session %+v; before: address %s, session %+v", host.Name, now, session, address, first)
		}
		must(t, client.Stop())
		must(t, isp.Gone("alice"))
	}
	again(isp.Natted)
	must(t, isp.Stop())
	launch(t, isp)
	again(isp.Natted)
	must(t, other.Stop())
	again(isp.Open)
}

// A delegated prefix serves the computers behind the client.
func TestRootRouter(t *testing.T) {
	isp := serve(t, nil)
	client, address := subscribe(t, isp, isp.Natted, "alice", "[router]\nenable = true\nlan = [\""+LAN+"\"]\n")
	session, err := isp.Session("alice")
	must(t, err)
	if session.Prefix == nil || !Prefixes.Overlaps(*session.Prefix) || session.Prefix.Bits() != 56 {
		t.Fatalf("session %+v: no /56 out of %s", session, Prefixes)
	}
	if session.Prefix.Contains(address) {
		t.Errorf("the endpoint %s lies in the prefix %s", address, session.Prefix)
	}
	own, err := isp.LAN.AddressWithin(LANClient, *session.Prefix)
	must(t, err)
	must(t, isp.LAN.Reaches(BeyondIPv6))
	must(t, isp.Beyond.Reaches(own))
	carry(t, isp.LAN, own, isp.Beyond, BeyondIPv6)
	must(t, client.Stop())
}

// An operator ends a session with kick: the client is out at once and comes back by itself; after disable it does not.
func TestRootKickAndDisable(t *testing.T) {
	isp := serve(t, Settings{"session": short})
	client, address := subscribe(t, isp, isp.Natted, "alice", lively)
	first, err := isp.Session("alice")
	must(t, err)

	_, err = isp.Ctl("session", "kick", first.ID)
	must(t, err)
	var second control.Session
	must(t, Await(2*patience, func() error {
		second, err = isp.Session("alice")
		if err == nil && second.ID == first.ID {
			err = fmt.Errorf("session %s is still there", first.ID)
		}
		return err
	}))
	if second.Endpoint != address {
		t.Errorf("endpoint %s after the kick, %s before", second.Endpoint, address)
	}
	must(t, isp.Natted.Reaches(BeyondIPv6))

	_, err = isp.Ctl("user", "disable", "alice", "--kick")
	must(t, err)
	_, err = client.Process.Says(`user or password refused`, 2*patience)
	must(t, err)
	must(t, isp.Gone("alice"))
}

// A login from another place takes the tunnel over at once; the old place is out.
func TestRootTakeover(t *testing.T) {
	isp := serve(t, nil)
	old, address := subscribe(t, isp, isp.Natted, "alice", "")
	first, err := isp.Session("alice")
	must(t, err)
	must(t, old.Process.Freeze()) // it would fight for its tunnel otherwise

	client, err := isp.Subscribe(isp.Open, "alice", password, "")
	must(t, err)
	show(t, client.Process)
	now, err := client.Up()
	must(t, err)
	session, err := isp.Session("alice")
	must(t, err)
	if now != address || session.ID == first.ID || session.Client.Addr() != OpenIPv4 {
		t.Errorf("address %s, session %+v; before: %s, %+v", now, session, address, first)
	}
	must(t, isp.Open.Reaches(BeyondIPv6))
	must(t, isp.Beyond.Reaches(address))
	must(t, client.Stop())
}

// A client that vanishes is noticed by its silence, and its session ends.
func TestRootSilence(t *testing.T) {
	isp := serve(t, Settings{"session": short})
	client, _ := subscribe(t, isp, isp.Natted, "alice", lively)
	bob, _ := subscribe(t, isp, isp.Open, "bob", lively)
	_, err := isp.Session("alice")
	must(t, err)
	watch, err := isp.Server.Start(isp.Program("ddtbctl"), "--socket", isp.Socket(), "session", "watch", "--json")
	must(t, err)
	show(t, watch)
	must(t, Await(patience, func() error {
		var status control.Status
		if err := isp.Get(&status, "status"); err != nil || status.Watchers == 1 {
			return err
		}
		return fmt.Errorf("%d watchers", status.Watchers)
	}))
	client.Process.Kill()
	_, err = watch.Says(`"Lost-Carrier"`, patience)
	must(t, err)
	must(t, isp.Gone("alice"))
	_, err = isp.Session("bob") // he keeps alive
	must(t, err)
	must(t, bob.Stop())
}
