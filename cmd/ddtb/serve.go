// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// processors is the fewest the runtime is to share its goroutines among, also on a machine with one CPU: one that waits for the
// disk is taken away from its thread only after a while, and nothing else runs meanwhile if it is the only one. Accounting was
// delivered at a third of the rate then. GOMAXPROCS in the environment goes before it.
const processors = 2

// serve runs the daemon until a signal ends it.
func serve(o options, h host, version string) error {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < processors {
		runtime.GOMAXPROCS(processors)
	}
	c, err := load(o.file, h)
	if err != nil {
		return err
	}
	if o.level != "" {
		c.Log.Level = o.level
	}
	if err := setLevel(c.Log.Level); err != nil {
		return usageError{err}
	}
	log, flush := newLogger(os.Stderr, c.Log)
	defer flush()
	log.Info().Str("version", version).Str("config", o.file).Str("node", c.Server.Name).Msg("starting")

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if os.Getenv("GOGC") == "" { // which goes before what we think
		go boundGarbage(ctx)
	}

	d := &daemon{file: o.file, host: h, log: log, opened: make(chan struct{})}
	notify := notifier{log: log, alive: d.alive, summary: d.summary}
	go obey(signals, time.Now, cancel, func() { notify.reloading(d.reloadLogged) }, func() { os.Exit(exitFailed) }, log)
	if err := openDaemon(ctx, c, d, version); err != nil {
		return err
	}
	return d.run(ctx, notify)
}

// insistence is how long after the first a further signal means "now". Before that it is the same wish told twice, as
// timeout(1) and terminals do that signal a process and its group.
const insistence = time.Second

// obey acts on signals: the first that ends calls stop, one after insistence exit; SIGHUP calls reload, one at a time.
func obey(signals <-chan os.Signal, now func() time.Time, stop, reload, exit func(), log zerolog.Logger) {
	var stopping time.Time
	for s := range signals {
		switch {
		case s == syscall.SIGHUP && stopping.IsZero():
			reload()
		case s == syscall.SIGHUP:
		case stopping.IsZero():
			log.Info().Stringer("signal", s).Msg("told to stop")
			stopping = now()
			stop()
		case now().Sub(stopping) >= insistence:
			log.Warn().Stringer("signal", s).Msg("told again: exit at once, tunnels stay as they are")
			exit()
		}
	}
}

// reloadLogged is reload for a signal, which has nobody to return an error to.
func (d *daemon) reloadLogged() {
	select {
	case <-d.opened:
	default:
		d.log.Warn().Msg("configuration not read again: ddtb is still starting")
		return
	}
	err := d.reload()
	d.reloads.done(err)
	if err != nil {
		d.log.Error().Err(err).Msg("configuration not read again; everything stays as it was")
	}
}

// alive says why the daemon is not to be trusted any more, nil while it is.
func (d *daemon) alive() error {
	status := d.broker.Status()
	limit := 10*status.Config.SweepInterval + 5*time.Minute
	if !status.Ready || status.Swept.IsZero() {
		return nil
	}
	if late := time.Since(status.Swept); late > limit {
		return fmt.Errorf("no look at the tunnels for %s", late.Round(time.Second))
	}
	return nil
}

// summary is the line for `systemctl status`.
func (d *daemon) summary() string {
	status := d.broker.Status()
	total := 0
	for _, n := range status.Active {
		total += n
	}
	return fmt.Sprintf("%d sessions, %d offered, %d logins since the start", total, status.Offered, status.Logins)
}
