// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// Driver is a datapath.Datapath in the kernel module utun.
type Driver struct {
	options Options
	log     zerolog.Logger
	host    *host
	family  *family

	mu      sync.Mutex
	closed  bool
	device  *device // nil before the first Configure
	config  datapath.Config
	clients clients
	foreign datapath.Foreign
	ends    map[uint32][]netip.Prefix // of tunnels that have addresses outside the pools: those
	odd     map[uint32]datapath.Rate  // of tunnels with rates that the module does not keep to the bit: those

	deletions deletions
}

var (
	_ datapath.Datapath           = (*Driver)(nil)
	_ datapath.DropReporter       = (*Driver)(nil)
	_ datapath.TunnelDropReporter = (*Driver)(nil)
	_ datapath.Attacher           = (*Driver)(nil)
	_ datapath.Resumer            = (*Driver)(nil)
)

var (
	errClosed        = errors.New("the datapath is closed")
	errNotConfigured = errors.New("the datapath is not configured")
)

// New makes a Driver for the network namespace of the calling thread. Nothing changes in the kernel before Configure, but that it
// loads the module if it is installed. The error wraps datapath.ErrNotSupported where it is not.
func New(options Options) (*Driver, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	h, err := newHost()
	if err != nil {
		return nil, err
	}
	f, err := openFamily(h)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return &Driver{options: options, log: options.Logger, host: h, family: f, clients: newClients(), ends: map[uint32][]netip.Prefix{},
		odd: map[uint32]datapath.Rate{},
	}, nil
}

// Configure implements datapath.Datapath. The module changes over between two packets. After an error the Config that was in
// force before is again.
func (d *Driver) Configure(_ context.Context, config datapath.Config) error {
	if err := validate(config); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	if err := errors.Join(d.host.Forwards(), d.host.interfaces(config)); err != nil {
		return fmt.Errorf("configure the datapath: %w", err)
	}
	before, running := d.config, d.device != nil
	err := d.apply(config)
	if err != nil && running {
		err = errors.Join(err, d.apply(before))
	}
	if err != nil {
		return fmt.Errorf("configure the datapath: %w", err)
	}
	return nil
}

// apply puts a Config in force, in an order in which packets always find their way.
func (d *Driver) apply(config datapath.Config) error {
	device, err := d.open(config.Device)
	if err != nil {
		return err
	}
	if err := d.family.request(encodeDevice(device.index, config, d.options.DSCP), nil); err != nil {
		return fmt.Errorf("device %s: %w", device.name, err)
	}
	d.device, d.config = device, config
	tunnels, err := d.recall()
	if err != nil {
		return err
	}
	routed := aggregates(config)
	for _, foreign := range d.ends {
		routed = append(routed, foreign...)
	}
	if err := errors.Join(device.setAddress(d.host, config.Server, netip.Addr{}), d.router().set(routed, device.index), d.arrange(tunnels)); err != nil {
		return err
	}
	d.log.Info().Str("device", device.name).Str("layout", string(d.options.Layout)).Str("show", "ip -d link show dev "+device.name).
		Msg("device is there")
	return nil
}

// open gives the device, under the name it is to have now.
func (d *Driver) open(name string) (*device, error) {
	if d.device != nil && d.device.name == name {
		return d.device, nil
	}
	return openDevice(d.host, name, d.log)
}

// recall reads from the kernel what the driver has to know of the tunnels: who has addresses outside the pools, and in layout
// Interface or with client devices left over, all of them.
func (d *Driver) recall() ([]state, error) {
	d.foreign, d.ends = datapath.Foreign{}, map[uint32][]netip.Prefix{}
	var tunnels []state
	err := d.read(context.Background(), d.device.index, func(s state) bool {
		if outside := d.config.ForeignOf(s.Tunnel); len(outside) > 0 {
			d.ends[s.ID] = outside
			for _, prefix := range outside {
				d.foreign.Add(prefix, s.ID)
			}
		}
		if d.options.Layout == Interface || s.link != 0 {
			s.Rate = d.asked(s)
			tunnels = append(tunnels, s)
		}
		return true
	})
	return tunnels, err
}

// Attach implements datapath.Attacher.
func (d *Driver) Attach(socket syscall.RawConn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return err
	}
	var attached error
	err := socket.Control(func(fd uintptr) { attached = d.family.request(encodeSocket(d.device.index, fd), nil) })
	if err = errors.Join(err, attached); err != nil {
		return fmt.Errorf("device %s: take over a UDP socket: %w", d.device.name, err)
	}
	return nil
}

// Close implements datapath.Datapath. Device, routes and tunnels stay; in the place of sockets that are closed the kernel opens
// its own, until the next process attaches some.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.family.close()
	return d.host.Close()
}

// usable tells whether tunnels can be worked with.
func (d *Driver) usable() error {
	switch {
	case d.closed:
		return errClosed
	case d.device == nil:
		return errNotConfigured
	}
	return nil
}

func (d *Driver) router() router { return router{host: d.host, mtu: d.config.MTU} }

// invalid tells whether the module refused a tunnel for what it is, not for want of something.
func invalid(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE) || errors.Is(err, unix.EADDRINUSE)
}
