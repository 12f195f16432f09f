// SPDX-License-Identifier: GPL-2.0-or-later

// Package xdp is the eBPF datapath for stock kernels.
package xdp

import (
	"context"
	"iter"
	"net/netip"

	"github.com/rs/zerolog"

	"ddtb/provision/datapath"
)

// Driver is a datapath.Datapath in eBPF.
type Driver struct {
	options Options
}

var (
	_ datapath.Datapath     = (*Driver)(nil)
	_ datapath.DropReporter = (*Driver)(nil)
	_ datapath.Injector     = (*Driver)(nil)
)

// New makes a Driver for the network namespace of the calling thread. Nothing changes in the kernel before Configure.
func New(options Options) (*Driver, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	return &Driver{options: options.withDefaults()}, nil
}

// Remove takes everything out of the kernel that a Driver with this Config left there: programs, maps, routes, the
// device. Tunnels stop. What is not there is no error.
func Remove(_ context.Context, _ datapath.Config, _ zerolog.Logger) error {
	return datapath.ErrNotSupported
}

// Configure implements datapath.Datapath.
func (d *Driver) Configure(context.Context, datapath.Config) error { return datapath.ErrNotSupported }

// Set implements datapath.Datapath.
func (d *Driver) Set(context.Context, ...datapath.Tunnel) error { return datapath.ErrNotSupported }

// Delete implements datapath.Datapath.
func (d *Driver) Delete(context.Context, uint32) (datapath.Counters, error) {
	return datapath.Counters{}, datapath.ErrNotSupported
}

// All implements datapath.Datapath.
func (d *Driver) All(context.Context) iter.Seq2[datapath.State, error] {
	return func(yield func(datapath.State, error) bool) { yield(datapath.State{}, datapath.ErrNotSupported) }
}

// Drops implements datapath.DropReporter.
func (d *Driver) Drops(context.Context) ([]datapath.Drop, error) {
	return nil, datapath.ErrNotSupported
}

// Inject implements datapath.Injector.
func (d *Driver) Inject(datapath.Encap, netip.AddrPort, netip.AddrPort, []byte) {}

// Close implements datapath.Datapath.
func (d *Driver) Close() error { return nil }
