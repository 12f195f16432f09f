// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// foreignKey is struct foreign_key of bpf/tables.h.
type foreignKey struct {
	Length  uint32
	Address [16]byte
}

func keyOf(p netip.Prefix) foreignKey {
	return foreignKey{Length: uint32(p.Bits()), Address: p.Addr().As16()}
}

func (k foreignKey) prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16(k.Address), int(k.Length))
}

// recallForeign reads the map of foreign prefixes. Entries of tunnels that are not in force are leftovers.
func (d *Driver) recallForeign() error {
	m := d.maps.named[mapForeign]
	var key foreignKey
	var id uint32
	var stale []foreignKey
	for entries := m.Iterate(); entries.Next(&key, &id); {
		slot, ok := d.table.layout.slot(id)
		if !ok || !d.table.record(slot).inForce() || d.table.record(slot).key()&hasForeign == 0 {
			stale = append(stale, key)
			continue
		}
		d.noteForeign(key.prefix(), id)
	}
	var errs []error
	for _, k := range stale {
		errs = append(errs, m.Delete(k))
	}
	d.state.setForeign(d.foreign.Len())
	return errors.Join(errs...)
}

// endsOf tells foreign prefixes apart: a single address is an endpoint.
func endsOf(prefixes []netip.Prefix) (e ends) {
	for _, p := range prefixes {
		if p.Bits() == 128 {
			e.endpoint = p.Addr()
		} else {
			e.prefix = p
		}
	}
	return e
}

// noteForeign remembers a foreign prefix of a tunnel.
func (d *Driver) noteForeign(p netip.Prefix, id uint32) {
	d.foreign.Add(p, id)
	d.ends[id] = endsOf(append(d.ends[id].foreign(), p))
}

// foreign are they as prefixes.
func (e ends) foreign() []netip.Prefix {
	var prefixes []netip.Prefix
	if e.endpoint.IsValid() {
		prefixes = append(prefixes, netip.PrefixFrom(e.endpoint, 128))
	}
	if e.prefix.IsValid() {
		prefixes = append(prefixes, e.prefix)
	}
	return prefixes
}

// setForeign makes the foreign addresses of a tunnel that is out of force those it should have: in the map for the
// programs, as routes for the stack.
func (d *Driver) setForeign(s setting) error {
	t := s.tunnel
	if err := d.dropForeign(t.ID); err != nil || s.words.key&hasForeign == 0 {
		return err
	}
	for _, prefix := range d.config.ForeignOf(*t) {
		if err := d.maps.named[mapForeign].Put(keyOf(prefix), t.ID); err != nil {
			return fmt.Errorf("foreign prefix %s: %w", prefix, err)
		}
		d.noteForeign(prefix, t.ID)
		if err := d.device.addForeign(d.host, prefix, d.log); err != nil {
			return err
		}
	}
	d.state.setForeign(d.foreign.Len())
	return nil
}

// dropForeign takes the foreign addresses of a tunnel away.
func (d *Driver) dropForeign(id uint32) error {
	e, ok := d.ends[id]
	if !ok {
		return nil
	}
	var errs []error
	for _, prefix := range e.foreign() {
		if err := d.maps.named[mapForeign].Delete(keyOf(prefix)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("foreign prefix %s: %w", prefix, err))
		}
		d.foreign.Remove(prefix)
		errs = append(errs, d.device.delForeign(d.host, prefix, d.log))
	}
	delete(d.ends, id)
	d.state.setForeign(d.foreign.Len())
	return errors.Join(errs...)
}
