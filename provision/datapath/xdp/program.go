// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"ddtb/provision/datapath"
)

// localConst is struct local of bpf/tables.h.
type localConst struct {
	Address  [4]byte
	Port     [2]byte
	Checksum [2]byte
}

// The numbers of the next hop modes in bpf/tables.h.
func (n NextHop) number() uint32 {
	switch n {
	case Fixed:
		return 1
	case Stack:
		return 2
	case FIB:
		return 0
	}
	return 0
}

// role is what a program does on the interface it is attached to.
type role struct {
	port    uint32 // its place in the state's ports
	canSend uint32 // what a port must be for the program to redirect to it
	bounce  bool   // XDP_TX works
	decap   bool
	encap   bool
}

// constants of all programs of a Config.
type constants struct {
	pools      [maxPools]poolConst
	poolCount  uint32
	slots      uint32
	spread     uint32
	locals     [maxLocal]localConst
	localCount uint32
	server     [2]uint64
	device     uint32
	deviceMTU  uint32
	nextHop    uint32
	pipe       uint32
	shrinkL3   uint32
}

func constantsOf(c datapath.Config, l layout, device int, o Options, shrinkL3 bool) constants {
	k := constants{
		pools: l.constants(), poolCount: uint32(len(c.Pools)), slots: l.size, spread: l.spread, localCount: uint32(len(c.Local)),
		device: uint32(device), deviceMTU: uint32(c.MTU),
		nextHop: o.NextHop.number(), pipe: boolean(o.DSCP == Pipe), shrinkL3: boolean(shrinkL3),
	}
	k.server[0], k.server[1] = rawHalves(c.Server)
	for i, local := range c.Local {
		k.locals[i].Address = local.Addr().As4()
		binary.BigEndian.PutUint16(k.locals[i].Port[:], local.Port())
		binary.BigEndian.PutUint16(k.locals[i].Checksum[:], headerChecksum(local.Addr()))
	}
	return k
}

// headerChecksum is the folded sum of what is constant in the outer IPv4 headers from an address: version, time to live and
// the address (RFC 1071).
func headerChecksum(local netip.Addr) uint16 {
	const hopLimit = 64
	a := local.As4()
	sum := uint32(0x4500) + hopLimit<<8 + uint32(binary.BigEndian.Uint16(a[:])) + uint32(binary.BigEndian.Uint16(a[2:]))
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func boolean(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// set puts the constants into an object before it is loaded.
func (k constants) set(spec *ebpf.CollectionSpec, r role) error {
	var errs []error
	for name, value := range map[string]any{
		"pools": k.pools, "pool_count": k.poolCount, "slots": k.slots, "spread": k.spread, "locals": k.locals, "local_count": k.localCount,
		"server_high": k.server[0], "server_low": k.server[1],
		"device": k.device, "device_mtu": k.deviceMTU, "nexthop": k.nextHop, "pipe": k.pipe, "shrink_l3": k.shrinkL3,
		"own_port": r.port, "can_send": r.canSend, "bounce": boolean(r.bounce), "decap": boolean(r.decap), "encap": boolean(r.encap),
	} {
		// An object has the variables its code names, no others.
		if v, ok := spec.Variables[name]; ok {
			errs = append(errs, v.Set(value))
		}
	}
	return errors.Join(errs...)
}

// load loads one program for one place.
func (k constants) load(object func() (*ebpf.CollectionSpec, error), program string, r role, shared map[string]*ebpf.Map) (*ebpf.Program, error) {
	spec, err := object()
	if err != nil {
		return nil, err
	}
	if err := k.set(spec, r); err != nil {
		return nil, err
	}
	for name := range spec.Programs {
		if name != program {
			delete(spec.Programs, name)
		}
	}
	replacements := map[string]*ebpf.Map{}
	for name, m := range shared {
		if s, ok := spec.Maps[name]; ok {
			s.MaxEntries = m.MaxEntries()
			replacements[name] = m
		}
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", program, err)
	}
	defer collection.Close()
	return collection.DetachProgram(program), nil
}
