// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// Inject implements datapath.Injector. The packet comes in by the device and goes on through the stack.
func (d *Driver) Inject(encap datapath.Encap, local, remote netip.AddrPort, packet []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.usable() != nil {
		return
	}
	inner, why := datapath.ParseInner(packet)
	var id, slot uint32
	if why == "" {
		id, slot, why = d.admit(inner, encap, local, remote)
	}
	if why == "" && !d.table.record(slot).ledger.rx.charge(clock(unix.CLOCK_MONOTONIC), uint64(inner.Length)) {
		why = datapath.RateExceeded
	}
	if why == "" && d.device.write(packet[:inner.Length]) != nil {
		why = datapath.Failed
	}
	if why != "" {
		d.refused[why] = datapath.Drop{
			Reason: why, Packets: d.refused[why].Packets + 1, Tunnel: id, Remote: remote, Inner: inner.Source, Last: time.Now(),
		}
		if slot, ok := d.table.layout.slot(id); ok {
			d.table.tally[slot].add(slices.Index(datapath.Reasons(), why), 1)
		}
		return
	}
	r := d.table.record(slot)
	r.note(now())
	r.add(datapath.Counters{RxPackets: 1, RxBytes: uint64(inner.Length)})
}

// admit finds the tunnel of an inner packet, and the reason why it may not pass.
func (d *Driver) admit(inner datapath.Inner, encap datapath.Encap, local, remote netip.AddrPort) (id, slot uint32, why datapath.Reason) {
	id, ok := d.config.Owner(inner.Source)
	if !ok {
		id, ok = d.foreign.Owner(inner.Source)
	}
	if !ok {
		return 0, 0, datapath.InnerSource
	}
	slot, ok = d.table.layout.slot(id)
	if !ok || !d.table.record(slot).inForce() {
		return id, slot, datapath.NoTunnel
	}
	return id, slot, inner.Refuse(d.tunnel(slot), encap, local, remote)
}
