// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"net/netip"
	"testing"
	"time"

	"ddtb/tsp/sasl"
)

// TestReload: what a running server is told counts for the next datagram.
func TestReload(t *testing.T) {
	server, socket := idle(t, Limits{Rate: Unlimited, Dialogues: 10, Workers: 7, Queue: 9})
	authenticate := []byte("\xf0\x00\x00\xf1\x00\x00\x00\x01AUTHENTICATE " + string(sasl.Plain) + "\r\n")
	scratch := make([]byte, 0, 2*maxDatagram)
	send := func(port uint16, datagram string) bool {
		remote := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), port)
		return len(server.udp.datagram(socket, socket.local, remote, []byte(datagram), scratch)) > 0
	}
	opened := func() (n int) {
		for port := range uint16(20) {
			send(1024+port, string(authenticate))
		}
		return server.udp.table.count(stranger)
	}
	if n := opened(); n != 10 {
		t.Fatalf("%d dialogues, want 10", n)
	}
	if err := server.Reload(Limits{Rate: -3}); err == nil || server.limits.Load().Workers != 7 {
		t.Error("a rate of -3 was taken")
	}
	if err := server.Reload(Limits{Rate: Unlimited, Dialogues: 100, PerSource: 13, AuthTimeout: time.Minute, Workers: 100, Queue: 100}); err != nil {
		t.Fatal(err)
	}
	if n := opened(); n != 13 {
		t.Errorf("%d dialogues from one source, want 13", n)
	}
	if l := server.limits.Load(); l.Workers != 7 || l.Queue != 9 || l.Timeout != 90*time.Second || server.udp.answered.limit != 100/generations {
		t.Errorf("in force: %+v, %d remembered", l, server.udp.answered.limit)
	}
	server.udp.sweep(server.now().Add(40 * time.Second)) // beyond the first AuthTimeout
	if n := server.udp.table.count(stranger); n != 13 {
		t.Errorf("%d dialogues are left", n)
	}
	if err := server.Reload(Limits{Rate: 0.001, Burst: 2, AuthTimeout: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	server.udp.sweep(server.now().Add(11 * time.Second)) // those in progress too
	if n := server.udp.table.count(stranger); n != 0 {
		t.Errorf("%d dialogues are left", n)
	}
	answers := 0
	for range 5 {
		if send(1024, refused["echo"]) {
			answers++
		}
	}
	if answers != 2 {
		t.Errorf("%d answers with a burst of 2", answers)
	}
}
