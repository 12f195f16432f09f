// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// now is the clock of the programs.
func now() uint64 { return clock(unix.CLOCK_MONOTONIC_COARSE) }

// clock reads a clock that is there on every Linux.
func clock(id int32) uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(id, &ts) // the only error is a bad address
	return uint64(ts.Nano())
}

// at is the wall time of an instant of that clock.
func at(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(now() - ns)).Round(0)
}

// setting is a tunnel on its way into force.
type setting struct {
	tunnel *datapath.Tunnel
	slot   uint32
	goesOn bool // the counters do, and the time it was last seen
	again  bool // it was deleted, and no other session had the record since: the counters go on
	words  identity
}

// Set implements datapath.Datapath. A record in force is changed in four steps: out of force, a grace period, the new
// words, into force; packets of that tunnel are dropped meanwhile. One grace period serves the whole batch. A new MTU or
// rate, or the same tunnel again, needs none of it.
func (d *Driver) Set(ctx context.Context, tunnels ...datapath.Tunnel) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.settle(ctx, tunnels...); err != nil {
		return err
	}
	if err := d.usable(); err != nil {
		return err
	}
	b := batch{driver: d, now: now(), settings: make([]setting, 0, len(tunnels))}
	for i := range tunnels {
		b.add(&tunnels[i])
	}
	b.apply()
	return errors.Join(b.errs...)
}

// batch is a number of tunnels that share a grace period.
type batch struct {
	driver   *Driver
	now      uint64
	settings []setting
	cleared  bool // records were taken out of force
	errs     []error
}

func (b *batch) add(t *datapath.Tunnel) {
	d := b.driver
	if err := d.config.Check(*t); err != nil {
		b.errs = append(b.errs, err)
		return
	}
	s := setting{tunnel: t, words: d.identify(t)}
	if err := d.checkForeign(s); err != nil {
		b.errs = append(b.errs, err)
		return
	}
	s.slot, _ = d.table.layout.slot(t.ID)
	if d.table.staged.has(s.slot) { // twice in one call: one after the other
		b.apply()
	}
	if r := d.table.record(s.slot); r.inForce() {
		if !d.changes(&s, r) {
			return
		}
		r.clear()
		b.cleared = true
	} else {
		s.again = r.session() == t.Session
	}
	d.table.staged.set(s.slot, true)
	b.settings = append(b.settings, s)
}

// apply puts what was added into force.
func (b *batch) apply() {
	var failed error
	if b.cleared {
		failed = b.driver.grace.wait()
	}
	for _, s := range b.settings {
		b.driver.table.staged.set(s.slot, false)
		if failed != nil { // there is no telling who still uses the record
			b.driver.table.active.set(s.slot, false)
			continue
		}
		if err := b.driver.install(s, b.now); err != nil {
			b.errs = append(b.errs, err)
		}
	}
	b.errs = append(b.errs, failed)
	b.settings, b.cleared = b.settings[:0], false
}

// checkForeign tells whether the foreign addresses of a tunnel are free.
func (d *Driver) checkForeign(s setting) error {
	if s.words.key&hasForeign == 0 {
		return nil
	}
	for _, prefix := range d.config.ForeignOf(*s.tunnel) {
		if holder, ok := d.foreign.Holder(prefix); ok && holder != s.tunnel.ID {
			return fmt.Errorf("tunnel %d: %s belongs to tunnel %d: %w", s.tunnel.ID, prefix, holder, datapath.ErrInvalid)
		}
	}
	return nil
}

// changes compares a tunnel with its record in force, and tells whether that has to be written anew. It sets a new MTU or
// rate at once.
func (d *Driver) changes(s *setting, r record) bool {
	before := r.identity()
	s.goesOn = r.session() == s.tunnel.Session
	same := s.goesOn && before.key == s.words.key
	if same && s.words.key&hasForeign != 0 {
		same = d.ends[s.tunnel.ID] == d.endsOf(s.tunnel)
	}
	if same && before != s.words {
		r.adjust(s.words)
		d.logTunnel(s, "tunnel changed")
	}
	return !same
}

// identify gives the words of a tunnel under the Config in force.
func (d *Driver) identify(t *datapath.Tunnel) identity {
	e, has := d.endsOf(t), uint64(0)
	if !e.endpoint.IsValid() {
		has |= hasEndpoint
	}
	if t.Prefix.IsValid() && !e.prefix.IsValid() {
		has |= hasPrefix
	}
	if e != (ends{}) {
		has |= hasForeign
	}
	return identify(*t, d.table.layout.local(t), d.state.mtu(effectiveMTU(d.config, d.outerMTU, *t)), has, e)
}

