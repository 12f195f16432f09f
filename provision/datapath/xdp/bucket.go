// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import "sync/atomic"

// bucket bounds a direction: due is the time at which what has passed is paid for, ns of CLOCK_MONOTONIC.
type bucket struct{ due, rate uint64 }

// set changes the rate. The bucket is full then: at another rate it would not have been due when it was.
func (b *bucket) set(rate uint64) {
	if atomic.LoadUint64(&b.rate) != rate {
		atomic.StoreUint64(&b.rate, rate)
		atomic.StoreUint64(&b.due, 0)
	}
}

// charge is charge of bpf/count.h once more: whether octets are within the rate and datapath.Burst. now is in ns of
// CLOCK_MONOTONIC.
func (b *bucket) charge(now, octets uint64) bool {
	const second = 1e9
	rate, due := atomic.LoadUint64(&b.rate), atomic.LoadUint64(&b.due)
	if rate == 0 {
		return true
	}
	start := max(due, now)
	if start-now >= max(second/10, 32<<10*8*second/rate) {
		return false
	}
	cost := octets * 8 * second / rate
	if !atomic.CompareAndSwapUint64(&b.due, due, start+cost) {
		atomic.AddUint64(&b.due, cost)
	}
	return true
}
