// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"os"
	"time"

	"ddtb/provision/datapath"
)

// plan is what a run of all subjects measures.
type plan struct {
	packets  packetsOptions
	ping     pingOptions
	tcp      tcpOptions
	acct     acctOptions
	restart  restartOptions // logins and memory too: one daemon serves all three
	smaller  []int          // numbers of sessions for the growth table besides
	lease    leaseOptions
	radius   aaaOptions
	ldap     aaaOptions
	delivery deliveryOptions
	servers  bool // radius, ldap and delivery too, which need servers of the ISP's
	broker   int  // sessions of the broker alone, 0 for none

	takeover takeoverOptions
}

func fullPlan() plan {
	return plan{
		packets: packetsOptions{
			tunnels: []uint{1, 1000, 50_000, 1_000_000}, repeat: 9, duration: 300 * time.Millisecond,
			warm: 30 * time.Millisecond, encap: datapath.V6UDPV4.String(),
		},
		ping: pingOptions{count: 5000, repeat: 9},
		tcp:  tcpOptions{repeat: 3, duration: 3 * time.Second, veth: true},
		acct: acctOptions{records: 200_000, producers: 1024, state: os.TempDir()},
		restart: restartOptions{
			loginOptions: loginOptions{
				daemonOptions: daemonOptions{program: beside("ddtb"), state: os.TempDir(), sessions: 50_000},
				window:        256, workers: 1,
			},
			rate: 20_000, repeat: 5,
		},
		smaller:  []int{1000},
		lease:    leaseOptions{leases: []int{1000, 100_000, 1_000_000}, callers: 64, duration: 3 * time.Second, program: "redis-server"},
		radius:   aaaOptions{program: beside("ddtb"), state: os.TempDir(), contrib: "contrib", logins: 5000, rounds: 5, window: 128},
		ldap:     aaaOptions{program: beside("ddtb"), state: os.TempDir(), contrib: "contrib", logins: 5000, rounds: 5, window: 128},
		delivery: deliveryOptions{records: 20_000, rounds: 5, state: os.TempDir(), contrib: "contrib"},
		broker:   1_000_000,

		servers:  true,
		takeover: takeoverOptions{program: beside("ddtb"), state: os.TempDir(), redis: "redis-server", count: 2000},
	}
}

// quickPlan is the core of it, for less than 45 seconds.
func quickPlan() plan {
	p := fullPlan()
	p.packets.tunnels = []uint{1, 50_000, 1_000_000}
	p.packets.repeat, p.packets.duration, p.packets.warm = 3, 100*time.Millisecond, 20*time.Millisecond
	p.ping.count, p.ping.repeat = 1000, 3
	p.tcp = tcpOptions{repeat: 1, duration: time.Second}
	p.restart.repeat = 1
	p.acct.records = 40_000
	p.smaller, p.broker, p.takeover.count, p.servers = nil, 0, 100, false
	p.lease.leases, p.lease.duration = []int{1000}, time.Second
	return p
}
