// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/local"
	"ddtb/cmd/ddtb/config"
	"ddtb/provision/datapath"
	"ddtb/provision/datapath/xdp"
	"ddtb/provision/lease"
)

// drivers is the one table of what is built in, by the names that the configuration knows.
type drivers struct {
	datapaths map[string]datapathDriver
	stores    map[string]func(dir string, pools []lease.Pool, opts lease.Options) (leaseStore, error)
	backends  map[string]func(dir string, c config.Config, log zerolog.Logger) (authBackend, error)
	accounts  map[string]func(log zerolog.Logger) aaa.Accountant
}

func builtIn() drivers {
	return drivers{
		datapaths: map[string]datapathDriver{
			"auto": {open: openXDP, remove: xdp.Remove},
			"xdp":  {open: openXDP, remove: xdp.Remove},
			"null": {open: openNull, remove: removeNothing},
		},
		stores: map[string]func(string, []lease.Pool, lease.Options) (leaseStore, error){
			"embedded": openEmbedded,
			"memory":   openMemory,
		},
		backends: map[string]func(string, config.Config, zerolog.Logger) (authBackend, error){
			"local": openLocal,
		},
		accounts: map[string]func(zerolog.Logger) aaa.Accountant{
			"none": func(zerolog.Logger) aaa.Accountant { return aaa.Discard{} },
			"log":  func(log zerolog.Logger) aaa.Accountant { return aaa.LogAccountant{Logger: log} },
		},
	}
}

// datapathDriver makes a datapath, and takes what one left in the kernel out of it.
type datapathDriver struct {
	open   func(c config.Datapath, log zerolog.Logger) (datapath.Datapath, error)
	remove func(ctx context.Context, c datapath.Config, log zerolog.Logger) error
}

func openXDP(c config.Datapath, log zerolog.Logger) (datapath.Datapath, error) {
	return xdp.New(xdp.Options{Mode: xdp.Mode(c.Mode), NextHop: xdp.NextHop(c.NextHop), DSCP: xdp.DSCP(c.DSCP), Logger: log})
}

func openNull(config.Datapath, zerolog.Logger) (datapath.Datapath, error) {
	return datapath.NewNull(time.Now), nil
}

func removeNothing(context.Context, datapath.Config, zerolog.Logger) error { return nil }

// leaseStore is a lease.Store that is to be closed.
type leaseStore interface {
	lease.Store
	Close() error
}

func openEmbedded(dir string, pools []lease.Pool, opts lease.Options) (leaseStore, error) {
	return lease.OpenEmbedded(dir, pools, opts)
}

func openMemory(_ string, pools []lease.Pool, opts lease.Options) (leaseStore, error) {
	store, err := lease.NewMemory(pools, opts)
	return memoryStore{store}, err
}

// memoryStore is a Memory with nothing to close.
type memoryStore struct{ *lease.Memory }

func (memoryStore) Close() error { return nil }

// authBackend is one backend of the chain. Accounts are those it keeps itself, nil if none.
type authBackend struct {
	aaa.Authenticator
	accounts *local.Store
	close    func() error
}

func openLocal(dir string, c config.Config, log zerolog.Logger) (authBackend, error) {
	backends := c.AAA.Backends
	store, err := local.Open(dir, local.Options{
		Realm: c.TSP.Realm, Logger: log, NoDigest: !c.AAA.Local.Digest, Cram: c.AAA.Local.Cram,
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
	closers  []func() error
}

// openLogins opens the backends in the order they are asked, and lets guests in behind them if they may.
func (d drivers) openLogins(c config.Config, log zerolog.Logger) (l logins, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	for _, name := range c.AAA.Backends {
		backend, err := d.backends[name](c.Server.State, c, log)
		if err != nil {
			return l, fmt.Errorf("aaa backend %s: %w", name, err)
		}
		l.chain = append(l.chain, backend.Authenticator)
		l.closers = append(l.closers, backend.close)
		if backend.accounts != nil {
			l.accounts = backend.accounts
		}
	}
	if c.Anonymous.Enabled {
		l.chain = append(l.chain, aaa.Guests{Subscriber: aaa.Subscriber{Pool: c.Anonymous.Pool, NoPrefix: true}})
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
func (d drivers) openStore(c config.Config, log zerolog.Logger) (leaseStore, error) {
	store, err := d.stores[c.Lease.Store](filepath.Clean(c.Server.State), config.Leases(c.Pools), lease.Options{
		Quarantine: c.Lease.Quarantine.Duration, Logger: log, Drop: c.Lease.Drop,
	})
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
