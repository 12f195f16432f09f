// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

// BenchmarkDialogues runs complete dialogues over loopback sockets, VERSION to accept, client and server in one process. The processor time of
// both together tells what an idle machine could do, however busy this one is.
func BenchmarkDialogues(b *testing.B) {
	for _, mechanism := range []sasl.Mechanism{sasl.DigestMD5, sasl.Anonymous} {
		b.Run(string(mechanism), func(b *testing.B) {
			backend := tsptest.NewBackend()
			server := tsptest.NewServer(b, tsp.ServerConfig{Backend: backend, Limits: tsp.Limits{Rate: tsp.Unlimited, PerSource: 1 << 20}})
			client := tsp.Client{User: tsptest.User, Password: tsptest.Password, Mechanisms: []sasl.Mechanism{mechanism}}
			b.ReportAllocs()
			b.ResetTimer()
			start, before := time.Now(), processorTime(b)
			var left atomic.Int64
			left.Store(int64(b.N))
			var group sync.WaitGroup
			for range 64 {
				group.Go(func() {
					for left.Add(-1) >= 0 {
						if err := login(client, server.Addr.String()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/dialogue")
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "dialogues/s")
		})
	}
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func login(client tsp.Client, server string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := client.Dial(ctx, "udp4", server)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Login(ctx); err != nil {
		return err
	}
	if _, err := conn.Create(ctx, tsp.Request{Type: tsp.V6UDPV4, Keepalive: 30 * time.Second}); err != nil {
		return err
	}
	return conn.Accept(ctx)
}
