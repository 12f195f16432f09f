// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"context"
	"fmt"
	"iter"
	"net/netip"

	"ddtb/provision/datapath"
)

// dropEntry is struct drop of bpf/tables.h.
type dropEntry struct {
	Packets uint64
	Tallied uint64 // of them; the others are the last tunnel's
	Last    uint64 // CLOCK_MONOTONIC, ns
	Remote  uint64 // a key
	Slot    uint32
	Session uint32 // as in the tally
	Inner   [16]byte
}

// Drops implements datapath.DropReporter. The counts go on through restarts, but for those of Inject.
func (d *Driver) Drops(context.Context) ([]datapath.Drop, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return nil, err
	}
	var drops []datapath.Drop
	for n, reason := range datapath.Reasons() {
		drop, err := d.readDrop(uint32(n), reason)
		if err != nil {
			return nil, err
		}
		if injected, ok := d.refused[reason]; ok {
			injected.Packets += drop.Packets
			if drop.Last.After(injected.Last) {
				drop.Packets = injected.Packets
			} else {
				drop = injected
			}
		}
		if drop.Packets > 0 {
			drops = append(drops, drop)
		}
	}
	return drops, nil
}

// readDrop sums a reason over the CPUs; the last offender is the latest of them.
func (d *Driver) readDrop(n uint32, reason datapath.Reason) (datapath.Drop, error) {
	entries, err := d.lookUpDrops(n, reason)
	if err != nil {
		return datapath.Drop{}, err
	}
	drop := datapath.Drop{Reason: reason}
	var last dropEntry
	for _, e := range entries {
		drop.Packets += e.Packets
		if e.Packets > 0 && e.Last >= last.Last {
			last = e
		}
	}
	if drop.Packets == 0 {
		return drop, nil
	}
	drop.Last = at(last.Last)
	drop.Tunnel = d.table.layout.id(last.Slot)
	if last.Remote != 0 {
		drop.Remote = toAddrPort(last.Remote)
	}
	if inner := netip.AddrFrom16(last.Inner); inner != netip.IPv6Unspecified() {
		drop.Inner = inner
	}
	return drop, nil
}

// lookUpDrops gives what each CPU has of a reason.
func (d *Driver) lookUpDrops(n uint32, reason datapath.Reason) (entries []dropEntry, err error) {
	if err := d.maps.named[mapDrops].Lookup(n, &entries); err != nil {
		return nil, fmt.Errorf("drops of %s: %w", reason, err)
	}
	return entries, nil
}

// tallyChunk is how many tunnels' tallies are read at a time.
const tallyChunk = 4096

// TunnelDrops implements datapath.TunnelDropReporter. The tunnels come in the order of their pools and indices. They are read a
// chunk at a time, so that the reader may work with the Driver meanwhile.
func (d *Driver) TunnelDrops(ctx context.Context) iter.Seq2[datapath.TunnelDrop, error] {
	return func(yield func(datapath.TunnelDrop, error) bool) {
		var chunk []datapath.TunnelDrop
		for next, more := uint32(0), true; more; next += tallyChunk {
			var err error
			chunk, more, err = d.readTallies(chunk[:0], next)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(datapath.TunnelDrop{}, err)
				return
			}
			for _, drop := range chunk {
				if !yield(drop, nil) {
					return
				}
			}
		}
	}
}

// readTallies appends what is tallied from a slot on, and what CPUs still have to tally.
func (d *Driver) readTallies(chunk []datapath.TunnelDrop, first uint32) ([]datapath.TunnelDrop, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return nil, false, err
	}
	end := min(first+tallyChunk, d.table.layout.size)
	if first >= end {
		return chunk, false, nil
	}
	counted := map[uint32]*tally{}
	for slot := first; slot < end; slot++ {
		if t := &d.table.tally[slot]; !t.empty() {
			counted[slot] = new(tally)
			counted[slot].take(t)
		}
	}
	if err := d.addUntallied(counted, first, end); err != nil {
		return nil, false, err
	}
	for slot := first; slot < end; slot++ {
		t := counted[slot]
		if t == nil {
			continue
		}
		for n, reason := range datapath.Reasons() {
			if packets := t.count(n); packets != 0 {
				chunk = append(chunk, datapath.TunnelDrop{Tunnel: d.table.layout.id(slot), Reason: reason, Packets: uint64(packets)})
			}
		}
	}
	return chunk, end < d.table.layout.size, nil
}

// addUntallied adds what CPUs still have to tally for the slots from first to before end.
func (d *Driver) addUntallied(counted map[uint32]*tally, first, end uint32) error {
	for n, reason := range datapath.Reasons() {
		entries, err := d.lookUpDrops(uint32(n), reason)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Packets == e.Tallied || e.Slot < first || e.Slot >= end || e.Session != d.table.tally[e.Slot].session() {
				continue
			}
			if counted[e.Slot] == nil {
				counted[e.Slot] = new(tally)
			}
			counted[e.Slot].add(n, uint32(e.Packets-e.Tallied))
		}
	}
	return nil
}
