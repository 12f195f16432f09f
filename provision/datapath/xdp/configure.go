// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"ddtb/provision/datapath"
)

// change is one run of Configure.
type change struct {
	driver *Driver
	config datapath.Config
	layout layout

	all  []*iface
	old  *moving // set if the records have to move to another map
	done *loader // what has been attached
}

// run makes the steps in an order in which packets always find their way: the device and its routes, then the programs, at
// each hook the new one in the place of the old; then what is not wanted any more is taken away.
func (c *change) run() error {
	d := c.driver
	if err := d.host.Forwards(); err != nil {
		return err
	}
	all, err := d.host.findInterfaces(c.config)
	if err != nil {
		return err
	}
	c.all = all
	if err := errors.Join(checkMTU(c.config, all), makePinDir(c.config.PinPath)); err != nil {
		return err
	}
	for _, step := range []func() error{c.openMaps, c.place, c.openDevice, c.openTable, c.attach, c.finishMoving, c.refit, c.route, c.tidy} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := d.table.writeConfig(c.config); err != nil {
		return err
	}
	d.config = c.config
	return nil
}

// openMaps opens the maps, and the table of those of an earlier process.
func (c *change) openMaps() error {
	d := c.driver
	if d.table != nil && d.maps.dir == pinDir(c.config) {
		return nil
	}
	if d.table != nil {
		return fmt.Errorf("pin path: it cannot change from %s to %s in a running process", d.maps.dir, pinDir(c.config))
	}
	maps, fresh, err := openMaps(pinDir(c.config), c.layout)
	if err != nil {
		return err
	}
	state, err := openState(maps.named[mapState])
	if err != nil {
		return errors.Join(err, maps.close())
	}
	table, config, err := openTable(maps.named[mapTunnels])
	if err != nil {
		return errors.Join(err, state.close(), maps.close())
	}
	d.maps, d.state, d.table, d.config = maps, state, table, config
	switch {
	case fresh:
		table.arrange(c.layout)
	case table.layout.size == 0:
		d.log.Warn().Msg("the tunnels of an earlier process cannot be read; they are removed")
	}
	return d.recallForeign()
}

// place finds the interfaces their ports.
func (c *change) place() error {
	c.driver.places, c.driver.outerMTU = c.driver.state.place(c.all), outerMTU(c.all)
	return nil
}

func (c *change) openDevice() error {
	d := c.driver
	if d.device != nil && d.device.name == c.config.Device {
		return d.device.configure(d.host, c.config.MTU)
	}
	made, err := openDevice(d.host, c.config, d.log)
	if err != nil {
		return err
	}
	if d.device != nil {
		err = d.device.close()
	}
	d.device = made
	return err
}

// openTable sees to it that the records lie as the Config says: where they are, or in a new map that they move to.
func (c *change) openTable() error {
	d := c.driver
	if d.table.layout.equal(c.layout) {
		return nil
	}
	made, err := d.maps.newTunnels(c.layout)
	if err != nil {
		return err
	}
	next, _, err := openTable(made)
	if err != nil {
		return errors.Join(err, made.Close())
	}
	next.arrange(c.layout)
	c.old = &moving{made: made, next: next}
	return c.startMoving()
}

// attach loads the programs for every hook and puts them there.
func (c *change) attach() error {
	d := c.driver
	d.state.setPorts(d.places)
	a := &attacher{host: d.host, root: c.config.PinPath, tcx: !d.quirks.old && haveTCX()}
	k := constantsOf(c.config, c.layout, d.device.index, d.options, !d.quirks.old && haveShrinkL3())
	load := &loader{constants: k, maps: c.programMaps(), attach: a, log: d.log}
	if err := load.tc(hook{tcEgress, d.device.index}, hookTCProgDdtbDevice, role{canSend: portEthernet}); err != nil {
		return err
	}
	for _, i := range c.all {
		if err := load.iface(i, d.places[i], d.options.Mode); err != nil {
			return fmt.Errorf("interface %s: %w", i.name, err)
		}
		d.log.Info().Str("interface", i.name).Bool("uplink", i.decap).Bool("core", i.encap).Str("mode", string(i.mode)).
			Str("nexthop", string(d.options.NextHop)).Msg("interface attached")
	}
	// Drivers that get their queues for redirected frames with a program of their own say so only now.
	for _, i := range c.all {
		if err := i.askFeatures(d.host); err != nil {
			return err
		}
	}
	d.state.setPorts(d.places)
	c.done = load
	return nil
}

// programMaps are the maps the programs are to use.
func (c *change) programMaps() map[string]*ebpf.Map {
	shared := map[string]*ebpf.Map{}
	for name, m := range c.driver.maps.named {
		shared[name] = m
	}
	if c.old != nil {
		shared[mapTunnels] = c.old.made
	}
	return shared
}

