// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

const (
	maxExceptions = 8
	maxMTUs       = 256
)

// fixedHop is struct fixed of bpf/tables.h: a next hop that is good until a time.
type fixedHop struct {
	until      uint64 // CLOCK_MONOTONIC_COARSE, ns; 0: none
	ifindex    uint32
	mtu        uint32
	macs       [12]byte // destination, source
	exceptions uint32
}

// exception6 and exception4 are prefixes that are reached another way, as they lie in memory.
type (
	exception6 struct{ prefix, mask uint64 }
	exception4 struct{ prefix, mask uint32 }
)

// port is struct port: an interface packets may be redirected to.
type port struct {
	ifindex, flags uint32
	mac            uint64
}

// sharedState is struct state: what the driver changes while the programs run.
type sharedState struct {
	core, uplink     fixedHop
	coreExceptions   [maxExceptions]exception6
	uplinkExceptions [maxExceptions]exception4
	ports            [maxPorts]port
	mtus             [maxMTUs]uint16
	foreign          uint32
	_                uint32
}

// state is that in the memory of this process.
type state struct {
	memory []byte
	shared *sharedState
}

func openState(m *ebpf.Map) (*state, error) {
	memory, err := mapArray(m)
	if err != nil {
		return nil, err
	}
	return &state{memory: memory, shared: (*sharedState)(unsafe.Pointer(unsafe.SliceData(memory)))}, nil // #nosec G103 -- the map's own layout
}

func (s *state) close() error {
	s.shared = nil
	return unix.Munmap(s.memory)
}

// mtu gives the place of an MTU. Records name it in one octet; a site has a handful of them. Should there ever be more than
// fit, it is the place of the next lower one.
func (s *state) mtu(wanted int) uint8 {
	mtus := &s.shared.mtus
	mtus[0] = datapath.MinMTU
	nearest := 0
	for n := range mtus {
		switch {
		case int(mtus[n]) == wanted:
			return uint8(n)
		case mtus[n] == 0:
			mtus[n] = uint16(wanted)
			return uint8(n)
		case int(mtus[n]) < wanted && mtus[n] > mtus[nearest]:
			nearest = n
		}
	}
	return uint8(nearest)
}

// setForeign says how many entries the map of foreign prefixes has.
func (s *state) setForeign(n int) { atomic.StoreUint32(&s.shared.foreign, uint32(n)) }

// place finds each interface its port, the one it had if it had one, and gives back those of interfaces that are gone.
// The other ports stay what they are, for the programs that run with them.
func (s *state) place(all []*iface) map[*iface]uint32 {
	places := map[*iface]uint32{}
	free := []uint32{}
	for n := range s.shared.ports {
		p := &s.shared.ports[n]
		taken := false
		for _, i := range all {
			if i.index == int(p.ifindex) {
				places[i], taken = uint32(n), true
			}
		}
		if !taken {
			free = append(free, uint32(n))
		}
	}
	for _, i := range all {
		if _, ok := places[i]; !ok {
			places[i], free = free[0], free[1:]
		}
	}
	return places
}

// setPorts writes the interfaces into their ports and clears the others.
func (s *state) setPorts(places map[*iface]uint32) {
	var ports [maxPorts]port
	for i, n := range places {
		ports[n] = port{ifindex: uint32(i.index), flags: i.flags(), mac: i.mac}
	}
	for n := range ports {
		s.setPort(uint32(n), ports[n])
	}
}

func (s *state) setPort(n uint32, now port) {
	p := &s.shared.ports[n]
	if atomic.LoadUint32(&p.ifindex) != now.ifindex {
		atomic.StoreUint32(&p.ifindex, 0)
	}
	atomic.StoreUint32(&p.flags, now.flags)
	atomic.StoreUint64(&p.mac, now.mac)
	atomic.StoreUint32(&p.ifindex, now.ifindex)
}

// forget takes both fixed next hops out of force.
func (s *state) forget() {
	atomic.StoreUint64(&s.shared.core.until, 0)
	atomic.StoreUint64(&s.shared.uplink.until, 0)
}

// setCore and setUplink put a next hop in force; nil takes it out. Exceptions are at most maxExceptions. still must wait
// until no program that may have read the last one is in flight.
func (s *state) setCore(hop *fixedHop, exceptions []exception6, still func() error) error {
	return setFixed(&s.shared.core, hop, still, func() {
		for n, e := range exceptions {
			atomic.StoreUint64(&s.shared.coreExceptions[n].prefix, e.prefix)
			atomic.StoreUint64(&s.shared.coreExceptions[n].mask, e.mask)
		}
		if hop != nil {
			hop.exceptions = uint32(len(exceptions))
		}
	})
}

func (s *state) setUplink(hop *fixedHop, exceptions []exception4, still func() error) error {
	return setFixed(&s.shared.uplink, hop, still, func() {
		for n, e := range exceptions {
			atomic.StoreUint32(&s.shared.uplinkExceptions[n].prefix, e.prefix)
			atomic.StoreUint32(&s.shared.uplinkExceptions[n].mask, e.mask)
		}
		if hop != nil {
			hop.exceptions = uint32(len(exceptions))
		}
	})
}

func setFixed(at, hop *fixedHop, still func() error, exceptions func()) error {
	atomic.StoreUint64(&at.until, 0)
	if hop == nil {
		return nil
	}
	if err := still(); err != nil {
		return err
	}
	exceptions()
	at.ifindex, at.mtu, at.macs, at.exceptions = hop.ifindex, hop.mtu, hop.macs, hop.exceptions
	atomic.StoreUint64(&at.until, hop.until)
	return nil
}

// prolong moves the end of the next hops that are in force.
func (s *state) prolong(until uint64) {
	for _, at := range []*fixedHop{&s.shared.core, &s.shared.uplink} {
		if atomic.LoadUint64(&at.until) != 0 {
			atomic.StoreUint64(&at.until, until)
		}
	}
}
