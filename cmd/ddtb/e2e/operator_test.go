// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ddtb/provision/control"
)

// The operator's counters are exact: what was sent through the tunnel, packets and octets, both ways.
func TestRootCounters(t *testing.T) {
	isp := serve(t, Settings{"session": short})
	tunnel, told := foreign(t, isp.Open, readDialogue(t, "udp-anonymous-host.hex"))
	before := only(t, isp)
	if before.Traffic != (control.Traffic{}) {
		t.Errorf("a new session counts %+v", before.Traffic)
	}

	var server *net.UDPConn
	must(t, isp.Beyond.Do(func() (err error) {
		server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(BeyondIPv6, 7000)))
		return err
	}))
	defer server.Close()
	go echo(server)
	const packets = 500
	var octets uint64
	buffer := make([]byte, 2048)
	for i := range packets {
		packet := udpPacket(netip.AddrPortFrom(told.endpoint, 7001), server.LocalAddr().(*net.UDPAddr).AddrPort(), make([]byte, 100+i))
		octets += uint64(len(packet))
		_, err := tunnel.Write(packet)
		must(t, err)
		must(t, tunnel.SetReadDeadline(time.Now().Add(patience)))
		n, err := tunnel.Read(buffer)
		must(t, err)
		if n != len(packet) {
			t.Fatalf("packet %d of %d octets came back with %d", i, len(packet), n)
		}
	}

	want := control.Traffic{RxPackets: packets, RxOctets: octets, TxPackets: packets, TxOctets: octets}
	must(t, Await(patience, func() error {
		if got := only(t, isp).Traffic; got != want {
			return fmt.Errorf("counted %+v, sent %+v", got, want)
		}
		return nil
	}))
}

// The operator finds a session by user, address and prefix, and sees what the client sees.
func TestRootSessionList(t *testing.T) {
	isp := serve(t, nil)
	client, address := subscribe(t, isp, isp.Natted, "alice", "[router]\nenable = true\n")
	subscribe(t, isp, isp.Open, "bob", "")
	session, err := isp.Session("alice")
	must(t, err)
	for _, filter := range [][]string{
		{"--user", "alice"},
		{"--address", address.String()},
		{"--prefix", session.Prefix.String()},
	} {
		found, err := List[control.Session](isp, append([]string{"session", "list"}, filter...)...)
		must(t, err)
		if len(found) != 1 || found[0].ID != session.ID {
			t.Errorf("session list %v gives %+v, want the session of alice", filter, found)
		}
	}
	text, err := isp.Ctl("session", "list")
	must(t, err)
	for _, word := range []string{"alice", "bob", address.String(), RouterIPv4.String(), OpenIPv4.String(), "v6udpv4", "v6v4"} {
		if !strings.Contains(text, word) {
			t.Errorf("session list does not show %s:\n%s", word, text)
		}
	}
	status, err := isp.Ctl("status")
	must(t, err)
	if !strings.Contains(status, "2 active") {
		t.Errorf("status does not show two sessions:\n%s", status)
	}
	must(t, client.Stop())
	pools, err := List[control.Pool](isp, "pool", "list")
	must(t, err)
	if len(pools) != 2 || pools[0].Name != "homes" || pools[0].Active != 1 || pools[0].Idle != 1 {
		t.Errorf("pools %+v, want one lease active and one idle in homes", pools)
	}
}

// SIGHUP takes over what can be changed while tunnels run.
func TestRootReload(t *testing.T) {
	isp := serve(t, Settings{"tsp": "mechanisms = [\"DIGEST-MD5\", \"PLAIN\"]\n"})
	_, address := subscribe(t, isp, isp.Natted, "alice", "")
	offered := func() string {
		socket := dial(t, isp.Open, "tcp", netip.AddrPortFrom(ServerIPv4, 3653).String())
		_, err := socket.Write([]byte("VERSION=2.0.2\r\n"))
		must(t, err)
		line, err := readReply(socket)
		must(t, err)
		return string(line)
	}
	if before := offered(); !strings.Contains(before, "AUTH=PLAIN") {
		t.Fatalf("offered before: %s", before)
	}
	text, err := os.ReadFile(isp.ConfigFile())
	must(t, err)
	change := func(old, now string) {
		text = []byte(strings.Replace(string(text), old, now, 1))
		must(t, os.WriteFile(isp.ConfigFile(), text, 0o600))
		must(t, isp.Daemon().Signal(syscall.SIGHUP))
	}
	change(`["DIGEST-MD5", "PLAIN"]`, `["DIGEST-MD5"]`)
	must(t, Await(patience, func() error {
		if now := offered(); strings.Contains(now, "AUTH=PLAIN") || !strings.Contains(now, "AUTH=DIGEST-MD5") {
			return fmt.Errorf("offered: %s", now)
		}
		return nil
	}))

	// A mistake changes nothing, and is told.
	change(`["DIGEST-MD5"]`, `["PLANE"]`)
	_, err = isp.Daemon().Says(`tsp\.mechanisms`, patience)
	must(t, err)
	if now := offered(); !strings.Contains(now, "AUTH=DIGEST-MD5") {
		t.Errorf("offered after a mistake: %s", now)
	}
	must(t, isp.Natted.Reaches(BeyondIPv6))
	must(t, isp.Beyond.Reaches(address))
	var shown map[string]json.RawMessage
	must(t, isp.Get(&shown, "config", "show"))
	if tsp := string(shown["tsp"]); strings.Contains(tsp, "PLAIN") {
		t.Errorf("config show: tsp is %s", tsp)
	}
}

// Nothing is left in the kernel: by a stop that is told not to keep the tunnels, and by removing what another one kept.
func TestRootCleanEnd(t *testing.T) {
	for _, c := range []struct {
		name, setting string
		remove        bool
	}{
		{"stop", "keep_tunnels = false\n", false},
		{"remove", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			isp := serve(t, Settings{"server": c.setting})
			_, address := subscribe(t, isp, isp.Natted, "alice", "")
			must(t, isp.Natted.Reaches(BeyondIPv6))
			must(t, isp.Stop())
			if c.remove {
				must(t, isp.Beyond.Reaches(address))
				_, err := isp.Server.Run(t.Context(), isp.Program("ddtb"), "remove", "-c", isp.ConfigFile())
				must(t, err)
			}
			if _, err := isp.Beyond.Run(t.Context(), "ping", "-c", "1", "-W", answerTime, address.String()); err == nil {
				t.Error("the tunnel still forwards")
			}
			if addresses, err := isp.Server.Addresses("ddtb0"); err == nil {
				t.Errorf("the device is left, with %v", addresses)
			}
			if pinned := isp.Pinned(); len(pinned) > 0 {
				t.Errorf("pins are left: %v", pinned)
			}
			if routes, err := isp.Server.Run(t.Context(), "ip", "-6", "route", "show", "table", "all"); err != nil || strings.Contains(routes, Endpoints.String()) {
				t.Errorf("routes are left (%v):\n%s", err, routes)
			}
		})
	}
}
