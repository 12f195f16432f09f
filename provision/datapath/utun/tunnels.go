// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

const (
	// batchSize is how many tunnels go in one message, and batchRoutes how many routes of them: it fits the library's buffer, and
	// the answer to it the socket's.
	batchSize   = 128
	batchRoutes = 512
	// resumptions is how often a dump that the kernel broke off is resumed without any progress.
	resumptions = 3
)

// Set implements datapath.Datapath.
func (d *Driver) Set(_ context.Context, tunnels ...datapath.Tunnel) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return err
	}
	var errs []error
	var valid []datapath.Tunnel
	for _, t := range tunnels {
		if err := d.config.Check(t); err != nil {
			errs = append(errs, err)
			continue
		}
		valid = append(valid, t)
	}
	for batch := range batches(valid) {
		errs = append(errs, d.setBatch(batch))
	}
	return errors.Join(errs...)
}

// batches splits tunnels into what goes in one message. One that is there twice is in two, one after the other.
func batches(tunnels []datapath.Tunnel) iter.Seq[[]datapath.Tunnel] {
	return func(yield func([]datapath.Tunnel) bool) {
		begin, routes, in := 0, 0, map[uint32]bool{}
		for n, t := range tunnels {
			if routes += t.Routes.Len(); n-begin == batchSize || routes > batchRoutes || in[t.ID] {
				if !yield(tunnels[begin:n]) {
					return
				}
				begin, routes = n, t.Routes.Len()
				clear(in)
			}
			in[t.ID] = true
		}
		if begin < len(tunnels) {
			yield(tunnels[begin:])
		}
	}
}

// change is a tunnel on its way into force, and what becomes needless then.
type change struct {
	placed
	client, before *device // in layout Interface: its device, and the one it had if it gets another
	made           bool    // client is new
	foreign, stale []netip.Prefix
}

// setBatch puts tunnels of different ids in force: first what packets for them need, then the tunnels, then what is left over
// goes. What is wrong with one does not keep the others out.
func (d *Driver) setBatch(tunnels []datapath.Tunnel) error {
	var errs []error
	var changes []change
	for _, t := range tunnels {
		c, err := d.prepare(t)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		changes = append(changes, c)
	}
	if len(changes) == 0 {
		return errors.Join(errs...)
	}
	if d.send(changes) == nil {
		for _, c := range changes {
			errs = append(errs, d.settle(c))
		}
		return errors.Join(errs...)
	}
	// The module stops at the first that it refuses; one at a time tells which, and puts the rest in force.
	for _, c := range changes {
		if err := d.send([]change{c}); err != nil {
			errs = append(errs, d.explain(c, err), d.revert(c))
			continue
		}
		errs = append(errs, d.settle(c))
	}
	return errors.Join(errs...)
}

func (d *Driver) send(changes []change) error {
	tunnels := make([]placed, 0, len(changes))
	for _, c := range changes {
		tunnels = append(tunnels, c.placed)
	}
	return d.family.request(encodeSet(d.device.index, tunnels), nil)
}

func (d *Driver) explain(c change, err error) error {
	if invalid(err) {
		return fmt.Errorf("tunnel %d: %w: %w", c.ID, datapath.ErrInvalid, err)
	}
	return fmt.Errorf("tunnel %d: %w", c.ID, err)
}

// prepare makes the routes and the client device of a tunnel.
func (d *Driver) prepare(t datapath.Tunnel) (change, error) {
	c := change{placed: placed{Tunnel: t}, foreign: d.config.ForeignOf(t)}
	for _, prefix := range c.foreign {
		if holder, ok := d.foreign.Holder(prefix); ok && holder != t.ID {
			return c, fmt.Errorf("tunnel %d: %s belongs to tunnel %d: %w", t.ID, prefix, holder, datapath.ErrInvalid)
		}
	}
	had := d.ends[t.ID]
	for _, prefix := range had {
		if !slices.Contains(c.foreign, prefix) {
			c.stale = append(c.stale, prefix)
		}
	}
	for _, prefix := range c.foreign {
		if slices.Contains(had, prefix) {
			continue
		}
		if err := d.router().add(prefix, d.device.index); err != nil {
			return c, fmt.Errorf("tunnel %d: %w", t.ID, err)
		}
		d.foreign.Add(prefix, t.ID)
	}
	if d.options.Layout == Interface {
		if err := d.client(&c); err != nil {
			return c, errors.Join(err, d.revert(c))
		}
	}
	return c, nil
}

