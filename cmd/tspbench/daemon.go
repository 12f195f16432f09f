// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"ddtb/cmd/tspbench/lab"
	"ddtb/provision/control"
)

// realm of the daemon's accounts.
const realm = "bench"

// patience is after how many keepalive intervals a silent subscriber is given up: ours never say anything.
const patience = 100

// daemonOptions say which daemon is measured.
type daemonOptions struct {
	program     string // path of ddtb
	state       string // directory for its state: its disk is measured too
	sessions    int
	name        string      // of the node; "": "bench"
	more        string      // sections of the configuration besides
	subscribers subscribers // who knows the accounts; nil: the daemon itself
}

// subscribers is a server of the ISP's that knows the accounts and runs beside the daemon.
type subscribers interface {
	// start starts it with accounts for so many subscribers in a namespace, with its files in a folder, and gives what the
	// daemon's configuration says of it.
	start(space *lab.Space, folder string, accounts int) (config string, err error)
	stop()
}

// daemon is a real ddtb in a site of its own, with accounts for as many subscribers as it is to have sessions.
type daemon struct {
	*site
	options daemonOptions
	folder  string
	process *lab.Process
	control *control.Client
	log     string
}

// newDaemon makes the accounts and starts the daemon.
func newDaemon(ctx context.Context, o daemonOptions, r *report) (_ *daemon, err error) {
	if _, err := os.Stat(o.program); err != nil {
		return nil, fmt.Errorf("the daemon is needed, build it or name it with --daemon: %w", err)
	}
	if o.sessions < 1 || o.sessions > most {
		return nil, fmt.Errorf("sessions: %d, want 1 to %d", o.sessions, most)
	}
	d := &daemon{options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.folder, err = os.MkdirTemp(o.state, "tspbench-"); err != nil {
		return nil, err
	}
	d.log = filepath.Join(d.folder, "log")
	d.control = control.NewClient(d.socket())
	if d.site, err = newSite(wire); err != nil {
		return nil, err
	}
	r.progress("daemon: %d accounts", o.sessions)
	known, err := d.accounts(ctx)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	if err := os.WriteFile(d.configFile(), append(d.config(), known...), 0o600); err != nil {
		return nil, err
	}
	_, err = d.start(ctx)
	return d, err
}

// accounts makes them, wherever they are known, and gives what the daemon's configuration has to say of that.
func (d *daemon) accounts(ctx context.Context) (config string, err error) {
	if s := d.options.subscribers; s != nil {
		return s.start(d.server, filepath.Join(d.folder, "subscribers"), d.options.sessions)
	}
	return "", makeAccounts(ctx, filepath.Join(d.folder, "state"), d.options.sessions)
}

// withDaemon starts a daemon, lets run measure it and ends it. before is its memory without sessions.
func withDaemon(ctx context.Context, o daemonOptions, r *report, run func(d *daemon, before uint64) error) (err error) {
	d, err := newDaemon(ctx, o, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	before, err := d.memory()
	if err != nil {
		return err
	}
	return run(d, before)
}

func (d *daemon) socket() string     { return filepath.Join(d.folder, "control.sock") }
func (d *daemon) configFile() string { return filepath.Join(d.folder, "ddtb.toml") }

// config is the daemon's configuration. What is not said here is as it comes.
func (d *daemon) config() []byte {
	return fmt.Appendf(nil, `
[server]
name = "%s"
listen = ["%s"]
ipv6 = "%s"
resolvers = ["%s"]
state = "%s/state"
[tsp]
realm = "%s"
[[pool]]
name = "bench"
endpoints = "%s"
prefixes = "%s"
prefix_length = %d
size = %d
[session]
lost_after = %d
[datapath]
driver = "xdp"
mode = "native"
nexthop = "fixed"
device = "%s"
uplinks = ["%s"]
cores = ["%s"]
mtu = 1472
pin_path = "%s/tspbench"
[control]
socket = "%s"
[log]
level = "info"
format = "json"
%s`, cmp.Or(d.options.name, "bench"), server4.Addr(), tunnelServer, coreHost, d.folder, realm, endpointNet, prefixNet, prefixLen, d.options.sessions+1024, patience,
		tunnelDevice, uplinkDevice, innerDevice, lab.BPFFS, d.socket(), d.options.more)
}

// start starts the daemon and waits until it is ready; took is how long that was.
func (d *daemon) start(ctx context.Context) (took time.Duration, err error) {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd := exec.Command(d.options.program, "-c", d.configFile())
	cmd.Stdout, cmd.Stderr = log, log
	begin := time.Now()
	if d.process, err = d.server.Start(cmd); err != nil {
		return 0, err
	}
	if err := d.ready(ctx); err != nil {
		return 0, d.explain(err)
	}
	return time.Since(begin), nil
}

// ready waits for the daemon to serve.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		health, err := d.control.Health(ctx)
		if err == nil && health.Ready {
			return nil
		}
		select {
		case <-d.process.Done():
			return fmt.Errorf("%s ended before it was ready: %w", d.options.program, d.process.Wait())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", d.options.program, errors.Join(ctx.Err(), err))
		case <-time.After(time.Millisecond):
		}
	}
}

// stop ends the daemon and waits until it is gone. Its tunnels stay in force.
func (d *daemon) stop(ctx context.Context) error {
	if err := d.process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", d.options.program, err)
	}
	select {
	case <-d.process.Done():
		if err := d.process.Wait(); err != nil {
			return d.explain(fmt.Errorf("%s ended with: %w", d.options.program, err))
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(30 * time.Second):
		return d.explain(fmt.Errorf("%s does not end after SIGTERM", d.options.program))
	}
}

// explain adds the end of the daemon's log to an error.
func (d *daemon) explain(err error) error {
	const enough = 2000
	text, _ := os.ReadFile(d.log)
	text = text[max(0, len(text)-enough):]
	return fmt.Errorf("%w; its log ends: %s", err, bytes.TrimSpace(text))
}

// address is where the daemon serves.
func (d *daemon) address() netip.AddrPort { return netip.AddrPortFrom(server4.Addr(), tspPort) }

// Close ends the daemon and its site and removes its state.
func (d *daemon) Close() error {
	var errs []error
	if d.process != nil {
		_ = d.process.Kill()
		_ = d.process.Wait()
	}
	if d.control != nil {
		d.control.Close()
	}
	if d.options.subscribers != nil {
		d.options.subscribers.stop()
	}
	if d.site != nil {
		errs = append(errs, d.site.Close())
	}
	if d.folder != "" {
		errs = append(errs, os.RemoveAll(d.folder))
	}
	return errors.Join(errs...)
}
