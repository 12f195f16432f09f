// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"ddtb/cmd/tspbench/lab"
	"ddtb/provision/datapath"
)

// site is a small Internet to measure in:
//
//	client                server                    core
//	tb-cli  ------------- tb-up        tb-in ------ tb-core
//	192.0.2.2    192.0.2.1                          3fff:c::2
//	3fff:a::2    3fff:a::1   3fff:c::1              and, as the host beyond it, 3fff:f::1
//	tb-vx  == VXLAN ===== tb-vx
//
// Behind the client lie all subscribers' outer addresses (clientNet), and two native networks that plain forwarding and
// VXLAN are measured with.
type site struct {
	client, server, core *lab.Space
	wiring               wiring
}

// wiring is how the veths of a site carry packets.
type wiring uint8

const (
	// wire: as a real wire. Checksum and segmentation offload are off, so that each packet is one of MTU size with its
	// checksum in it.
	wire wiring = iota
	// veth: as veths do by default. Packets of one connection stay together, 64 KB long, and without checksum.
	veth
)

// Names of the devices.
const (
	clientDevice = "tb-cli"
	uplinkDevice = "tb-up"
	innerDevice  = "tb-in"
	coreDevice   = "tb-core"
	vxlanDevice  = "tb-vx"
	tunnelDevice = "tb-tun" // the driver's
)

const tspPort = 3653

// Addresses: documentation ranges (RFC 5737, RFC 9637), and 10/8 for the subscribers.
var (
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	uplinkMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	innerMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 3}
	coreMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 4}
	vxlanMACs = [2]net.HardwareAddr{{2, 0, 0, 0, 0, 0x11}, {2, 0, 0, 0, 0, 0x12}} // client, server

	client4 = netip.MustParsePrefix("192.0.2.2/24")
	server4 = netip.MustParsePrefix("192.0.2.1/24")
	client6 = netip.MustParsePrefix("3fff:a::2/64")
	server6 = netip.MustParsePrefix("3fff:a::1/64")
	inner6  = netip.MustParsePrefix("3fff:c::1/64")
	core6   = netip.MustParsePrefix("3fff:c::2/64")
	vxlan6  = [2]netip.Prefix{netip.MustParsePrefix("3fff:b::2/64"), netip.MustParsePrefix("3fff:b::1/64")}

	clientNet    = netip.MustParsePrefix("10.0.0.0/8")
	plainNet     = netip.MustParsePrefix("3fff:5::/32")
	vxlanNet     = netip.MustParsePrefix("3fff:4::/32")
	endpointNet  = netip.MustParsePrefix("3fff:e::/64")
	prefixNet    = netip.MustParsePrefix("3fff:100::/32")
	coreHost     = netip.MustParseAddr("3fff:f::1")
	tunnelServer = netip.MustParseAddr("3fff:d::1")
)

const prefixLen = 56 // of one delegated prefix

