// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// flood calls ask n times, window at a time, and gives how long each took.
func flood(ctx context.Context, n, window int, ask func(ctx context.Context, i int) error) ([]time.Duration, error) {
	durations := make([]time.Duration, n)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(window, n) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				began := time.Now()
				if err := ask(ctx, i); err != nil {
					return err
				}
				durations[i] = time.Since(began)
			}
			return nil
		})
	}
	return durations, group.Wait()
}
