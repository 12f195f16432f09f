// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ddtb/cmd/ddtb/config"
	"ddtb/provision"
	"ddtb/provision/control"
	"ddtb/provision/datapath"
)

// daemon is a ddtb that has everything open and is ready to run.
type daemon struct {
	file string // of the configuration
	host host
	log  zerolog.Logger

	opened chan struct{} // closed by openDaemon when all is there

	mu     sync.Mutex
	config config.Config // in force, completed by host

	dp      datapath.Datapath
	remove  func(ctx context.Context, c datapath.Config, log zerolog.Logger) error
	reloads *reloads
	broker  *provision.Broker
	backend *backend
	bound   func(config.Config) error // puts the limits for strangers in force
	front   []task                    // what clients speak to
	back    []task                    // what must live longer than front
	closers []func() error
}

// openDaemon opens everything that a completed configuration names: first what tells that another ddtb runs, then what is
// kept, then the kernel, last what clients speak to. Nothing stays open after an error.
func openDaemon(ctx context.Context, c config.Config, d *daemon, version string) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	d.config = c
	listener, err := listenControl(c.Control)
	if err != nil {
		return err
	}
	d.closers = append(d.closers, listener.Close)
	if err := os.MkdirAll(c.Server.State, 0o700); err != nil {
		return fmt.Errorf("server.state: %w", err)
	}
	registry := newRegistry(version)
	d.reloads = newReloads(registry)
	deps, err := d.openBroker(ctx, c, registry, version)
	if err != nil {
		return err
	}
	server, err := d.openFront(ctx, c, registry)
	if err != nil {
		return err
	}
	deps.Version = version
	deps.Config = d.shown
	deps.Health = func() error { return started(server) }
	deps.Logger = d.log
	d.back = append(d.back, newRoutine("control", func(ctx context.Context, ready func()) error {
		ready()
		return control.NewServer(deps).Serve(ctx, listener)
	}))
	if err := d.openDynamic(c); err != nil {
		return err
	}
	if err := d.openMetrics(c, registry); err != nil {
		return err
	}
	close(d.opened)
	return nil
}

// openBroker opens leases, accounts and datapath, and makes the broker over them.
func (d *daemon) openBroker(ctx context.Context, c config.Config, registry *prometheus.Registry, version string) (deps control.Deps, err error) {
	table := builtIn()
	here := given{config: c, log: d.log, registry: registry}
	if here.redis, err = d.openRedis(c, registry); err != nil {
		return deps, err
	}
	logins, err := table.openLogins(here)
	if err != nil {
		return deps, err
	}
	d.closers = append(d.closers, logins.close)
	d.back = append(d.back, logins.tasks...)
	billing, err := d.openAccountant(table, here)
	if err != nil {
		return deps, err
	}
	store, err := table.openStore(here)
	if err != nil {
		return deps, err
	}
	d.closers = append(d.closers, store.Close)
	driver := table.datapaths[c.Datapath.Driver]
	if d.dp, err = driver.open(c.Datapath, d.log); err != nil {
		return deps, fmt.Errorf("datapath: %w", err)
	}
	if c.Datapath.Driver == "null" {
		d.log.Warn().Msg("datapath.driver is null: sessions are kept, no packet is moved")
	}
	d.remove = driver.remove
	d.closers = append(d.closers, d.dp.Close)
	if err := d.dp.Configure(ctx, datapathConfig(c)); err != nil {
		return deps, fmt.Errorf("datapath: %w", err)
	}
	d.broker, err = provision.New(c.Settings(), provision.Deps{
		Store: store, Datapath: d.dp, Accountant: billing, Backends: logins.chain, Logger: d.log, Registerer: registry,
	})
	if err != nil {
		return deps, err
	}
	d.watchRefuted(store)
	d.backend = newBackend(logins.chain, d.broker, policyOf(c))
	deps = control.Deps{Broker: d.broker, Store: store, Accounting: billing.kept, Datapath: describe(d.dp, c.Datapath)}
	if deps.Fleet, err = d.openFleet(c, here.redis, registry, version); err != nil {
		return deps, err
	}
	if err = d.openRoutes(c); err != nil {
		return deps, err
	}
	deps.Drops, _ = d.dp.(datapath.DropReporter)
	if logins.accounts != nil {
		deps.Users = control.LocalUsers(logins.accounts)
	}
	return deps, nil
}

