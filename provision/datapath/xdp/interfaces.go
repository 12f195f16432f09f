// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"slices"

	"ddtb/provision/datapath"
)

// iface is an uplink or a core interface.
type iface struct {
	name     string
	index    int
	mac      uint64 // as it stands in a frame
	mtu      int
	ethernet bool
	veth     bool
	features uint64 // act flags
	known    bool   // features were to be had
	decap    bool   // an uplink
	encap    bool   // a core interface
	mode     Mode   // Native, Generic or TC, once decided
	gone     bool   // was not there when last looked for
}

// findInterfaces looks up the interfaces of a Config, uplinks first.
func (h *host) findInterfaces(config datapath.Config) ([]*iface, error) {
	var all []*iface
	var errs []error
	for _, name := range slices.Concat(config.Uplinks, config.Cores) {
		if slices.ContainsFunc(all, func(i *iface) bool { return i.name == name }) {
			continue
		}
		i, err := h.inspect(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		i.decap, i.encap = slices.Contains(config.Uplinks, name), slices.Contains(config.Cores, name)
		all = append(all, i)
	}
	if len(all) > maxPorts {
		errs = append(errs, fmt.Errorf("%d interfaces: at most %d", len(all), maxPorts))
	}
	return all, errors.Join(errs...)
}

func (h *host) inspect(name string) (*iface, error) {
	l, err := h.Netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	a := l.Attrs()
	i := &iface{name: name, index: a.Index, mtu: a.MTU, veth: l.Type() == "veth"}
	i.ethernet = a.EncapType == "ether" && len(a.HardwareAddr) == 6
	if !i.ethernet {
		return nil, fmt.Errorf("interface %s: %s; an Ethernet interface is expected", name, a.EncapType)
	}
	for n, b := range a.HardwareAddr {
		i.mac |= uint64(b) << (8 * n)
	}
	return i, i.askFeatures(h)
}

func (i *iface) askFeatures(h *host) (err error) {
	i.features, i.known, err = h.xdpFeatures(i.index)
	return err
}

// Flags of a port, as PORT_ in bpf/tables.h.
const (
	portEthernet = 1 // takes frames with an Ethernet header
	portXDP      = 2 // takes them from native XDP
)

// flags are what stands in the state's port. Where the kernel cannot be asked, an interface that runs a native program of
// ours is taken to accept frames too: the drivers that have the one mostly have the other.
func (i *iface) flags() uint32 {
	flags := uint32(portEthernet)
	if i.known && i.features&actXmit != 0 || !i.known && i.mode == Native {
		flags |= portXDP
	}
	return flags
}

// wishes are the modes to try, best first.
func (i *iface) wishes(mode Mode) []Mode {
	switch mode {
	case Native, Generic, TC:
		return []Mode{mode}
	case Auto:
		// An skb that was born on the other end of a veth has its checksum left for hardware that never sees it once XDP
		// took it; only who knows both ends can tell that it is not so.
		if i.known && i.features&actBasic != 0 && i.features&actRedirect != 0 && !i.veth {
			return []Mode{Native, TC}
		}
	}
	return []Mode{TC}
}

// checkMTU tells whether the largest outer packet fits the uplinks.
func checkMTU(config datapath.Config, all []*iface) error {
	for _, i := range all {
		if most := i.mtu - datapath.V6V4.Overhead(); i.decap && config.MTU > most {
			return fmt.Errorf("mtu %d: with the outer headers it does not fit %s, whose MTU is %d; at most %d for %s, %d for %s",
				config.MTU, i.name, i.mtu, most, datapath.V6V4, i.mtu-datapath.V6UDPV4.Overhead(), datapath.V6UDPV4)
		}
		if least := datapath.MinMTU + datapath.V6UDPV4.Overhead(); i.decap && i.mtu < least {
			return fmt.Errorf("interface %s: mtu %d: at least %d is needed on an uplink", i.name, i.mtu, least)
		}
	}
	return nil
}

// outerMTU is the smallest of the uplinks.
func outerMTU(all []*iface) int {
	smallest := datapath.MaxMTU
	for _, i := range all {
		if i.decap {
			smallest = min(smallest, i.mtu)
		}
	}
	return smallest
}
