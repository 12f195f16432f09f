// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"context"
	"fmt"
	"net/netip"

	"ddtb/provision/datapath"
)

// dropEntry is struct drop of bpf/tables.h.
type dropEntry struct {
	Packets uint64
	Last    uint64 // CLOCK_MONOTONIC, ns
	Remote  uint64 // a key
	Slot    uint32
	_       uint32
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
	var entries []dropEntry
	if err := d.maps.named[mapDrops].Lookup(n, &entries); err != nil {
		return datapath.Drop{}, fmt.Errorf("drops of %s: %w", reason, err)
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
