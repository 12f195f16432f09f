// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ddtb/aaa"
	"ddtb/aaa/spool"
)

// acctOptions are the settings of the subject "acct".
type acctOptions struct {
	records   int
	producers int
	state     string
	series    int // of sessions: those of another are other sessions
}

func acctCommand() *cobra.Command {
	o := fullPlan().acct
	command := subject("acct", "Accounting records a second that are safe on disk",
		`Measures the spool of accounting records: how many records a second are on disk, written by sessions that each wait for
their own, and how many a second leave it again for a billing system that takes whatever comes.`,
		func(ctx context.Context, r *report) error { return acct(ctx, o, r) })
	flags := command.Flags()
	flags.IntVar(&o.records, "records", o.records, "records to write")
	flags.IntVar(&o.producers, "producers", o.producers, "sessions that begin or end at a time")
	flags.StringVar(&o.state, "state", o.state, "directory for the spool; its disk is measured too")
	return command
}

// swallower is a billing system that takes every record at once.
type swallower struct {
	taken atomic.Int64
	all   int64
	done  chan struct{} // closed with the last
}

// Deliver implements spool.Deliverer.
func (s *swallower) Deliver(context.Context, aaa.Record) error {
	if s.taken.Add(1) == s.all {
		close(s.done)
	}
	return nil
}

// acct writes records into a spool, then has them delivered.
func acct(ctx context.Context, o acctOptions, r *report) (err error) {
	if err := positive(map[string]int{"records": o.records, "producers": o.producers}); err != nil {
		return err
	}
	r.progress("acct: %d records, %d at a time", o.records, o.producers)
	folder, err := os.MkdirTemp(o.state, "tspbench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	to := &swallower{all: int64(o.records), done: make(chan struct{})}
	s, _, err := spool.Open(filepath.Join(folder, "spool"), to, spool.Options{Logger: zerolog.Nop()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	begun := time.Now()
	if err := writeRecords(ctx, s, o); err != nil {
		return err
	}
	r.add("acct.spool.per_s", float64(o.records)/time.Since(begun).Seconds(), "records/s", goal{20000, atLeast})
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	begun = time.Now()
	go func() { ended <- s.Run(running) }()
	select {
	case <-to.done:
		r.add("acct.delivered.per_s", float64(o.records)/time.Since(begun).Seconds(), "records/s", goal{})
	case <-ctx.Done():
	}
	stop()
	return errors.Join(<-ended, ctx.Err())
}

// writeRecords has every producer write one record after the other, Start and Stop in turn.
func writeRecords(ctx context.Context, s *spool.Spool, o acctOptions) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for producer := range min(o.producers, o.records) {
		group.Go(func() error {
			status := aaa.StatusStart
			for turn := 0; next.Add(1) <= int64(o.records); turn++ {
				record := acctRecord(o.series, producer, turn/2, status)
				if err := s.Account(ctx, record); err != nil {
					return err
				}
				status = aaa.StatusStart + aaa.StatusStop - status
			}
			return nil
		})
	}
	return group.Wait()
}

// acctRecord is one of the n-th subscriber's.
func acctRecord(series, n, turn int, status aaa.Status) aaa.Record {
	return aaa.Record{
		Status: status, Session: fmt.Sprintf("%08x%08x%08x", series, n, turn), Time: time.Now(),
		Subscriber: aaa.Subscriber{Name: account(n).User, Class: [][]byte{[]byte("class")}},
		TunnelID:   uint32(n), Encap: "v6udpv4",
	}
}