// newSite makes a site. Close ends it.
func newSite(w wiring) (*site, error) {
	s := &site{wiring: w}
	for name, space := range map[string]**lab.Space{"client": &s.client, "server": &s.server, "core": &s.core} {
		made, err := lab.NewSpace(name)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		*space = made
	}
	if err := errors.Join(s.join(), s.route(), s.offloads()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close ends the site and everything in it.
func (s *site) Close() error {
	var errs []error
	for _, space := range []*lab.Space{s.client, s.server, s.core} {
		if space != nil {
			errs = append(errs, space.Close())
		}
	}
	return errors.Join(errs...)
}

func (s *site) join() error {
	return errors.Join(
		lab.Join(
			lab.End{Space: s.client, Name: clientDevice, MAC: clientMAC, Addresses: []netip.Prefix{client4, client6}},
			lab.End{Space: s.server, Name: uplinkDevice, MAC: uplinkMAC, Addresses: []netip.Prefix{server4, server6}}),
		lab.Join(
			lab.End{Space: s.server, Name: innerDevice, MAC: innerMAC, Addresses: []netip.Prefix{inner6}},
			lab.End{Space: s.core, Name: coreDevice, MAC: coreMAC, Addresses: []netip.Prefix{core6}}),
	)
}

// route sends the subscribers' IPv4 addresses to the client and IPv6 to the core, each by a default route through one
// gateway, as in a small provider's network.
func (s *site) route() error {
	anywhere4, anywhere6 := netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	return errors.Join(
		s.server.AddRoute(lab.Route{To: anywhere4, Via: client4.Addr()}),
		s.server.AddRoute(lab.Route{To: anywhere6, Via: core6.Addr()}),
		s.server.AddRoute(lab.Route{To: plainNet, Via: client6.Addr()}),
		s.client.AddAddress("lo", netip.PrefixFrom(hostOf(plainNet), 128)),
		s.client.AddRoute(lab.Route{To: clientNet, Device: "lo", Local: true}),
		s.client.AddRoute(lab.Route{To: anywhere6, Via: server6.Addr(), Source: hostOf(plainNet)}),
		s.core.AddAddress("lo", netip.PrefixFrom(coreHost, 128)),
		s.core.AddRoute(lab.Route{To: anywhere6, Via: inner6.Addr(), Source: coreHost}),
	)
}

// vxlan joins client and server by VXLAN and routes vxlanNet through it.
func (s *site) vxlan() error {
	spaces := [2]*lab.Space{s.client, s.server}
	outer := [2]netip.Addr{client4.Addr(), server4.Addr()}
	for i, space := range spaces {
		uplink, err := space.Index([2]string{clientDevice, uplinkDevice}[i])
		if err != nil {
			return err
		}
		device := &netlink.Vxlan{
			LinkAttrs: netlink.LinkAttrs{Name: vxlanDevice, HardwareAddr: vxlanMACs[i], MTU: 1450},
			VxlanId:   42, Port: 4789, VtepDevIndex: uplink,
			SrcAddr: outer[i].AsSlice(), Group: outer[1-i].AsSlice(),
		}
		if err := space.Netlink.LinkAdd(device); err != nil {
			return fmt.Errorf("VXLAN device: %w", err)
		}
		if err := errors.Join(space.Netlink.LinkSetUp(device), space.AddAddress(vxlanDevice, vxlan6[i]),
			space.AddNeighbour(vxlanDevice, vxlan6[1-i].Addr(), vxlanMACs[1-i])); err != nil {
			return err
		}
	}
	return errors.Join(
		s.server.AddRoute(lab.Route{To: vxlanNet, Via: vxlan6[0].Addr()}),
		s.client.AddAddress("lo", netip.PrefixFrom(hostOf(vxlanNet), 128)),
	)
}

// offloads turns off what a real wire does not do.
func (s *site) offloads() error {
	if s.wiring != wire {
		return nil
	}
	off := map[lab.Feature]bool{lab.TxChecksum: false, lab.TSO: false}
	return errors.Join(
		s.client.Offload(clientDevice, off), s.server.Offload(uplinkDevice, off),
		s.server.Offload(innerDevice, off), s.core.Offload(coreDevice, off),
	)
}

// hostOf is the first host of a network.
func hostOf(network netip.Prefix) netip.Addr { return network.Masked().Addr().Next() }

// datapathConfig is how a driver serves n tunnels in a site. Index 0 of the pool stays free, as in a lease pool.
func datapathConfig(n int) datapath.Config {
	return datapath.Config{
		Device:  tunnelDevice,
		Uplinks: []string{uplinkDevice},
		Cores:   []string{innerDevice},
		Local:   []netip.AddrPort{netip.AddrPortFrom(server4.Addr(), tspPort)},
		Server:  tunnelServer,
		Pools: []datapath.Pool{{
			Name: "bench", First: 1, Size: uint32(n) + 1,
			EndpointBase: endpointNet.Addr(), PrefixBase: prefixNet.Addr(), PrefixLen: prefixLen,
		}},
		MTU:     1472,
		PinPath: lab.BPFFS + "/tspbench",
	}
}
