// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"ddtb/aaa"
	"ddtb/aaa/radius"
	"ddtb/aaa/radius/radiustest"
	"ddtb/aaa/spool"
)

// deliveryOptions are the settings of the subject "delivery".
type deliveryOptions struct {
	records int // in a round
	rounds  int
	state   string
	contrib string
}

func deliveryCommand() *cobra.Command {
	o := fullPlan().delivery
	command := subject("delivery", "Accounting records a second that leave the spool for a FreeRADIUS",
		`Starts a FreeRADIUS with the files of contrib/freeradius, which writes accounting to a detail file, and measures how many records a
second the spool delivers to it; in turn with that, how many the same server takes from a client that keeps none of them. The
server has a CPU for itself, as it has a machine of its own elsewhere.`,
		func(ctx context.Context, r *report) error { return delivery(ctx, o, r) })
	flags := command.Flags()
	flags.IntVar(&o.records, "records", o.records, "records in a round")
	flags.IntVar(&o.rounds, "rounds", o.rounds, "rounds")
	flags.StringVar(&o.state, "state", o.state, "directory for the spool and the detail file; its disk is measured too")
	flags.StringVar(&o.contrib, "contrib", o.contrib, "our folder of files for other programs")
	return command
}

// bareDeliveries is how many records are on their way at a time without the spool: as many as with it.
const bareDeliveries = 64

// delivery measures both in turn. At the end every record has to stand in the detail file.
func delivery(ctx context.Context, o deliveryOptions, r *report) (err error) {
	if err := positive(map[string]int{"records": o.records, "rounds": o.rounds}); err != nil {
		return err
	}
	r.progress("delivery: %d times %d records", o.rounds, o.records)
	folder, err := os.MkdirTemp(o.state, "tspbench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	cpus, err := newApart()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cpus.join()) }()
	server, err := radiustest.New(radiustest.Options{
		Dir: filepath.Join(folder, "radius"), Contrib: filepath.Join(o.contrib, "freeradius"), Launch: cpus.launcher(nil),
	})
	if err != nil {
		return err
	}
	if err := server.Run(); err != nil {
		return err
	}
	defer server.Stop()
	client, err := radius.NewClient(radius.Options{Servers: []radius.Server{{Address: server.Acct, Secret: []byte(radiustest.Secret)}}})
	if err != nil {
		return err
	}
	to := &counted{to: radius.NewAccounting(client, radius.AcctOptions{NAS: radius.NAS{Identifier: "bench"}}, time.Now)}
	s, _, err := spool.Open(filepath.Join(folder, "spool"), to, spool.Options{Logger: zerolog.Nop()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := to.compare(ctx, s, o, r); err != nil {
		return err
	}
	return detailed(server.Detail(), 2*o.rounds*o.records)
}

// compare measures both ways in turn and reports them.
func (c *counted) compare(ctx context.Context, s *spool.Spool, o deliveryOptions, r *report) error {
	var bare, spooled []float64
	for round := range o.rounds {
		began := time.Now()
		if _, err := flood(ctx, o.records, bareDeliveries, func(ctx context.Context, i int) error {
			return c.to.Deliver(ctx, acctRecord(2*round, i, 0, aaa.StatusStart))
		}); err != nil {
			return fmt.Errorf("bare client: %w", err)
		}
		bare = append(bare, float64(o.records)/time.Since(began).Seconds())
		if err := writeRecords(ctx, s, acctOptions{records: o.records, producers: 1024, series: 2*round + 1}); err != nil {
			return err
		}
		took, err := c.drain(ctx, s, o.records)
		if err != nil {
			return err
		}
		spooled = append(spooled, float64(o.records)/took.Seconds())
	}
	r.add("acct.delivery.per_s", median(spooled), "records/s", goal{})
	r.add("acct.delivery.server.per_s", median(bare), "records/s", goal{})
	r.add("acct.delivery.vs_server", medianRatio(spooled, bare), "x", shareGoal)
	return nil
}

// counted delivers records and tells when the last of some is taken.
type counted struct {
	to   spool.Deliverer
	left atomic.Int64
	done chan struct{}
}

// Deliver implements spool.Deliverer.
func (c *counted) Deliver(ctx context.Context, r aaa.Record) error {
	err := c.to.Deliver(ctx, r)
	if err == nil && c.left.Add(-1) == 0 {
		close(c.done)
	}
	return err
}

// drain lets the spool deliver what it has, so many records.
func (c *counted) drain(ctx context.Context, s *spool.Spool, records int) (time.Duration, error) {
	c.left.Store(int64(records))
	c.done = make(chan struct{})
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- s.Run(running) }()
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	took := time.Since(began)
	stop()
	return took, errors.Join(<-ended, ctx.Err())
}

// detailed makes sure that a detail file has so many records; more of them are retransmissions that the server took for new.
func detailed(path string, want int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if got := bytes.Count(text, []byte("\tAcct-Status-Type = ")); got < want {
		return fmt.Errorf("%s has %d records, want %d", path, got, want)
	}
	return nil
}
