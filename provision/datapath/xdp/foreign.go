// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"ddtb/provision/datapath"
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
	found := map[uint32][]netip.Prefix{}
	for entries := m.Iterate(); entries.Next(&key, &id); {
		slot, ok := d.table.layout.slot(id)
		if !ok || !d.table.record(slot).inForce() || d.table.record(slot).key()&hasForeign == 0 {
			stale = append(stale, key)
			continue
		}
		found[id] = append(found[id], key.prefix())
	}
	for id, prefixes := range found {
		slot, _ := d.table.layout.slot(id)
		d.noteForeign(id, placed(datapath.PrefixesOf(prefixes...), d.table.record(slot).identity().asked))
	}
	var errs []error
	for _, k := range stale {
		errs = append(errs, m.Delete(k))
	}
	d.state.setForeign(d.foreign.Len())
	return errors.Join(errs...)
}

// The ledger's word of the MTU asked for also tells what a tunnel has its foreign prefixes for, which the map of them does not:
// the place of its endpoint and that of its prefix among all of them, from 1 on. The others are its routes.
const (
	askedMTU      = 1<<32 - 1
	endpointShift = 32
	prefixShift   = 40
	placeMask     = 0xff
)

// places are they as that word has them.
func (e ends) places() (word uint64) {
	n := uint64(0)
	for p := range datapath.PrefixesOf(e.foreign()...).All() {
		n++
		switch p {
		case e.prefix:
			word |= n << prefixShift
		case netip.PrefixFrom(e.endpoint, 128):
			word |= n << endpointShift
		}
	}
	return word
}

// placed is the inverse of places.
func placed(all datapath.Prefixes, word uint64) (e ends) {
	n := uint64(0)
	var routes []netip.Prefix
	for p := range all.All() {
		n++
		switch n {
		case word >> prefixShift & placeMask:
			e.prefix = p
		case word >> endpointShift & placeMask:
			e.endpoint = p.Addr()
		default:
			routes = append(routes, p)
		}
	}
	e.routes = datapath.PrefixesOf(routes...)
	return e
}

// endsOf are what a tunnel is to have outside the pools.
func (d *Driver) endsOf(t *datapath.Tunnel) ends {
	endpoint, prefix := d.table.layout.addresses(t.ID)
	e := ends{routes: t.Routes}
	if t.Endpoint != endpoint {
		e.endpoint = t.Endpoint
	}
	if t.Prefix.IsValid() && t.Prefix != prefix {
		e.prefix = t.Prefix
	}
	return e
}

// noteForeign remembers what a tunnel has outside the pools.
func (d *Driver) noteForeign(id uint32, e ends) {
	for _, p := range e.foreign() {
		d.foreign.Add(p, id)
	}
	d.ends[id] = e
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
	return slices.AppendSeq(prefixes, e.routes.All())
}

// setForeign makes the foreign addresses of a tunnel that is out of force those it should have: in the map for the
// programs, as routes for the stack. After an error it has none.
func (d *Driver) setForeign(s setting) error {
	id, e := s.tunnel.ID, d.endsOf(s.tunnel)
	if err := d.dropForeign(id); err != nil || e == (ends{}) {
		return err
	}
	d.noteForeign(id, e)
	for _, prefix := range e.foreign() {
		err := d.maps.named[mapForeign].Put(keyOf(prefix), id)
		if err == nil {
			err = d.device.addForeign(d.host, prefix, d.log)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("foreign prefix %s: %w", prefix, err), d.dropForeign(id))
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
