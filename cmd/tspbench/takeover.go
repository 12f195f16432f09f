// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"ddtb/cmd/tspbench/logins"
	"ddtb/provision"
)

// takeoverGoal is the longest that a subscriber's old server may keep his tunnel.
var takeoverGoal = goal{1000, atMost}

// takeoverOptions are the settings of the subject "takeover".
type takeoverOptions struct {
	program string // path of ddtb
	state   string // directory for the daemons' state
	redis   string // redis-server
	count   int    // subscribers that move
}

func takeoverCommand() *cobra.Command {
	o := fullPlan().takeover
	command := subject("takeover", "How soon a tunnel server gives up a subscriber who logs in at another",
		`Runs a redis-server and two daemons that share it, each with the eBPF datapath and in namespaces of its own. Subscribers have tunnels
at the first; each logs in at the second, one after another. Measured is the time from the first message of the login until the
first daemon tells that it has taken the tunnel out of the kernel; then the same the other way with eight logins at a time.`,
		asRoot(func(ctx context.Context, r *report) error { return takeover(ctx, o, r) }))
	flags := command.Flags()
	flags.IntVar(&o.count, "count", o.count, "subscribers that move")
	flags.StringVar(&o.program, "daemon", o.program, "the ddtb to measure")
	flags.StringVar(&o.state, "state", o.state, "directory for the daemons' state")
	flags.StringVar(&o.redis, "redis", o.redis, "redis-server to be started")
	return command
}

// takeover measures takeovers from one daemon by another.
func takeover(ctx context.Context, o takeoverOptions, r *report) (err error) {
	if err := positive(map[string]int{"count": o.count}); err != nil {
		return err
	}
	r.progress("takeover: %d subscribers move from one server to another", o.count)
	socket, _, stop, err := startRedis(ctx, leaseOptions{program: o.redis, callers: 1})
	if err != nil {
		return err
	}
	defer stop()
	var nodes [2]*daemon
	for i := range nodes {
		if nodes[i], err = newDaemon(ctx, o.node(i+1, socket), r); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, nodes[i].Close()) }()
	}
	if err := nodes[0].fill(ctx, o.count); err != nil {
		return err
	}
	alone, err := nodes[0].lose(ctx, nodes[1], o.count, 1)
	if err != nil {
		return err
	}
	together, err := nodes[1].lose(ctx, nodes[0], o.count, 8)
	if err != nil {
		return err
	}
	r.add("takeover.ms.p50", milliseconds(percentile(alone, 50)), "ms", goal{})
	r.add("takeover.ms.p99", milliseconds(percentile(alone, 99)), "ms", takeoverGoal)
	r.add("takeover.ms.x8.p50", milliseconds(percentile(together, 50)), "ms", goal{})
	r.add("takeover.ms.x8.p99", milliseconds(percentile(together, 99)), "ms", takeoverGoal)
	return nil
}

// node is one of the tunnel servers that share a Redis.
func (o takeoverOptions) node(number int, redis string) daemonOptions {
	return daemonOptions{
		program: o.program, state: o.state, sessions: o.count, name: fmt.Sprintf("bench%d", number),
		more: fmt.Sprintf("[lease]\nstore = \"redis\"\ngrace = \"1s\"\n[redis]\naddresses = [%q]\n[fleet]\naddress = %q\n", redis,
			addIPv4(server4.Addr(), uint32(number))),
	}
}

// fill logs every subscriber in. A pool that is new gives nobody a lease for a while.
func (d *daemon) fill(ctx context.Context, count int) error {
	trying, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for d.logIn(trying, 0) != nil {
		if err := wait(trying, 50*time.Millisecond); err != nil {
			return d.explain(fmt.Errorf("%s gives nobody a tunnel: %w", d.options.name, err))
		}
	}
	_, err := flood(ctx, count-1, 64, func(ctx context.Context, i int) error { return d.logIn(ctx, i+1) })
	return err
}

// logIn logs the n-th subscriber in.
func (d *daemon) logIn(ctx context.Context, n int) error {
	const ports = 20_000
	result, err := logins.Run(ctx, logins.Config{
		Server: d.address(), Host: "bench", Account: func(int) logins.Account { return account(n) }, Count: 1, Window: 1, Random: rand.Reader,
		Source: func(int) netip.Addr { return loginSource(n) }, Port: uint16(firstLoginPort + n%ports), Within: d.client.Do,
	})
	if err == nil && result.Failed() > 0 {
		err = d.explain(fmt.Errorf("subscriber %d cannot log in at %s: %s", n, d.options.name, reasons(result)))
	}
	return err
}

// lose has the subscribers of d log in at another server, so many at a time, and measures until each is gone from d.
func (d *daemon) lose(ctx context.Context, to *daemon, count, atOnce int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	gone := make([]chan struct{}, count)
	users := make(map[string]chan struct{}, count)
	for i := range gone {
		gone[i] = make(chan struct{})
		users[account(i).User] = gone[i]
	}
	watching, end := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- d.watch(watching, users) }()
	took, err := flood(ctx, count, atOnce, func(ctx context.Context, i int) error {
		if err := to.logIn(ctx, i); err != nil {
			return err
		}
		select {
		case <-gone[i]:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("subscriber %d is still at %s: %w", i, d.options.name, ctx.Err())
		}
	})
	end()
	return took, errors.Join(err, <-watched)
}

// watch closes the channel of each subscriber whose tunnel d has given up for another server, until ctx is done.
func (d *daemon) watch(ctx context.Context, users map[string]chan struct{}) error {
	for event, err := range d.control.Events(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("events of %s: %w", d.options.name, err)
		}
		if event.Kind != string(provision.EventTakeover) || event.Session == nil {
			continue
		}
		if channel := users[event.Session.User]; channel != nil {
			close(channel)
			delete(users, event.Session.User)
		}
	}
	return nil
}
