// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much memory may wait to be collected: half as much as is in use, where Go's default is as much again, since with a million
// sessions it is memory that counts. A server with few sessions would collect its few megabytes many times a second then when
// thousands log in, at a sixth of what a login costs: it may have garbageFloor, that of some 1,000 logins.
const (
	garbagePercent = 50
	garbageFloor   = 24 << 20 // octets
	garbageMost    = 400      // percent, when next to nothing is in use
)

// boundGarbage keeps these bounds until ctx is done.
func boundGarbage(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := garbageMost
	debug.SetGCPercent(percent)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(live)
		if want := garbage(live[0].Value.Uint64()); want != percent { // to set it stops the world
			percent = want
			debug.SetGCPercent(percent)
		}
	}
}

// garbage is how many percent of what is live may wait beside it, in steps of ten.
func garbage(live uint64) int {
	percent := garbageFloor * 100 / max(live, 1)
	return int(min(max(percent/10*10, garbagePercent), garbageMost))
}
