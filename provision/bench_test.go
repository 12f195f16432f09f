// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"ddtb/provision/datapath"
)

// benchConfig has room for a million.
func benchConfig() Config {
	config := testConfig()
	config.Pools[0].First, config.Pools[0].Size, config.Pools[0].PrefixLen = 1<<22, 1<<21, 60
	config.MaxSessions, config.MaxNegotiating = 1<<21, 1<<21
	return config
}

// numbered is the n-th subscriber, from an address of his own.
func numbered(n int) Request {
	r := request(fmt.Sprintf("subscriber%07d", n), client(1+n&0xffff, uint16(1+n>>16)))
	return r
}

func (w *world) fill(b *testing.B, from, n int) {
	b.Helper()
	for i := range n {
		s, err := w.Offer(context.Background(), numbered(from+i))
		if err == nil {
			err = w.Activate(context.Background(), s.ID)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLogin is Offer and Activate of a new subscriber: all that a login costs the broker, its store and its
// datapath, in memory, on one core.
func BenchmarkLogin(b *testing.B) {
	w := start(b, benchConfig())
	w.accountant = noAccounting{}
	w.restart()
	b.ReportAllocs()
	b.ResetTimer()
	w.fill(b, 0, b.N)
}

// BenchmarkTakeover is the login of a subscriber whose old session is in force.
func BenchmarkTakeover(b *testing.B) {
	w := start(b, benchConfig())
	w.accountant = noAccounting{}
	w.restart()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		r := numbered(7)
		r.Client = client(1+i&1, 9)
		s := w.offer(r)
		if err := w.Activate(context.Background(), s.ID); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoginParallel is BenchmarkLogin by many subscribers at once.
func BenchmarkLoginParallel(b *testing.B) {
	w := start(b, benchConfig())
	w.accountant = noAccounting{}
	w.restart()
	var next atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w.fill(b, int(next.Add(1)), 1)
		}
	})
}

// hollow is a datapath that keeps nothing, so that only the broker and the store take memory. Its All gives what it was
// told.
type hollow struct {
	*datapath.Null
	all []datapath.State
}

func (*hollow) Set(context.Context, ...datapath.Tunnel) error { return nil }

func (h *hollow) All(context.Context) iter.Seq2[datapath.State, error] {
	return func(yield func(datapath.State, error) bool) {
		for i := range h.all {
			if !yield(h.all[i], nil) {
				return
			}
		}
	}
}

// BenchmarkSessionMemory fills a broker: bytes of live heap a session, of the broker and of its store.
func BenchmarkSessionMemory(b *testing.B) {
	for _, n := range []int{50_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for range b.N {
				w := newWorld(b, benchConfig())
				w.otherPath, w.accountant = &hollow{Null: w.path}, noAccounting{}
				w.restart()
				before := heap()
				w.fill(b, 0, n)
				if err := w.markStarted(context.Background()); err != nil {
					b.Fatal(err)
				}
				both := float64(heap()-before) / float64(n)
				w.Broker, w.registry = nil, nil
				store := float64(heap()-before) / float64(n)
				b.ReportMetric(both-store, "broker-B/session")
				b.ReportMetric(store, "store-B/session")
				runtime.KeepAlive(w.store)
			}
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkSweep is one pass over all sessions, of which nothing is due.
func BenchmarkSweep(b *testing.B) {
	for _, n := range []int{50_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b, benchConfig())
			path := &hollow{Null: w.path}
			w.otherPath, w.accountant = path, noAccounting{}
			w.restart()
			w.fill(b, 0, n)
			for id, e := range w.tunnels {
				path.all = append(path.all, datapath.State{Tunnel: datapath.Tunnel{ID: id, Session: e.id.tunnel()}, LastSeen: w.clock.Now()})
			}
			slices.SortFunc(path.all, func(a, b datapath.State) int { return cmp.Compare(a.ID, b.ID) })
			w.sweep(context.Background())
			for b.Loop() {
				w.sweep(context.Background())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/session")
		})
	}
}

// BenchmarkRecover is the start with sessions whose tunnels are in force.
func BenchmarkRecover(b *testing.B) {
	const n = 50_000
	w := start(b, benchConfig())
	w.fill(b, 0, n)
	w.sweep(context.Background())
	for b.Loop() {
		next, err := New(w.config, Deps{Store: w.store, Datapath: w.path, Accountant: noAccounting{}, Clock: w.clock.Now, Logger: zerolog.Nop()})
		if err == nil {
			err = next.Recover(context.Background())
		}
		if err != nil || next.sessions() != n {
			b.Fatal(next.sessions(), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/session")
}

// BenchmarkSessions lists all sessions.
func BenchmarkSessions(b *testing.B) {
	const n = 50_000
	w := start(b, benchConfig())
	w.fill(b, 0, n)
	for b.Loop() {
		if got := w.count(Filter{}); got != n {
			b.Fatal(got)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/session")
}
