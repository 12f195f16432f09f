// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much memory may wait to be collected: half as much as is in use, where Go's default is as much again, since with a million
// sessions it is memory that counts. But to collect costs what is in use, not what is garbage: when thousands log in a second,
// with 12 KB of garbage each, or 40 to 60 KB where a directory is asked, a server of a few ten thousand sessions would do so ten times a
// second, at a fifth of what a login costs. So whatever comes in half a second may wait, within bounds; it goes back to the
// system when that is over. A server with few sessions may always have garbageFloor.
const (
	garbagePercent = 50
	garbageFloor   = 24 << 20 // octets, those of 400 to 2,000 logins
	garbageCeiling = 48 << 20 // octets, where half of what is in use is less
	garbageMost    = 400      // percent, when next to nothing is in use
	garbageLook    = time.Second
)

// boundGarbage keeps these bounds until ctx is done.
func boundGarbage(ctx context.Context) {
	ticker := time.NewTicker(garbageLook)
	defer ticker.Stop()
	heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(heap)
	percent, before, storm := garbageMost, heap[1].Value.Uint64(), false
	debug.SetGCPercent(percent)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(heap)
		live, allocated := heap[0].Value.Uint64(), heap[1].Value.Uint64()
		rate, over := allocated-before, storm
		before, storm = allocated, rate/2 > garbageFloor
		if want := garbage(live, rate); want != percent { // to set it stops the world
			percent = want
			debug.SetGCPercent(percent)
		}
		if over && !storm {
			runtime.GC() // what waits would stay for as long as next to nothing is allocated
		}
	}
}

// garbage is how many percent of what is live may wait beside it, in steps of ten, when so many octets are allocated a second.
func garbage(live, rate uint64) int {
	allowed := min(max(rate/2, garbageFloor), garbageCeiling)
	percent := allowed * 100 / max(live, 1)
	return int(min(max(percent/10*10, garbagePercent), garbageMost))
}
