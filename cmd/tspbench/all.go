// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"

	"github.com/spf13/cobra"
)

// allCommand measures everything.
func allCommand() *cobra.Command {
	quick := false
	command := subject("all", "Everything: every subject, and how figures grow with the number of sessions",
		`Measures every subject and prints how the figures grow with the number of sessions. It takes some minutes; --quick
measures the core of it in less than 45 seconds.`,
		asRoot(func(ctx context.Context, r *report) error {
			if quick {
				return all(ctx, quickPlan(), r)
			}
			return all(ctx, fullPlan(), r)
		}))
	command.Flags().BoolVar(&quick, "quick", false, "only the core, in less than 45 seconds")
	return command
}

// all runs a plan. A subject that fails does not keep the others from being measured.
func all(ctx context.Context, p plan, r *report) error {
	share, err := busy(ctx)
	if err != nil {
		return err
	}
	r.add("machine.busy", share, "%", goal{})
	if share > 10 {
		r.progress("something else uses %.0f %% of this machine: figures will be worse than they could be", share)
	}
	r.measure(ctx, "packets", func(ctx context.Context, r *report) error { return packets(ctx, p.packets, r) })
	r.measure(ctx, "ping", func(ctx context.Context, r *report) error { return ping(ctx, p.ping, r) })
	r.measure(ctx, "tcp", func(ctx context.Context, r *report) error { return tcp(ctx, p.tcp, r) })
	r.measure(ctx, "acct", func(ctx context.Context, r *report) error { return acct(ctx, p.acct, r) })
	if p.servers {
		r.measure(ctx, "radius", func(ctx context.Context, r *report) error { return radiusLogins(ctx, p.radius, r) })
		r.measure(ctx, "ldap", func(ctx context.Context, r *report) error { return ldapLogins(ctx, p.ldap, r) })
		r.measure(ctx, "delivery", func(ctx context.Context, r *report) error { return delivery(ctx, p.delivery, r) })
	}
	for _, sessions := range p.smaller {
		o := p.restart
		o.sessions = sessions
		r.aside(func(r *report) {
			r.measure(ctx, "daemon", func(ctx context.Context, r *report) error { return lifetime(ctx, o, r) })
		})
	}
	r.measure(ctx, "daemon", func(ctx context.Context, r *report) error { return lifetime(ctx, p.restart, r) })
	r.measure(ctx, "lease", func(ctx context.Context, r *report) error { return leases(ctx, p.lease, r) })
	r.measure(ctx, "takeover", func(ctx context.Context, r *report) error { return takeover(ctx, p.takeover, r) })
	if p.broker > 0 {
		r.measure(ctx, "memory", func(ctx context.Context, r *report) error {
			return brokerMemoryApart(ctx, p.broker, p.restart.state, r)
		})
	}
	return ctx.Err()
}

// lifetime measures logins, memory and restarts of one daemon.
func lifetime(ctx context.Context, o restartOptions, r *report) error {
	return withDaemon(ctx, o.daemonOptions, r, func(d *daemon, before uint64) error {
		sessions, err := d.loginAll(ctx, o.loginOptions, r)
		if err != nil {
			return err
		}
		if err := d.memoryFigures(before, r); err != nil {
			return err
		}
		if err := d.restartAll(ctx, o, sessions, r); err != nil {
			return err
		}
		return d.restartedFigures(before, r)
	})
}
