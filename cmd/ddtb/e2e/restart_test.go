// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"fmt"
	"net/netip"
	"testing"
)

// The kernel forwards while the daemon is away: a stop, a crash and the next daemon's start lose no packet and end no
// session, and counters go on.
func TestRootRestart(t *testing.T) {
	isp := serve(t, Settings{"session": short})
	_, address := subscribe(t, isp, isp.Natted, "alice", "")
	_, other := subscribe(t, isp, isp.Open, "bob", "")
	alice, err := isp.Session("alice")
	must(t, err)
	bob, err := isp.Session("bob")
	must(t, err)

	for _, c := range []struct {
		name string
		end  func() error
	}{
		{"stop", isp.Stop},
		{"crash", func() error { isp.Daemon().Kill(); return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			up, err := StartFlow(isp.Natted, address, isp.Beyond, BeyondIPv6)
			must(t, err)
			down, err := StartFlow(isp.Beyond, netip.Addr{}, isp.Open, other)
			must(t, err)
			must(t, c.end())
			must(t, up.Await(200, patience)) // a while without any daemon
			launch(t, isp)
			must(t, up.Await(200, patience))
			must(t, down.Await(1, patience))
			lossless(t, isp.Internet, up, down)

			for _, before := range []string{alice.ID, bob.ID} {
				if _, err := isp.Ctl("session", "show", before); err != nil {
					t.Errorf("session %s did not survive: %v", before, err)
				}
			}
			must(t, Await(patience, func() error {
				now, err := isp.Session("alice")
				if err == nil && now.Traffic.RxPackets < alice.Traffic.RxPackets+400 {
					err = fmt.Errorf("%d packets counted, %d before", now.Traffic.RxPackets, alice.Traffic.RxPackets)
				}
				if err == nil {
					alice = now
				}
				return err
			}))
		})
	}
}
