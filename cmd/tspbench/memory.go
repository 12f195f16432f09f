// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// sessionGoal is what the daemon may need of memory for one session, octets.
var sessionGoal = goal{1536, atMost}

func memoryCommand() *cobra.Command {
	o := fullPlan().restart.loginOptions
	inProcess, settle := 0, time.Duration(0)
	command := subject("memory", "Memory of the daemon a session",
		`Starts the daemon in namespaces, logs in all subscribers and measures what its memory grew by (RssAnon: without
program text and the kernel's tunnel table). With --in-process so many sessions are made by the broker alone, with lease
store and eBPF driver but without the dialogues, which a million of would take minutes.`,
		asRoot(func(ctx context.Context, r *report) error {
			if inProcess > 0 {
				return brokerMemory(ctx, inProcess, o.state, r)
			}
			return memory(ctx, o, settle, r)
		}))
	loginFlags(command, &o)
	command.Flags().IntVar(&inProcess, "in-process", 0, "sessions to make by the broker alone")
	command.Flags().DurationVar(&settle, "settle", 0, "measure once more after this time, when late repetitions are no longer awaited")
	return command
}

// memory measures the daemon's memory a session: what it grew by from ready, with the accounts in memory, to every
// subscriber logged in; and again after settle, unless that is 0.
func memory(ctx context.Context, o loginOptions, settle time.Duration, r *report) error {
	return withDaemon(ctx, o.daemonOptions, r, func(d *daemon, before uint64) error {
		if _, err := d.loginAll(ctx, o, r); err != nil {
			return err
		}
		if err := d.memoryFigures(before, r); err != nil || settle == 0 {
			return err
		}
		r.progress("memory: %v for what is kept of dialogues to end", settle)
		if err := wait(ctx, settle); err != nil {
			return err
		}
		after, err := d.memory()
		if err != nil {
			return err
		}
		r.add(fmt.Sprintf("session.settled_bytes.%d", d.options.sessions), d.each(before, after), "B/session", sessionGoal)
		return nil
	})
}

// memoryFigures reports what the daemon grew by since before, right after the logins: what it still keeps of the
// dialogues, to answer late repetitions, counts too.
func (d *daemon) memoryFigures(before uint64, r *report) error {
	after, err := d.memory()
	if err != nil {
		return err
	}
	each := d.each(before, after)
	r.add(fmt.Sprintf("session.bytes.%d", d.options.sessions), each, "B/session", sessionGoal)
	r.add(fmt.Sprintf("daemon.anon_mib.%d", d.options.sessions), float64(after)/(1<<20), "MiB", goal{})
	r.growth.set("session.bytes", d.options.sessions, each)
	return nil
}

// restartedFigures reports the same of a daemon that took the sessions over from the one before: it has had no dialogues.
func (d *daemon) restartedFigures(before uint64, r *report) error {
	after, err := d.memory()
	if err != nil {
		return err
	}
	each := d.each(before, after)
	r.add(fmt.Sprintf("session.restarted_bytes.%d", d.options.sessions), each, "B/session", sessionGoal)
	r.growth.set("session.restarted_bytes", d.options.sessions, each)
	return nil
}

func (d *daemon) each(before, after uint64) float64 {
	return (float64(after) - float64(before)) / float64(d.options.sessions)
}
