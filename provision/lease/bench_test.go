// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func benchPools(size uint32) []Pool {
	return []Pool{{
		Name: "home", Size: size, EndpointBase: netip.MustParseAddr("2001:db8:8000::"),
		PrefixBase: netip.MustParseAddr("2001:db0::"), PrefixLen: 56,
	}}
}

// benchRequest is at least as large as a real one: a name, a session id of 24 hex digits, 220 octets of data.
func benchRequest(i int) Request {
	return Request{
		Pool: "home", Owner: fmt.Sprintf("user%07d", i), Session: fmt.Sprintf("%024x", i), Node: "bras-1", TTL: time.Hour,
		Data: make([]byte, 220),
	}
}

// inParallel calls fn with each number below n, from so many goroutines.
func inParallel(callers, n int, fn func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				fn(i)
			}
		})
	}
	wg.Wait()
}

// Acquire from so many callers at once, each of whom waits for the disk.
func BenchmarkAcquire(b *testing.B) {
	for _, callers := range []int{1, 32, 1000} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			e := mustOpen(b, b.TempDir(), benchPools(1<<22), Options{})
			b.ResetTimer()
			inParallel(callers, b.N, func(i int) {
				if _, err := e.Acquire(b.Context(), benchRequest(i%1_000_000)); err != nil {
					b.Error(err)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acquires/s")
		})
	}
}

// Extend of 50,000 leases, as a sweep does it.
func BenchmarkExtend(b *testing.B) {
	const n = 50_000
	e := mustOpen(b, b.TempDir(), benchPools(1<<17), Options{})
	holders := make([]Holder, n)
	inParallel(1000, n, func(i int) {
		l, err := e.Acquire(b.Context(), benchRequest(i))
		if err != nil {
			b.Error(err)
		}
		holders[i] = holderOf(l)
	})
	for b.Loop() {
		if lost, err := e.Extend(b.Context(), time.Hour, holders...); err != nil || lost != nil {
			b.Fatal(lost, err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "leases/s")
}

// A million leases: memory, start-up, and how long it takes to walk through them and to write the journal anew.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	dir, pools := b.TempDir(), benchPools(1<<20)
	e := mustOpen(b, dir, pools, Options{})
	inParallel(1000, n, func(i int) {
		if _, err := e.Acquire(b.Context(), benchRequest(i)); err != nil {
			b.Error(err)
		}
	})
	mustClose(b, e)
	e = nil
	before := heap()
	for b.Loop() {
		var err error
		if e != nil {
			b.StopTimer()
			mustClose(b, e)
			e = nil
			runtime.GC()
			b.StartTimer()
		}
		if e, err = OpenEmbedded(dir, pools, Options{}); err != nil { // not mustOpen, which would keep it
			b.Fatal(err)
		}
	}
	bytes := float64(heap()-before) / n
	if u := e.Usage()[0]; u.Active != n {
		b.Errorf("usage %+v", u)
	}
	start := time.Now()
	for _, err := range e.All(b.Context()) {
		if err != nil {
			b.Fatal(err)
		}
	}
	walk := time.Since(start)
	start = time.Now()
	if err := e.journal.Compact(); err != nil {
		b.Fatal(err)
	}
	compaction := time.Since(start)
	mustClose(b, e)
	b.ReportMetric(bytes, "B/lease")
	b.ReportMetric(walk.Seconds(), "s/walk")
	b.ReportMetric(compaction.Seconds(), "s/compaction")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The longest an Acquire takes, alone and beside a compaction of 300,000 leases.
func BenchmarkAcquireBesideCompaction(b *testing.B) {
	const n = 300_000
	e := mustOpen(b, b.TempDir(), benchPools(1<<20), Options{})
	inParallel(1000, n, func(i int) {
		if _, err := e.Acquire(b.Context(), benchRequest(i)); err != nil {
			b.Error(err)
		}
	})
	for _, compacting := range []bool{false, true} {
		b.Run(fmt.Sprintf("compacting=%v", compacting), func(b *testing.B) {
			stop := make(chan struct{})
			var done sync.WaitGroup
			if compacting {
				done.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if err := e.journal.Compact(); err != nil {
							b.Error(err)
						}
					}
				})
			}
			var longest atomic.Int64
			inParallel(64, b.N, func(i int) {
				start := time.Now()
				if _, err := e.Acquire(b.Context(), benchRequest(i%n)); err != nil {
					b.Error(err)
				}
				d := int64(time.Since(start))
				for old := longest.Load(); d > old && !longest.CompareAndSwap(old, d); old = longest.Load() {
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acquires/s")
			b.ReportMetric(float64(longest.Load())/1e6, "ms-longest")
			close(stop)
			done.Wait()
		})
	}
}
