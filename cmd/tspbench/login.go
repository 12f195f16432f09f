// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ddtb/cmd/tspbench/logins"
)

// loginOptions are the settings of the subject "login" against a daemon of our own.
type loginOptions struct {
	daemonOptions
	window  int // dialogues at a time
	workers int
}

func loginCommand() *cobra.Command {
	o := fullPlan().restart.loginOptions
	var remote remoteFlags
	command := subject("login", "Complete logins a second",
		`Measures complete TSP dialogues over UDP: version, DIGEST-MD5 with the server's proof verified, create, accept; lease
and tunnel set. Without --server it starts the daemon in namespaces and logs in subscribers of its own, each from an
address of his own; generator and daemon share the CPUs. With --server it logs in at a server that runs already, with
given accounts, --count times at most --rate a second. The sessions stay there until the server ends them.`,
		func(ctx context.Context, r *report) error {
			if remote.server == "" {
				return asRoot(func(ctx context.Context, r *report) error { return login(ctx, o, r) })(ctx, r)
			}
			options, err := remote.options(ctx)
			if err != nil {
				return err
			}
			return remoteLogin(ctx, options, r)
		})
	loginFlags(command, &o)
	remote.add(command)
	return command
}

func loginFlags(command *cobra.Command, o *loginOptions) {
	flags := command.Flags()
	flags.IntVar(&o.sessions, "sessions", o.sessions, "subscribers that log in")
	flags.IntVar(&o.window, "window", o.window, "dialogues at a time")
	flags.IntVar(&o.workers, "workers", o.workers, "goroutines of the generator")
	flags.StringVar(&o.program, "daemon", o.program, "the ddtb to measure")
	flags.StringVar(&o.state, "state", o.state, "directory for the daemon's state; its disk is measured too")
}

// firstLoginPort is the clients' source port, one more for each worker.
const firstLoginPort = 40000

// login starts a daemon and measures complete logins: DIGEST-MD5 over UDP, lease and tunnel set, each by a subscriber of
// his own from an address of his own. Generator and daemon share the CPUs.
func login(ctx context.Context, o loginOptions, r *report) error {
	return withDaemon(ctx, o.daemonOptions, r, func(d *daemon, _ uint64) error {
		_, err := d.loginAll(ctx, o, r)
		return err
	})
}

// loginAll logs every subscriber in and reports how fast that went.
func (d *daemon) loginAll(ctx context.Context, o loginOptions, r *report) ([]logins.Session, error) {
	if err := positive(map[string]int{"window": o.window, "workers": o.workers}); err != nil {
		return nil, err
	}
	r.progress("login: %d logins, %d at a time", o.sessions, o.window)
	daemonBefore, generatorBefore, err := d.cpu()
	if err != nil {
		return nil, err
	}
	result, err := logins.Run(ctx, logins.Config{
		Server: d.address(), Host: "bench", Account: account, Count: o.sessions, Window: o.window,
		Random: rand.Reader, Source: loginSource, Port: firstLoginPort, Workers: o.workers, Within: d.client.Do,
	})
	if err != nil {
		return nil, err
	}
	if result.Failed() > 0 {
		return nil, d.explain(fmt.Errorf("%d of %d logins failed: %s", result.Failed(), o.sessions, reasons(result)))
	}
	daemonAfter, generatorAfter, err := d.cpu()
	if err != nil {
		return nil, err
	}
	loginFigures("login.local", goal{5000, atLeast}, result, r)
	each := float64(o.sessions) * float64(time.Microsecond)
	r.add("login.local.daemon_us", float64(daemonAfter-daemonBefore)/each, "us/login", goal{})
	r.add("login.local.generator_us", float64(generatorAfter-generatorBefore)/each, "us/login", goal{})
	r.growth.set("login.local.per_s", o.sessions, float64(len(result.Sessions))/result.Elapsed.Seconds())
	return result.Sessions, nil
}

// loginFigures reports rate and times of logins.
func loginFigures(name string, rate goal, result logins.Result, r *report) {
	r.add(name+".per_s", float64(len(result.Sessions))/result.Elapsed.Seconds(), "logins/s", rate)
	r.add(name+".p50_ms", milliseconds(percentile(result.Durations, 50)), "ms", goal{})
	r.add(name+".p99_ms", milliseconds(percentile(result.Durations, 99)), "ms", goal{})
	r.add(name+".resent", float64(result.Resent), "messages", goal{})
}

// loginSource is the outer address of the n-th subscriber.
func loginSource(n int) netip.Addr { return addIPv4(hostOf(clientNet), uint32(n)) }

// reasons lists why logins failed, the most frequent first.
func reasons(result logins.Result) string {
	names := slices.SortedFunc(maps.Keys(result.Failures), func(a, b string) int {
		return result.Failures[b] - result.Failures[a]
	})
	var texts []string
	for _, name := range names[:min(len(names), 5)] {
		texts = append(texts, fmt.Sprintf("%s (%d)", name, result.Failures[name]))
	}
	return strings.Join(texts, ", ")
}

// wait pauses.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