// install puts a tunnel whose record is out of force into force.
func (d *Driver) install(s setting, now uint64) error {
	r := d.table.record(s.slot)
	seen, counters := now, datapath.Counters{}
	if s.goesOn {
		seen, counters = r.lastSeen(now), r.counters()
	} else if s.again {
		counters = r.counters()
	}
	if err := d.setForeign(s); err != nil {
		d.table.active.set(s.slot, false)
		return fmt.Errorf("tunnel %d: %w", s.tunnel.ID, err)
	}
	if !s.goesOn && !s.again {
		r.tally.start(s.tunnel.Session)
	}
	r.put(s.words, s.tunnel.Session, seen, counters)
	d.table.active.set(s.slot, true)
	d.logTunnel(&s, "tunnel set")
	return nil
}

func (d *Driver) logTunnel(s *setting, message string) {
	event := d.log.Debug()
	if !event.Enabled() {
		return
	}
	t := s.tunnel
	event.Uint32("tunnel", t.ID).Str("encap", t.Encap.String()).Stringer("local", t.Local).Stringer("remote", t.Remote).
		Stringer("endpoint", t.Endpoint).Stringer("prefix", t.Prefix).Str("show", d.showRecord(s.slot)).Msg(message)
}

// showRecord is the command that shows a record.
func (d *Driver) showRecord(slot uint32) string {
	return fmt.Sprintf("bpftool map lookup pinned %s key %d %d %d %d", filepath.Join(pinDir(d.config), mapTunnels),
		slot&0xff, slot>>8&0xff, slot>>16&0xff, slot>>24)
}

// Delete implements datapath.Datapath. The counters are read after a grace period, when no program can be counting any
// more. Many Deletes at once share one.
func (d *Driver) Delete(_ context.Context, id uint32) (datapath.Counters, error) {
	slot, gone, err := d.startDelete(id)
	if err != nil {
		return datapath.Counters{}, err
	}
	waited := d.grace.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	counters := d.table.record(slot).counters()
	dropped := d.dropForeign(id)
	delete(d.dying, id)
	close(gone)
	if event := d.log.Debug(); event.Enabled() {
		event.Uint32("tunnel", id).Str("show", d.showRecord(slot)).Msg("tunnel deleted")
	}
	return counters, errors.Join(waited, dropped)
}

// Resumes implements datapath.Resumer: a record out of force keeps its session and what it counted.
func (d *Driver) Resumes() {}

func (d *Driver) startDelete(id uint32) (slot uint32, gone chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return 0, nil, err
	}
	slot, ok := d.table.layout.slot(id)
	if !ok || !d.table.record(slot).inForce() {
		return 0, nil, fmt.Errorf("tunnel %d: %w", id, datapath.ErrNotFound)
	}
	d.table.record(slot).clear()
	d.table.active.set(slot, false)
	gone = make(chan struct{})
	d.dying[id] = gone
	return slot, gone, nil
}

// All implements datapath.Datapath. The tunnels come in the order of their pools and indices. They are read a chunk at a
// time, so that the reader may work with the Driver meanwhile.
func (d *Driver) All(ctx context.Context) iter.Seq2[datapath.State, error] {
	return func(yield func(datapath.State, error) bool) {
		chunk := make([]datapath.State, 0, 1024)
		for next := uint32(0); ; {
			chunk = chunk[:0]
			more, err := d.read(&chunk, &next)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(datapath.State{}, err)
				return
			}
			for _, state := range chunk {
				if !yield(state, nil) {
					return
				}
			}
			if !more {
				return
			}
		}
	}
}

// read fills a chunk with tunnels from a slot on.
func (d *Driver) read(chunk *[]datapath.State, next *uint32) (more bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return false, err
	}
	clock, wall := now(), time.Now().Round(0)
	for slot := range d.table.slots(*next) {
		if len(*chunk) == cap(*chunk) {
			return true, nil
		}
		*next = slot + 1
		r := d.table.record(slot)
		*chunk = append(*chunk, datapath.State{
			Tunnel: d.tunnel(slot), Counters: r.counters(), LastSeen: wall.Add(-time.Duration(clock - r.lastSeen(clock))),
		})
	}
	return false, nil
}

// lookForSeen brings the ledgers up to date with what the records note of the time, which comes round. It does not wait:
// false if somebody works with the tunnels.
func (d *Driver) lookForSeen() bool {
	if !d.mu.TryLock() {
		return false
	}
	defer d.mu.Unlock()
	if d.usable() == nil {
		clock := now()
		for slot := range d.table.slots(0) {
			d.table.record(slot).lastSeen(clock)
		}
	}
	return true
}

// tunnel reads a whole tunnel.
func (d *Driver) tunnel(slot uint32) datapath.Tunnel {
	l, r := d.table.layout, d.table.record(slot)
	t := r.tunnel(l.id(slot), l.locals)
	key := r.key()
	endpoint, prefix := l.addresses(t.ID)
	if key&hasEndpoint != 0 {
		t.Endpoint = endpoint
	}
	if key&hasPrefix != 0 {
		t.Prefix = prefix
	}
	if key&hasForeign != 0 {
		e := d.ends[t.ID]
		if e.endpoint.IsValid() {
			t.Endpoint = e.endpoint
		}
		if e.prefix.IsValid() {
			t.Prefix = e.prefix
		}
		t.Routes = e.routes
	}
	return t
}