// openAccountant opens what takes accounting records.
func (d *daemon) openAccountant(table drivers, here given) (accountant, error) {
	name := here.config.AAA.Accounting
	a, err := table.accounts[name](here)
	if err != nil {
		return accountant{}, fmt.Errorf("aaa.accounting %s: %w", name, err)
	}
	if a.close != nil {
		d.closers = append(d.closers, a.close)
	}
	if a.task != nil {
		d.back = append(d.back, a.task)
	}
	return a, nil
}

// openMetrics opens the HTTP listener, if one is wanted.
func (d *daemon) openMetrics(c config.Config, registry *prometheus.Registry) error {
	if c.Metrics.Listen == "" {
		return nil
	}
	listener, err := net.Listen("tcp", c.Metrics.Listen)
	if err != nil {
		return fmt.Errorf("metrics.listen: %w", explainBind(err))
	}
	d.closers = append(d.closers, listener.Close)
	d.back = append(d.back, metricsTask(listener, metricsHandler(registry, d.notReady)))
	return nil
}

// listenControl opens the control socket for its group.
func listenControl(c config.Control) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(c.Socket), 0o755); err != nil {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	listener, err := control.Listen(c.Socket)
	if err != nil {
		return nil, err
	}
	if c.Group == "" {
		return listener, nil
	}
	gid, err := groupID(c.Group)
	if err == nil {
		err = os.Chown(c.Socket, -1, gid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control.group: %w", err), listener.Close())
	}
	return listener, nil
}

func groupID(name string) (int, error) {
	if gid, err := strconv.Atoi(name); err == nil {
		return gid, nil
	}
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(group.Gid)
}

// run serves until ctx is done, then lets dialogues end, and leaves or ends the tunnels as configured. The parts that
// clients speak to start when the broker has recovered and stop before it does. After a failure the tunnels always stay:
// the next daemon takes them over.
func (d *daemon) run(ctx context.Context, notify notifier) error {
	broker := newRoutine("broker", func(ctx context.Context, ready func()) error {
		if err := d.broker.Recover(ctx); err != nil {
			return err
		}
		ready()
		return d.broker.Run(ctx)
	})
	last, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var frontErr error
	front := newRoutine("clients", func(back context.Context, ready func()) error {
		defer stop()
		serving, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(back, cancel)()
		if _, ok := awaitReady(serving, broker); ok {
			ready()
			frontErr = runTasks(serving, d.front...)
		}
		d.log.Info().Msg("stopping")
		frontErr = errors.Join(frontErr, d.shutdown(d.keeps(ctx)))
		return nil
	})
	all := append([]task{broker, front}, d.back...)
	all = append(all, notify.task(append(append([]task{broker}, d.front...), d.back...)))
	err := errors.Join(runTasks(last, all...), frontErr, d.close())
	if !d.keeps(ctx) {
		err = errors.Join(err, d.removeDatapath())
	}
	return err
}

// keeps reports whether tunnels stay in force: always, unless it was asked to stop and is configured otherwise.
func (d *daemon) keeps(asked context.Context) bool {
	return asked.Err() == nil || d.current().Server.KeepTunnels
}

// shutdownTime is how long the ending of sessions may take.
const shutdownTime = 60 * time.Second

func (d *daemon) shutdown(keep bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	return d.broker.Shutdown(ctx, keep)
}

// removeDatapath takes the closed datapath out of the kernel.
func (d *daemon) removeDatapath() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	return d.remove(ctx, datapathConfig(d.current()), d.log)
}

// close closes what is open, the last first.
func (d *daemon) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		if err := d.closers[i](); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	d.closers = nil
	return errors.Join(errs...)
}

// current is the configuration in force.
func (d *daemon) current() config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config
}

// shown is the configuration in force as ddtbctl shows it.
func (d *daemon) shown() any { return d.current().Map() }

// started is nil once a task is ready.
func started(t task) error {
	select {
	case <-t.Ready():
		return nil
	default:
		return fmt.Errorf("%s has not started", t)
	}
}

// notReady says why clients are not served, "" if they are.
func (d *daemon) notReady() string {
	for _, t := range d.front {
		if err := started(t); err != nil {
			return err.Error()
		}
	}
	if !d.broker.Status().Ready {
		return "recovering or stopping"
	}
	return ""
}
