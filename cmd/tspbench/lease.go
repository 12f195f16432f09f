// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"ddtb/cmd/tspbench/lab"
	"ddtb/provision/lease"
	"ddtb/provision/redis"
)

// leaseOptions say what of the shared lease store is measured.
type leaseOptions struct {
	leases   []int         // in the pool when it is measured
	callers  int           // at once
	duration time.Duration // of one measurement
	program  string        // redis-server
}

func leaseCommand() *cobra.Command {
	o := fullPlan().lease
	command := subject("lease", "The lease store over Redis: new leases and extensions a second",
		`Starts a redis-server that keeps nothing on disk, fills a pool, and measures how many new leases it gives and how many it
extends a second, at several sizes.`,
		func(ctx context.Context, r *report) error { return leases(ctx, o, r) })
	command.Flags().IntSliceVar(&o.leases, "leases", o.leases, "leases in the pool when it is measured")
	command.Flags().IntVar(&o.callers, "callers", o.callers, "callers at once")
	command.Flags().DurationVar(&o.duration, "time", o.duration, "time of one measurement")
	command.Flags().StringVar(&o.program, "redis", o.program, "redis-server to be started")
	return command
}

// leases measures the store at each size, the smallest first: what is there already is not filled in again.
func leases(ctx context.Context, o leaseOptions, r *report) error {
	if err := positive(map[string]int{"--callers": o.callers, "--time": int(o.duration)}); err != nil {
		return err
	}
	_, conn, stop, err := startRedis(ctx, o)
	if err != nil {
		return err
	}
	defer stop()
	pool := lease.Pool{
		Name: "bench", Size: 1 << 21, EndpointBase: netip.MustParseAddr("2001:db8:8000::"),
		PrefixBase: netip.MustParseAddr("2001:db0::"), PrefixLen: 56,
	}
	store, err := lease.OpenRedis(ctx, []lease.Pool{pool}, lease.RedisOptions{Conn: conn, Node: "bench", Grace: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // the process ends
	b := &leaseBench{store: store, callers: o.callers}
	for _, n := range o.leases {
		r.progress("lease: %d leases in Redis", n)
		if err := b.fill(ctx, n); err != nil {
			return err
		}
		fresh, err := b.fresh(ctx, o.duration)
		if err != nil {
			return err
		}
		extended, err := b.extend(ctx, o.duration)
		if err != nil {
			return err
		}
		r.add(fmt.Sprintf("lease.redis.%d.per_s", n), fresh, "leases/s", goal{})
		r.add(fmt.Sprintf("lease.redis.%d.extended.per_s", n), extended, "leases/s", goal{})
	}
	return nil
}

// startRedis starts a server on a socket of its own, and gives its path and a connection to it.
func startRedis(ctx context.Context, o leaseOptions) (socket string, conn *redis.Conn, stop func(), err error) {
	dir, err := os.MkdirTemp("", "tspbench-redis-")
	if err != nil {
		return "", nil, nil, err
	}
	socket = filepath.Join(dir, "s")
	server := exec.Command(o.program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", dir)
	process, err := lab.Start(server)
	if err != nil {
		return "", nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() {
		_ = process.Kill() // what Wait tells of it is no news
		_ = process.Wait()
		_ = os.RemoveAll(dir)
	}
	conn, err = redis.Open(redis.Options{Addresses: []string{socket}, Connections: o.callers})
	if err != nil {
		stop()
		return "", nil, nil, err
	}
	for wait := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err = conn.Check(ctx); err == nil {
			end := stop
			return socket, conn, func() { _ = conn.Close(); end() }, nil
		}
		if time.Now().After(wait) || ctx.Err() != nil {
			stop()
			return "", nil, nil, errors.Join(err, conn.Close())
		}
	}
}

// leaseBench asks a store.
type leaseBench struct {
	store   *lease.Redis
	callers int
	given   atomic.Int64
}

// one acquires a lease for a subscriber who has none.
func (b *leaseBench) one(ctx context.Context) error {
	i := b.given.Add(1)
	for {
		_, err := b.store.Acquire(ctx, lease.Request{
			Pool: "bench", Owner: fmt.Sprintf("user%07d", i), Session: fmt.Sprintf("%024x", i), Node: "bench", TTL: time.Hour, Data: make([]byte, 150),
		})
		if !errors.Is(err, lease.ErrGrace) {
			return err
		}
	}
}

// each calls fn from all callers at once, as long as it says so, and gives the first error.
func (b *leaseBench) each(fn func(caller int) (more bool, err error)) error {
	errs := make([]error, b.callers)
	var wait sync.WaitGroup
	for c := range b.callers {
		wait.Go(func() {
			for more := true; more && errs[c] == nil; {
				more, errs[c] = fn(c)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (b *leaseBench) fill(ctx context.Context, n int) error {
	return b.each(func(int) (bool, error) {
		if b.given.Load() >= int64(n) {
			return false, nil
		}
		return true, b.one(ctx)
	})
}

// fresh is how many new leases are given a second.
func (b *leaseBench) fresh(ctx context.Context, d time.Duration) (float64, error) {
	before, began := b.given.Load(), time.Now()
	err := b.each(func(int) (bool, error) { return time.Since(began) < d, b.one(ctx) })
	return float64(b.given.Load()-before) / time.Since(began).Seconds(), err
}

// extend is how many leases are extended a second, 1024 at a time as by a sweep.
func (b *leaseBench) extend(ctx context.Context, d time.Duration) (float64, error) {
	var holders []lease.Holder
	for l, err := range b.store.All(ctx) {
		if err != nil {
			return 0, err
		}
		if holders = append(holders, lease.Holder{Pool: l.Pool, Index: l.Index, Session: l.Session}); len(holders) == 1024 {
			break
		}
	}
	began, done := time.Now(), 0
	for time.Since(began) < d {
		lost, err := b.store.Extend(ctx, time.Hour, holders...)
		if err != nil || len(lost) > 0 {
			return 0, fmt.Errorf("extend: %d lost: %w", len(lost), err)
		}
		done += len(holders)
	}
	return float64(done) / time.Since(began).Seconds(), nil
}
