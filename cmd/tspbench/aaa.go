// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ddtb/aaa"
	"ddtb/cmd/tspbench/lab"
	"ddtb/cmd/tspbench/logins"
	"ddtb/tsp/sasl"
)

// aaaOptions are the settings of the subjects "radius" and "ldap".
type aaaOptions struct {
	program string // path of ddtb
	state   string // directory for the state of the daemon and of the server
	contrib string // our folder of files for other programs
	logins  int    // in one round
	rounds  int
	window  int // logins, or requests of the bare client, at a time
}

func (o *aaaOptions) flags(command *cobra.Command) {
	flags := command.Flags()
	flags.IntVar(&o.logins, "logins", o.logins, "logins in a round")
	flags.IntVar(&o.rounds, "rounds", o.rounds, "rounds")
	flags.IntVar(&o.window, "window", o.window, "logins, or requests of the bare client, at a time")
	flags.StringVar(&o.program, "daemon", o.program, "the ddtb to measure")
	flags.StringVar(&o.state, "state", o.state, "directory for the state of the daemon and of the server")
	flags.StringVar(&o.contrib, "contrib", o.contrib, "our folder of files for other programs")
}

// aaaServer is a server of the ISP's, and a client that asks it for nothing but what a login needs.
type aaaServer interface {
	subscribers
	// open makes the bare client; what it opens belongs to a namespace. Close ends it.
	open(space *lab.Space) error
	// ask verifies the credential of the n-th account, and tells what the daemon would of where its owner is.
	ask(ctx context.Context, n int, mechanism sasl.Mechanism) error
	close()
}

// aaaLogins measures complete logins with accounts that another server knows, and what that server does for a bare client, in
// turn: both have the same machine at the same time. share is the goal of the one against the other.
func aaaLogins(ctx context.Context, name string, share goal, newServer func(*apart) aaaServer, o aaaOptions, r *report) (err error) {
	if err := positive(map[string]int{"logins": o.logins, "rounds": o.rounds, "window": o.window}); err != nil {
		return err
	}
	cpus, err := newApart()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cpus.join()) }()
	server := newServer(cpus)
	mechanisms := []sasl.Mechanism{sasl.Plain, sasl.DigestMD5}
	settings := daemonOptions{program: o.program, state: o.state, sessions: len(mechanisms) * o.rounds * o.logins, subscribers: server}
	return withDaemon(ctx, settings, r, func(d *daemon, before uint64) error {
		if err := server.open(d.server); err != nil {
			return err
		}
		defer server.close()
		c := &contest{daemon: d, server: server, options: o}
		for _, mechanism := range mechanisms {
			r.progress("%s: %d times %d logins by %s, %d at a time", name, o.rounds, o.logins, mechanism, o.window)
			if err := c.run(ctx, mechanism); err != nil {
				return err
			}
			short := strings.ToLower(strings.TrimSuffix(string(mechanism), "-MD5"))
			c.figures("login."+name+"."+short, share, r)
		}
		after, err := d.memory()
		if err != nil {
			return err
		}
		r.add(fmt.Sprintf("session.%s.bytes.%d", name, settings.sessions), d.each(before, after), "B/session", sessionGoal)
		return nil
	})
}

// contest is logins at a daemon against requests to the server behind it.
type contest struct {
	daemon  *daemon
	server  aaaServer
	options aaaOptions
	begun   int // logins so far: each is of another subscriber

	login, bare pace
	cpu         time.Duration // the daemon's
}

// pace is how fast something went, one entry a round.
type pace struct {
	rate     []float64 // a second
	p50, p99 []float64 // milliseconds
}

func (p *pace) add(durations []time.Duration, elapsed time.Duration) {
	p.rate = append(p.rate, float64(len(durations))/elapsed.Seconds())
	p.p50 = append(p.p50, milliseconds(percentile(durations, 50)))
	p.p99 = append(p.p99, milliseconds(percentile(durations, 99)))
}

// run measures both in turn, so many rounds.
func (c *contest) run(ctx context.Context, mechanism sasl.Mechanism) error {
	c.login, c.bare, c.cpu = pace{}, pace{}, 0
	for range c.options.rounds {
		first := c.begun
		c.begun += c.options.logins
		began := time.Now()
		durations, err := flood(ctx, c.options.logins, c.options.window, func(ctx context.Context, i int) error {
			return c.server.ask(ctx, first+i, mechanism)
		})
		if err != nil {
			return fmt.Errorf("bare client: %w", err)
		}
		c.bare.add(durations, time.Since(began))
		if err := c.logIn(ctx, mechanism, first); err != nil {
			return err
		}
	}
	return nil
}

// logIn logs in one round of subscribers.
func (c *contest) logIn(ctx context.Context, mechanism sasl.Mechanism, first int) error {
	before, _, err := c.daemon.cpu()
	if err != nil {
		return err
	}
	result, err := logins.Run(ctx, logins.Config{
		Server: c.daemon.address(), Host: "bench", Mechanism: mechanism, Count: c.options.logins, Window: c.options.window,
		Account: func(n int) logins.Account { return account(first + n) }, Random: rand.Reader,
		Source: func(n int) netip.Addr { return loginSource(first + n) }, Port: firstLoginPort, Workers: 1, Within: c.daemon.client.Do,
	})
	if err != nil {
		return err
	}
	if result.Failed() > 0 {
		return c.daemon.explain(fmt.Errorf("%d of %d logins failed: %s", result.Failed(), c.options.logins, reasons(result)))
	}
	after, _, err := c.daemon.cpu()
	c.cpu += after - before
	c.login.add(result.Durations, result.Elapsed)
	return err
}

// Goals: what an ISP's server accepts is what limits us, and a login takes no more than three times what the server takes for
// its part of it.
var (
	shareGoal = goal{0.8, atLeast}
	delayGoal = goal{3, atMost}
)

// figures reports the median round of each, and the median of what a login round was to the bare one before it.
func (c *contest) figures(name string, share goal, r *report) {
	r.add(name+".per_s", median(c.login.rate), "logins/s", goal{})
	r.add(name+".p50_ms", median(c.login.p50), "ms", goal{})
	r.add(name+".p99_ms", median(c.login.p99), "ms", goal{})
	r.add(name+".daemon_us", float64(c.cpu)/float64(time.Microsecond)/float64(c.options.rounds*c.options.logins), "us/login", goal{})
	r.add(name+".server.per_s", median(c.bare.rate), "requests/s", goal{})
	r.add(name+".server.p99_ms", median(c.bare.p99), "ms", goal{})
	r.add(name+".vs_server", medianRatio(c.login.rate, c.bare.rate), "x", share)
	r.add(name+".p99.vs_server", medianRatio(c.login.p99, c.bare.p99), "x", delayGoal)
}

// credential is what a login by a mechanism would hand to the AAA server.
func credential(account logins.Account, mechanism sasl.Mechanism) aaa.Credential {
	if mechanism == sasl.Plain {
		return aaa.Password{Username: account.User, Password: account.Password}
	}
	c := aaa.Digest{
		Username: account.User, Realm: realm, Nonce: rand.Text(), CNonce: rand.Text(), NC: "00000001", QOP: "auth", URI: "tsp/bench", UTF8: true,
	}
	c.Response = c.Respond(aaa.NewHA1(account.User, realm, account.Password))
	return c
}
