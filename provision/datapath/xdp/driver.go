// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/rs/zerolog"

	"ddtb/provision/datapath"
)

// Driver is a datapath.Datapath in eBPF.
type Driver struct {
	options Options
	log     zerolog.Logger
	host    *host
	grace   *grace
	undo    []func() error // of New

	mu       sync.Mutex
	closed   bool
	running  bool // a Config is in force
	config   datapath.Config
	maps     *maps
	table    *table // nil before the first Configure
	state    *state
	device   *device
	places   map[*iface]uint32 // the interfaces and their ports
	outerMTU int               // the smallest of the uplinks
	foreign  datapath.Foreign
	ends     map[uint32]ends          // of tunnels that have a foreign address
	dying    map[uint32]chan struct{} // tunnels out of force whose last counters are being waited for
	refused  map[datapath.Reason]datapath.Drop
	watch    *watcher
	quirks   quirks
}

// quirks make tests see what other hosts would.
type quirks struct {
	old    bool   // as on a kernel without tcx links and without DECAP_L3_IPV6
	spread uint32 // ownLine: the records lie as they would with many more or many fewer CPUs
}

// ends are the inner addresses of a tunnel that lie outside the pools.
type ends struct {
	endpoint netip.Addr
	prefix   netip.Prefix
	routes   datapath.Prefixes
}

var (
	_ datapath.Datapath           = (*Driver)(nil)
	_ datapath.DropReporter       = (*Driver)(nil)
	_ datapath.TunnelDropReporter = (*Driver)(nil)
	_ datapath.Injector           = (*Driver)(nil)
	_ datapath.Resumer            = (*Driver)(nil)
)

var (
	errClosed        = errors.New("the datapath is closed")
	errNotConfigured = errors.New("the datapath is not configured")
)

// New makes a Driver for the network namespace of the calling thread. Nothing changes in the kernel before Configure.
// The error wraps datapath.ErrNotSupported where the kernel or the rights of the process do not do.
func New(options Options) (*Driver, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	d := &Driver{
		options: options.withDefaults(), log: options.Logger,
		ends: map[uint32]ends{}, dying: map[uint32]chan struct{}{}, refused: map[datapath.Reason]datapath.Drop{},
	}
	grace, closeGrace, err := newGrace()
	if err != nil {
		return nil, fmt.Errorf("eBPF: %w: %w", datapath.ErrNotSupported, err)
	}
	host, err := newHost()
	if err != nil {
		return nil, errors.Join(err, closeGrace())
	}
	d.grace, d.host, d.undo = grace, host, []func() error{host.Close, closeGrace}
	return d, nil
}

// Configure implements datapath.Datapath. Programs are loaded anew and replace those in force one by one; the tunnels that
// a changed Config still has room for go on without a gap. After an error the Config that was in force before is again.
func (d *Driver) Configure(ctx context.Context, config datapath.Config) error {
	layout, err := validate(config, spreadOf(config.Pools, runtime.NumCPU())^d.quirks.spread)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.settle(ctx); err != nil {
		return err
	}
	if d.closed {
		return errClosed
	}
	if d.watch != nil {
		d.watch.stop()
		d.watch = nil
	}
	before, running := d.config, d.running
	if err = d.apply(config, layout); err != nil && running {
		err = errors.Join(err, d.apply(before, d.table.layout))
	}
	return err
}

// apply puts a Config in force.
func (d *Driver) apply(config datapath.Config, l layout) error {
	c := &change{driver: d, config: config, layout: l}
	if err := c.run(); err != nil {
		return fmt.Errorf("configure the datapath: %w", err)
	}
	watch, err := d.startWatch()
	if err != nil {
		return err
	}
	d.watch, d.running = watch, true
	return nil
}

// validate checks what this driver needs beyond datapath.Config.Validate.
func validate(config datapath.Config, spread uint32) (layout, error) {
	if err := config.Validate(); err != nil {
		return layout{}, err
	}
	switch {
	case config.Device == "" || len(config.Device) > 15:
		return layout{}, fmt.Errorf("device %q: a name of 1 to 15 characters is expected", config.Device)
	case len(config.Uplinks) == 0:
		return layout{}, errors.New("uplinks: at least one interface is expected")
	case len(config.Cores) == 0:
		return layout{}, errors.New("cores: at least one interface is expected; it may be an uplink too")
	case len(config.Local) > maxLocal:
		return layout{}, fmt.Errorf("%d local addresses: at most %d", len(config.Local), maxLocal)
	}
	return layoutOf(config, spread)
}

// settle waits, with the lock given back meanwhile, until none of the given tunnels is dying; none given: no tunnel at all.
func (d *Driver) settle(ctx context.Context, tunnels ...datapath.Tunnel) error {
	for {
		gone := d.anyDying(tunnels)
		if gone == nil {
			return nil
		}
		d.mu.Unlock()
		var err error
		select {
		case <-gone:
		case <-ctx.Done():
			err = ctx.Err()
		}
		d.mu.Lock()
		if err != nil {
			return err
		}
	}
}

func (d *Driver) anyDying(tunnels []datapath.Tunnel) chan struct{} {
	if len(d.dying) == 0 {
		return nil
	}
	if len(tunnels) == 0 {
		for _, gone := range d.dying {
			return gone
		}
	}
	for _, t := range tunnels {
		if gone, ok := d.dying[t.ID]; ok {
			return gone
		}
	}
	return nil
}

// Close implements datapath.Datapath. Programs, maps, links, routes and the device stay; next hops that need a process to
// watch them are taken out, so that the programs look them up themselves.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.settle(context.Background()); err != nil {
		return err
	}
	if d.closed {
		return nil
	}
	d.closed = true
	if d.watch != nil {
		d.watch.stop()
	}
	var errs []error
	if d.table != nil {
		d.state.forget()
		errs = append(errs, d.table.close(), d.state.close(), d.maps.close())
		d.table = nil
	}
	if d.device != nil {
		errs = append(errs, d.device.close())
	}
	for _, undo := range d.undo {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}

// usable tells whether tunnels can be worked with.
func (d *Driver) usable() error {
	switch {
	case d.closed:
		return errClosed
	case d.table == nil:
		return errNotConfigured
	}
	return nil
}

// pinDir is where the maps of this version are.
func pinDir(config datapath.Config) string { return filepath.Join(config.PinPath, version) }
