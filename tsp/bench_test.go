// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

// BenchmarkDialogues runs complete dialogues over loopback sockets, VERSION to accept, client and server in one process.
func BenchmarkDialogues(b *testing.B) {
	for _, mechanism := range []sasl.Mechanism{sasl.DigestMD5, sasl.Anonymous} {
		b.Run(string(mechanism), func(b *testing.B) {
			backend := tsptest.NewBackend()
			backend.Fail = func(context.Context, string, string) error { return nil }
			server := tsptest.NewServer(b, tsp.ServerConfig{Backend: backend, Limits: tsp.Limits{Rate: tsp.Unlimited, PerSource: 1 << 20}})
			client := tsp.Client{User: tsptest.User, Password: tsptest.Password, Mechanisms: []sasl.Mechanism{mechanism}}
			if mechanism == sasl.Anonymous {
				backend.Endpoint = backend.Endpoint.Next()
			}
			b.ReportAllocs()
			b.ResetTimer()
			start := time.Now()
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
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "dialogues/s")
		})
	}
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