// settle does what is left to do for a tunnel that is in force.
func (d *Driver) settle(c change) error {
	delete(d.ends, c.ID)
	delete(d.odd, c.ID)
	if len(c.foreign) > 0 {
		d.ends[c.ID] = c.foreign
	}
	if c.Rate != kept(c.Rate) {
		d.odd[c.ID] = c.Rate
	}
	var errs []error
	for _, prefix := range c.stale {
		d.foreign.Remove(prefix)
		errs = append(errs, d.router().delete(prefix, d.device.index))
	}
	if c.client != nil {
		errs = append(errs, d.dress(c.client, c.Tunnel))
	}
	if c.before != nil {
		errs = append(errs, c.before.remove(d.host))
	}
	if event := d.log.Debug(); event.Enabled() {
		event.Uint32("tunnel", c.ID).Str("encap", c.Encap.String()).Stringer("local", c.Local).Stringer("remote", c.Remote).
			Stringer("endpoint", c.Endpoint).Stringer("prefix", c.Prefix).Msg("tunnel set")
	}
	return errors.Join(errs...)
}

// kept is what the module tells of a rate that it was told.
func kept(rate datapath.Rate) datapath.Rate {
	if rate.Rx != 0 {
		rate.Rx = octetRate(rate.Rx) * 8
	}
	if rate.Tx != 0 {
		rate.Tx = octetRate(rate.Tx) * 8
	}
	return rate
}

// asked is the rate that a tunnel in force was set with.
func (d *Driver) asked(s state) datapath.Rate {
	if rate, ok := d.odd[s.ID]; ok && kept(rate) == s.Rate {
		return rate
	}
	return s.Rate
}

// revert takes back what prepare did for a tunnel that the module refused: what was in force is as before.
func (d *Driver) revert(c change) error {
	var errs []error
	for _, prefix := range c.foreign {
		if holder, ok := d.foreign.Holder(prefix); ok && holder == c.ID && !slices.Contains(d.ends[c.ID], prefix) {
			d.foreign.Remove(prefix)
			errs = append(errs, d.router().delete(prefix, d.device.index))
		}
	}
	if c.made {
		d.clients.forget(c.ID)
		errs = append(errs, c.client.remove(d.host))
		if c.before != nil {
			d.clients.note(c.ID, c.before)
		}
	}
	return errors.Join(errs...)
}

// All implements datapath.Datapath. The tunnels come by ascending id. The reader may work with the Driver meanwhile.
func (d *Driver) All(ctx context.Context) iter.Seq2[datapath.State, error] {
	return func(yield func(datapath.State, error) bool) {
		index, err := d.openDevice(ctx)
		if err == nil {
			err = d.read(ctx, index, func(s state) bool {
				d.mu.Lock()
				s.Rate = d.asked(s)
				d.mu.Unlock()
				return yield(datapath.State{Tunnel: s.Tunnel, Counters: s.Counters, LastSeen: time.Now().Add(-s.idle).Round(0)}, nil)
			})
		}
		if err != nil {
			yield(datapath.State{}, err)
		}
	}
}

// openDevice gives the index of the shared device if it can be asked.
func (d *Driver) openDevice(ctx context.Context) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return 0, err
	}
	return d.device.index, ctx.Err()
}

// read calls each with every tunnel in force until it gives false.
func (d *Driver) read(ctx context.Context, index int, each func(state) bool) error {
	err := d.resume(ctx, cmdTunnelGet, index, func(attributes []byte, next uint64) (uint64, bool, error) {
		more := true
		err := decodeTunnels(attributes, func(s state) error {
			if more && uint64(s.ID) >= next {
				next, more = uint64(s.ID)+1, each(s)
			}
			return nil
		})
		return next, more, err
	})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("read the tunnels: %w", err)
	}
	return err
}

// resume dumps what comes by ascending id. each is told the id to go on with, as some may come twice, and gives that behind
// what it took, and whether it wants more. A dump that breaks off is resumed where it did.
func (d *Driver) resume(ctx context.Context, cmd uint8, index int, each func(attributes []byte, next uint64) (uint64, bool, error)) error {
	next, left := uint64(0), resumptions
	for {
		err := d.family.dump(encodeDump(cmd, index, uint32(next)), func(attributes []byte) (bool, error) {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			before := next
			var more bool
			var err error
			if next, more, err = each(attributes, next); next > before {
				left = resumptions
			}
			return more, err
		})
		again := errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR)
		if left--; !again || left < 0 || next > 1<<32-1 {
			return err
		}
	}
}
