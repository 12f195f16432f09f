// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// brokerMemory makes n sessions by the broker alone, in this process, with the embedded lease store and the eBPF driver,
// and measures what the process grew by.
func brokerMemory(ctx context.Context, n int, state string, r *report) (err error) {
	r.progress("memory: %d sessions by the broker alone", n)
	folder, err := os.MkdirTemp(state, "tspbench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	s, err := newSite()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	driver, err := openDriver(ctx, s, fixedHop, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	pools := []lease.Pool{lease.Pool(datapathConfig(n).Pools[0])}
	store, err := lease.OpenEmbedded(folder, pools, lease.Options{Logger: zerolog.Nop()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	broker, err := provision.New(
		provision.Config{Node: "bench", Server: tunnelServer, Pools: pools, LostAfter: 1000},
		provision.Deps{Store: store, Datapath: driver, Logger: zerolog.Nop()})
	if err != nil {
		return err
	}
	return brokerSessions(ctx, broker, n, r)
}

// brokerSessions runs the broker, makes its sessions and reports.
func brokerSessions(ctx context.Context, broker *provision.Broker, n int, r *report) error {
	if err := broker.Recover(ctx); err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	var running errgroup.Group
	running.Go(func() error { return broker.Run(run) })
	debug.FreeOSMemory()
	before, err := anonymousMemory(os.Getpid())
	if err != nil {
		return err
	}
	begin := time.Now()
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(256) // so many wait for the disk at once
	for i := range n {
		group.Go(func() error { return brokerSession(inner, broker, i) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := anonymousMemory(os.Getpid())
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("session.bytes.%d", n), (float64(after)-float64(before))/float64(n), "B/session", sessionGoal)
	r.add("broker.per_s", float64(n)/took.Seconds(), "sessions/s", goal{})
	stop()
	return running.Wait()
}

// brokerSession makes the n-th session.
func brokerSession(ctx context.Context, broker *provision.Broker, n int) error {
	session, err := broker.Offer(ctx, provision.Request{
		Subscriber: aaa.Subscriber{Name: account(n).User, Backend: "local", Authentic: aaa.AuthenticLocal},
		Encap:      datapath.V6UDPV4,
		Client:     netip.AddrPortFrom(loginSource(n), firstLoginPort),
		Local:      netip.AddrPortFrom(server4.Addr(), tspPort),
		Keepalive:  30 * time.Second,
	})
	if err != nil {
		return err
	}
	return broker.Activate(ctx, session.ID)
}

// brokerMemoryApart is brokerMemory in a process of its own, so that nothing but the sessions is in its memory.
func brokerMemoryApart(ctx context.Context, n int, state string, r *report) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "memory", "--in-process", strconv.Itoa(n), "--state", state)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it has something to remove
	output := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = output, r.log
	failure := cmd.Run()
	for line := range strings.Lines(output.String()) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[0] != "result" {
			continue
		}
		value, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			return fmt.Errorf("figure %s: %w", fields[1], err)
		}
		g := goal{}
		if strings.HasPrefix(fields[1], "session.bytes.") {
			g = sessionGoal
			r.growth.set("session.bytes", n, value)
		}
		r.add(fields[1], value, fields[3], g)
	}
	return failure
}
