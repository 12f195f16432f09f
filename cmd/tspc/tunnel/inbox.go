// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import "net/netip"

// inbox gathers packets of the tunnel into the batch the TUN library writes at once. Each lies in a buffer of its own,
// with room in front for the library's header and behind for what it coalesces.
type inbox struct {
	device *Device
	self   netip.Addr
	slots  [][]byte
	batch  [][]byte // slots in use, cut to length
}

func newInbox(d *Device, self netip.Addr) *inbox {
	slots := make([][]byte, d.tun.BatchSize())
	slab := make([]byte, len(slots)*incomingSize)
	for i := range slots {
		slots[i] = slab[i*incomingSize : (i+1)*incomingSize : (i+1)*incomingSize]
	}
	return &inbox{device: d, self: self, slots: slots, batch: make([][]byte, 0, len(slots))}
}

func (in *inbox) empty() bool { return len(in.batch) == 0 }

// add takes a run of packets, size octets each and the last perhaps fewer, and leaves out what must not reach the
// kernel.
func (in *inbox) add(run []byte, size int) {
	for len(run) > 0 {
		n := min(size, len(run))
		if packet := run[:n]; n <= incomingSize-headroom && acceptable(packet, in.self) {
			slot := in.slots[len(in.batch)][:headroom+n]
			copy(slot[headroom:], packet)
			in.batch = append(in.batch, slot)
		} else {
			in.device.counted.refused.Add(1)
		}
		run = run[n:]
		if len(in.batch) == len(in.slots) {
			in.deliver()
		}
	}
}

// deliver writes the batch to the interface. What the kernel refuses (the interface is down) is lost.
func (in *inbox) deliver() {
	if len(in.batch) == 0 {
		return
	}
	if _, err := in.device.tun.Write(in.batch, headroom); err != nil {
		in.device.counted.refused.Add(1)
		in.device.log.Debug().Err(err).Msg("packets of the tunnel not delivered")
	} else {
		in.device.counted.received.Add(uint64(len(in.batch)))
	}
	in.batch = in.batch[:0]
}
