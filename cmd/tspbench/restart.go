// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ddtb/cmd/tspbench/lab"
	"ddtb/cmd/tspbench/logins"
	"ddtb/cmd/tspbench/pktgen"
	"ddtb/provision/datapath"
)

// restartOptions are the settings of the subject "restart".
type restartOptions struct {
	loginOptions
	rate   float64 // packets a second each way
	repeat int
}

func restartCommand() *cobra.Command {
	o := fullPlan().restart
	command := subject("restart", "Restart of the daemon under traffic",
		`Starts the daemon in namespaces, logs in all subscribers, sends packets both ways through some of the tunnels and
restarts the daemon: from SIGTERM until the next one is ready. Packets sent that do not arrive are lost.`,
		asRoot(func(ctx context.Context, r *report) error { return restart(ctx, o, r) }))
	loginFlags(command, &o.loginOptions)
	command.Flags().Float64Var(&o.rate, "rate", o.rate, "packets a second each way")
	command.Flags().IntVar(&o.repeat, "repeat", o.repeat, "restarts")
	return command
}

// flowing is how many of the tunnels carry traffic while the daemon restarts.
const flowing = 1024

// restart logs every subscriber in, lets packets flow through some tunnels both ways at a known rate, and restarts the
// daemon: from SIGTERM to the next one being ready. Packets that are sent and do not arrive are lost.
func restart(ctx context.Context, o restartOptions, r *report) error {
	return withDaemon(ctx, o.daemonOptions, r, func(d *daemon, _ uint64) error {
		sessions, err := d.loginAll(ctx, o.loginOptions, r)
		if err != nil {
			return err
		}
		return d.restartAll(ctx, o, sessions, r)
	})
}

// restartAll restarts the daemon under traffic, o.repeat times, and reports the slowest.
func (d *daemon) restartAll(ctx context.Context, o restartOptions, sessions []logins.Session, r *report) (err error) {
	if err := positive(map[string]int{"repeat": o.repeat, "rate": int(o.rate)}); err != nil {
		return err
	}
	r.progress("restart: %d times with %d tunnels, %g packets/s each way through %d of them", o.repeat, len(sessions),
		o.rate, min(flowing, len(sessions)))
	flows, err := d.flows(sessions[:min(flowing, len(sessions))])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, flows.close()) }()
	var slowest time.Duration
	var sent, lost uint64
	for range o.repeat {
		var took time.Duration
		s, l, err := flows.during(ctx, o.rate, func(ctx context.Context) (err error) {
			took, err = d.restartOnce(ctx)
			return err
		})
		if err != nil {
			return err
		}
		slowest, sent, lost = max(slowest, took), sent+s, lost+l
	}
	name := "restart." + thousands(len(sessions))
	r.add(name+".ms", milliseconds(slowest), "ms", goal{2000, atMost})
	r.add(name+".sent_packets", float64(sent), "packets", goal{})
	r.add(name+".lost_packets", float64(lost), "packets", goal{0, atMost})
	r.growth.set("restart.ms", len(sessions), milliseconds(slowest))
	r.growth.set("restart.lost_packets", len(sessions), float64(lost))
	return d.stillThere(ctx, len(sessions))
}

func (d *daemon) restartOnce(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	if err := d.stop(ctx); err != nil {
		return 0, err
	}
	if _, err := d.start(ctx); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// stillThere makes sure that the restarted daemon has the sessions.
func (d *daemon) stillThere(ctx context.Context, sessions int) error {
	status, err := d.control.Status(ctx)
	if err != nil {
		return err
	}
	if got := status.Sessions[datapath.V6UDPV4.String()]; got != sessions {
		return fmt.Errorf("after the restart the daemon has %d sessions of %d", got, sessions)
	}
	return nil
}

// flow is traffic one way.
type flow struct {
	space     *lab.Space
	generator *pktgen.Generator
	sink      *pktgen.Sink
}

// flows is traffic both ways.
type flows []*flow

// flows makes generators and sinks for the tunnels of some sessions.
func (d *daemon) flows(sessions []logins.Session) (f flows, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	var up, down [][]byte
	for _, session := range sessions {
		up = append(up, carried(datapath.V6UDPV4, session.Client, session.Endpoint))
		down = append(down, native(session.Endpoint))
	}
	for _, way := range []struct {
		frames  [][]byte
		from    *lab.Space
		device  string
		to      *lab.Space
		arrival string
		mark    int
	}{
		{up, d.client, clientDevice, d.core, coreDevice, markNative},
		{down, d.core, coreDevice, d.client, clientDevice, markTunnel(datapath.V6UDPV4)},
	} {
		one := &flow{space: way.from}
		f = append(f, one)
		if one.sink, err = newSink(pktgen.SinkXDP, way.to, way.arrival, way.mark); err != nil {
			return f, err
		}
		index, err := way.from.Index(way.device)
		if err != nil {
			return f, err
		}
		if one.generator, err = pktgen.NewGenerator(pktgen.Config{Device: index, Frames: way.frames}); err != nil {
			return f, err
		}
	}
	return f, nil
}

// settling is how long traffic flows before and after what it is to witness.
const settling = 200 * time.Millisecond

// during lets traffic flow while f runs, and counts packets.
func (f flows) during(ctx context.Context, rate float64, work func(context.Context) error) (sent, lost uint64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	streams, stop := context.WithCancel(ctx)
	defer stop()
	before, err := f.count(ctx)
	if err != nil {
		return 0, 0, err
	}
	runs := make([]pktgen.Run, len(f))
	var group errgroup.Group
	for i, one := range f {
		group.Go(func() error {
			defer cancel() // when a stream ends early, the rest is worth nothing
			return one.space.Pinned(i, func() (err error) {
				runs[i], err = one.generator.Stream(streams, rate)
				return err
			})
		})
	}
	err = wait(ctx, settling)
	if err == nil {
		err = work(ctx)
	}
	if err == nil {
		err = wait(ctx, settling)
	}
	stop()
	if err := errors.Join(group.Wait(), err); err != nil {
		return 0, 0, err
	}
	after, err := f.count(context.WithoutCancel(ctx))
	for i := range f {
		sent += runs[i].Sent
		lost += runs[i].Sent - min(runs[i].Sent, after[i]-before[i])
	}
	return sent, lost, err
}

func (f flows) count(ctx context.Context) ([]uint64, error) {
	counts := make([]uint64, len(f))
	for i, one := range f {
		var err error
		if counts[i], err = settled(ctx, one.sink); err != nil {
			return counts, err
		}
	}
	return counts, nil
}

func (f flows) close() error {
	var errs []error
	for _, one := range f {
		if one.generator != nil {
			one.generator.Close()
		}
		if one.sink != nil {
			errs = append(errs, one.sink.Close())
		}
	}
	return errors.Join(errs...)
}

// thousands writes 50000 as 50k and 1000000 as 1m.
func thousands(n int) string {
	if n >= 1_000_000 && n%1_000_000 == 0 {
		return fmt.Sprintf("%dm", n/1_000_000)
	}
	if n >= 1000 && n%1000 == 0 {
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}
