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
// and measures what the process grew by. Then it does what a restart does: closes everything and takes it up again.
func brokerMemory(ctx context.Context, n int, state string, r *report) (err error) {
	debug.SetGCPercent(50) // as ddtb does with so many
	r.progress("memory: %d sessions by the broker alone", n)
	b := &brokerRun{sessions: n}
	if b.folder, err = os.MkdirTemp(state, "tspbench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.folder)) }()
	if b.site, err = newSite(wire); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.site.Close()) }()
	if err := b.open(ctx); err != nil {
		return err
	}
	if err := b.fill(ctx, r); err != nil {
		return errors.Join(err, b.close(ctx))
	}
	begin := time.Now()
	if err := b.close(ctx); err != nil {
		return err
	}
	if err := b.open(ctx); err != nil {
		return err
	}
	r.add("broker.restart."+thousands(n)+".ms", milliseconds(time.Since(begin)), "ms", goal{})
	found := 0
	for range b.broker.Sessions(provision.Filter{State: provision.Active}) {
		found++
	}
	if found != n {
		err = fmt.Errorf("%d of %d sessions are left after a restart", found, n)
	}
	return errors.Join(err, b.close(ctx))
}

// brokerRun is a broker with what it works with.
type brokerRun struct {
	sessions int
	site     *site
	folder   string

	datapath datapath.Datapath
	store    *lease.Embedded
	broker   *provision.Broker
	stop     context.CancelFunc
	running  *errgroup.Group
}

// open takes up what is there, as a daemon does at its start.
func (b *brokerRun) open(ctx context.Context) (err error) {
	pools := []lease.Pool{lease.Pool(datapathConfig(b.sessions).Pools[0])}
	if b.datapath, err = openDriver(ctx, b.site, fixedHop, b.sessions); err != nil {
		return err
	}
	if b.store, err = lease.OpenEmbedded(b.folder, pools, lease.Options{Logger: zerolog.Nop()}); err != nil {
		return errors.Join(err, b.datapath.Close())
	}
	b.broker, err = provision.New(
		provision.Config{Node: "bench", Server: tunnelServer, Pools: pools, LostAfter: patience, MaxSessions: 2 * b.sessions},
		provision.Deps{Store: b.store, Datapath: b.datapath, Logger: zerolog.Nop()})
	if err == nil {
		err = b.broker.Recover(ctx)
	}
	if err != nil {
		return errors.Join(err, b.store.Close(), b.datapath.Close())
	}
	ctx, b.stop = context.WithCancel(ctx)
	b.running = &errgroup.Group{}
	b.running.Go(func() error { return b.broker.Run(ctx) })
	return nil
}

// close lets go of everything and leaves the tunnels in force.
func (b *brokerRun) close(ctx context.Context) error {
	err := b.broker.Shutdown(context.WithoutCancel(ctx), true)
	b.stop()
	return errors.Join(err, b.running.Wait(), b.store.Close(), b.datapath.Close())
}

// fill makes the sessions and reports what they took.
func (b *brokerRun) fill(ctx context.Context, r *report) error {
	debug.FreeOSMemory()
	before, err := anonymousMemory(os.Getpid())
	if err != nil {
		return err
	}
	begin := time.Now()
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(256) // so many wait for the disk at once
	for i := range b.sessions {
		group.Go(func() error { return brokerSession(inner, b.broker, i) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := anonymousMemory(os.Getpid())
	if err != nil {
		return err
	}
	n := float64(b.sessions)
	r.add(fmt.Sprintf("session.bytes.%d", b.sessions), (float64(after)-float64(before))/n, "B/session", sessionGoal)
	r.add("broker.per_s", n/took.Seconds(), "sessions/s", goal{})
	return nil
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
		switch {
		case strings.HasPrefix(fields[1], "session.bytes."):
			g = sessionGoal
			r.growth.set("session.bytes", n, value)
		case strings.HasPrefix(fields[1], "broker.restart."):
			r.growth.set("restart.ms", n, value)
		}
		r.add(fields[1], value, fields[3], g)
	}
	return failure
}