// route sets the addresses and routes of the device.
func (c *change) route() error {
	d := c.driver
	wanted := c.layout.ranges()
	for _, e := range d.ends {
		wanted = append(wanted, e.foreign()...)
	}
	return errors.Join(d.device.setAddress(d.host, c.config.Server, d.log), d.device.setRoutes(d.host, wanted, d.log))
}

// tidy takes away the programs and the device that are not wanted any more, once no packet is led to them.
func (c *change) tidy() error {
	d := c.driver
	if err := c.done.attach.prune(c.done.hooks); err != nil {
		return err
	}
	if before := d.config.Device; before != "" && before != c.config.Device {
		if l, err := d.host.Netlink.LinkByName(before); err == nil && l.Type() == "tuntap" {
			return d.host.Netlink.LinkDel(l)
		}
	}
	return nil
}

// effectiveMTU is the largest inner packet of a tunnel: what was asked for, what all may have, what the uplinks carry.
func effectiveMTU(config datapath.Config, outer int, t datapath.Tunnel) int {
	mtu := min(config.MTU, outer-t.Encap.Overhead())
	if t.MTU != 0 {
		mtu = min(mtu, t.MTU)
	}
	return mtu
}

// refit removes the tunnels that the Config has no room for and gives the others their MTU.
func (c *change) refit() error {
	d := c.driver
	var gone []datapath.Tunnel
	for slot := range d.table.slots(0) {
		t := d.tunnel(slot)
		if c.config.Check(t) != nil {
			d.table.record(slot).clear()
			gone = append(gone, t)
			continue
		}
		r := d.table.record(slot)
		now := r.identity()
		if wanted := identify(t, c.layout.local(&t), d.state.mtu(effectiveMTU(c.config, d.outerMTU, t)), now.key&hasMask, d.ends[t.ID]); wanted != now {
			r.adjust(wanted)
		}
	}
	return d.bury(gone)
}

// bury forgets tunnels that are out of force.
func (d *Driver) bury(gone []datapath.Tunnel) error {
	if len(gone) == 0 {
		return nil
	}
	d.log.Warn().Int("tunnels", len(gone)).Msg("the configuration has no room for these tunnels any more; they are removed")
	var errs []error
	for _, t := range gone {
		if slot, ok := d.table.layout.slot(t.ID); ok {
			d.table.active.set(slot, false)
		}
		errs = append(errs, d.dropForeign(t.ID))
	}
	return errors.Join(append(errs, d.grace.wait())...)
}

// moving is the way of the records from one map to another while packets flow: the next map gets them with counters at
// zero, the programs change over, and once none runs that counts in the old map, what it counted is added.
type moving struct {
	made  *ebpf.Map
	next  *table
	pairs [][2]uint32 // slot before, slot after
}

func (c *change) startMoving() error {
	d := c.driver
	var gone []uint32
	for slot := range d.table.slots(0) {
		t := d.tunnel(slot)
		after, ok := c.layout.slot(t.ID)
		if !ok || c.config.Check(t) != nil {
			gone = append(gone, t.ID)
			continue
		}
		r := d.table.record(slot)
		id := identify(t, c.layout.local(&t), d.state.mtu(effectiveMTU(c.config, d.outerMTU, t)), r.key()&hasMask, d.ends[t.ID])
		c.old.next.record(after).put(id, t.Session, r.lastSeen(now()), datapath.Counters{})
		c.old.next.record(after).tally.start(t.Session)
		c.old.next.active.set(after, true)
		c.old.pairs = append(c.old.pairs, [2]uint32{slot, after})
	}
	var errs []error
	for _, id := range gone {
		errs = append(errs, d.dropForeign(id))
	}
	if len(gone) > 0 {
		d.log.Warn().Int("tunnels", len(gone)).Msg("the configuration has no room for these tunnels any more; they are removed")
	}
	return errors.Join(errs...)
}

func (c *change) finishMoving() error {
	if c.old == nil {
		return nil
	}
	d := c.driver
	if err := errors.Join(d.grace.wait(), c.old.next.writeConfig(c.config)); err != nil {
		return err
	}
	for _, pair := range c.old.pairs {
		from, to := d.table.record(pair[0]), c.old.next.record(pair[1])
		to.add(from.counters())
		to.tally.take(from.tally)
		to.note(max(from.lastSeen(now()), to.lastSeen(now())))
	}
	old := d.table
	d.table = c.old.next
	return errors.Join(d.maps.replaceTunnels(c.old.made), old.close())
}
