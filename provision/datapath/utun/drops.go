// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"context"
	"fmt"
	"iter"
	"time"

	"ddtb/provision/datapath"
)

// Drops implements datapath.DropReporter. Beside the reasons of every datapath there is datapath.Unattended. The counts
// are the device's, and go on through restarts.
func (d *Driver) Drops(context.Context) ([]datapath.Drop, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return nil, err
	}
	var drops []datapath.Drop
	err := d.family.request(encodeAbout(cmdDropsGet, d.device.index), func(attributes []byte) error {
		some, err := decodeDrops(attributes, time.Now())
		drops = append(drops, some...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("device %s: drops: %w", d.device.name, err)
	}
	return drops, nil
}

// TunnelDrops implements datapath.TunnelDropReporter. The tunnels come by ascending id. The module counts those of 65,536
// tunnels apart; when there are more, the oldest counts go. The reader may work with the Driver meanwhile.
func (d *Driver) TunnelDrops(ctx context.Context) iter.Seq2[datapath.TunnelDrop, error] {
	return func(yield func(datapath.TunnelDrop, error) bool) {
		index, err := d.openDevice(ctx)
		stopped := false
		if err == nil {
			err = d.resume(ctx, cmdDropsGet, index, func(attributes []byte, next uint64) (uint64, bool, error) {
				id, drops, err := decodeTally(attributes)
				if err != nil || uint64(id) < next {
					return next, true, err
				}
				for _, drop := range drops {
					if stopped = !yield(datapath.TunnelDrop{Tunnel: id, Reason: drop.Reason, Packets: drop.Packets}, nil); stopped {
						break
					}
				}
				return uint64(id) + 1, !stopped, nil
			})
		}
		if err != nil && !stopped {
			yield(datapath.TunnelDrop{}, fmt.Errorf("read the drops by tunnel: %w", err))
		}
	}
}
