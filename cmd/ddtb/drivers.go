// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/local"
	"ddtb/cmd/ddtb/config"
	"ddtb/provision/control"
	"ddtb/provision/datapath"
	"ddtb/provision/datapath/utun"
	"ddtb/provision/datapath/xdp"
	"ddtb/provision/lease"
	"ddtb/provision/redis"
)

// drivers is the one table of what is built in, by the names that the configuration knows.
type drivers struct {
	datapaths map[string]datapathDriver
	stores    map[string]func(given, lease.Options) (leaseStore, error)
	backends  map[string]func(given) (authBackend, error)
	accounts  map[string]func(given) (accountant, error)
}

func builtIn() drivers {
	return drivers{
		datapaths: map[string]datapathDriver{
			"auto": {open: openAuto, remove: removeAny, probe: probeAuto},
			"utun": {open: openUTUN, remove: utun.Remove, probe: probeUTUN},
			"xdp":  {open: openXDP, remove: xdp.Remove, probe: probeXDP},
			"null": {open: openNull, remove: removeNothing, probe: probeNothing},
		},
		stores: map[string]func(given, lease.Options) (leaseStore, error){
			"embedded": openEmbedded,
			"memory":   openMemory,
			"redis":    openShared,
		},
		backends: map[string]func(given) (authBackend, error){
			"local":  openLocal,
			"ldap":   openLDAP,
			"radius": openRADIUS,
		},
		accounts: map[string]func(given) (accountant, error){
			"none": func(given) (accountant, error) { return accountant{Accountant: aaa.Discard{}}, nil },
			"log": func(s given) (accountant, error) {
				return accountant{Accountant: aaa.LogAccountant{Logger: s.log}}, nil
			},
			"radius": openSpool,
		},
	}
}

// given is what a backend or an accountant is made of: the whole configuration, where to log, where to show figures.
type given struct {
	config   config.Config
	log      zerolog.Logger
	registry prometheus.Registerer
	redis    *redis.Conn // nil: [redis] names no server
}

// datapathDriver makes a datapath, takes what one left in the kernel out of it, and tells what the host has for one.
type datapathDriver struct {
	open   func(c config.Datapath, log zerolog.Logger) (datapath.Datapath, error)
	remove func(ctx context.Context, c datapath.Config, log zerolog.Logger) error
	probe  func(c datapath.Config) []finding
}

// leaseStore is a lease.Store that is to be closed.
type leaseStore interface {
	lease.Store
	Close() error
}

func openEmbedded(s given, opts lease.Options) (leaseStore, error) {
	return lease.OpenEmbedded(filepath.Clean(s.config.Server.State), config.Leases(s.config.Pools), opts)
}

func openMemory(s given, opts lease.Options) (leaseStore, error) {
	store, err := lease.NewMemory(config.Leases(s.config.Pools), opts)
	return memoryStore{store}, err
}

// memoryStore is a Memory with nothing to close.
type memoryStore struct{ *lease.Memory }

func (memoryStore) Close() error { return nil }

// authBackend is one backend of the chain. Accounts are those it keeps itself; it and the others may be nil.
type authBackend struct {
	aaa.Authenticator
	accounts *local.Store
	task     task
	close    func() error
}

// accountant is an aaa.Accountant with what it runs, closes and lets an operator see, if anything.
type accountant struct {
	aaa.Accountant
	kept  control.Accounting
	task  task
	close func() error
}

func openLocal(s given) (authBackend, error) {
	c := s.config
	backends := c.AAA.Backends
	store, err := local.Open(c.Server.State, local.Options{
		Realm: c.TSP.Realm, Logger: s.log, NoDigest: !c.AAA.Local.Digest, Cram: c.AAA.Local.Cram,
		Chained: backends[len(backends)-1] != "local",
	})
	if err != nil {
		return authBackend{}, err
	}
	return authBackend{Authenticator: store, accounts: store, close: store.Close}, nil
}

// logins is all that verifies logins.
type logins struct {
	chain    aaa.Chain
	accounts *local.Store // nil: none are kept here
	tasks    []task
	closers  []func() error
}

// openLogins opens the backends in the order they are asked, and lets guests in behind them if they may.
func (d drivers) openLogins(s given) (l logins, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	for _, name := range s.config.AAA.Backends {
		backend, err := d.backends[name](s)
		if err != nil {
			return l, fmt.Errorf("aaa backend %s: %w", name, err)
		}
		l.chain = append(l.chain, backend.Authenticator)
		if backend.task != nil {
			l.tasks = append(l.tasks, backend.task)
		}
		if backend.close != nil {
			l.closers = append(l.closers, backend.close)
		}
		if backend.accounts != nil {
			l.accounts = backend.accounts
		}
	}
	if s.config.Anonymous.Enabled {
		l.chain = append(l.chain, aaa.Guests{Subscriber: aaa.Subscriber{Pool: s.config.Anonymous.Pool, NoPrefix: true}})
	}
	return l, nil
}

func (l logins) close() error {
	var errs []error
	for _, f := range l.closers {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// openStore opens the lease store.
func (d drivers) openStore(s given) (leaseStore, error) {
	c := s.config.Lease
	if c.Store != "redis" { // what was noted of other leases is of no use any more
		if err := os.Remove(filepath.Join(s.config.Server.State, copyFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("lease store: %w", err)
		}
	}
	store, err := d.stores[c.Store](s, lease.Options{Quarantine: c.Quarantine.Duration, Logger: s.log, Drop: c.Drop})
	if err != nil {
		return nil, fmt.Errorf("lease store: %w", err)
	}
	return store, nil
}

// datapathConfig puts a completed configuration into the words of the datapath.
func datapathConfig(c config.Config) datapath.Config {
	out := datapath.Config{
		Device: c.Datapath.Device, Uplinks: c.Datapath.Uplinks, Cores: c.Datapath.Cores,
		Local: c.Server.TunnelEnds(), Server: c.Server.IPv6, MTU: c.Datapath.MTU, PinPath: c.Datapath.PinPath,
	}
	for _, pool := range config.Leases(c.Pools) {
		out.Pools = append(out.Pools, datapath.Pool(pool))
	}
	return out
}
