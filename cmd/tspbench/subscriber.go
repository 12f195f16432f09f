// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"ddtb/cmd/tspbench/lab"
	"ddtb/cmd/tspbench/pktgen"
)

// Devices of a subscriber: what goes out on the first goes into his tunnel.
const (
	subscriberDevice = "tb-sub"
	subscriberPeer   = "tb-subx"
)

// Routing tables of the client's namespace, chosen by source address.
const (
	tunnelTable = 100
	vxlanTable  = 101
)

// subscriber makes the client's end of a v6udpv4 tunnel with endpoint as its address. Packets from that address go
// through the tunnel.
func (s *site) subscriber(outer netip.AddrPort, endpoint netip.Addr, mtu int) (*pktgen.Client, error) {
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: subscriberDevice, MTU: mtu}, PeerName: subscriberPeer}
	if err := s.client.Netlink.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("subscriber's device: %w", err)
	}
	for _, name := range []string{subscriberDevice, subscriberPeer} {
		device, err := s.client.Netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("subscriber's device: %w", err)
		}
		if err := errors.Join(s.client.Netlink.LinkSetARPOff(device), s.client.Netlink.LinkSetUp(device)); err != nil {
			return nil, fmt.Errorf("bring up %s: %w", name, err)
		}
	}
	if err := errors.Join(
		s.client.Offload(subscriberDevice, map[lab.Feature]bool{lab.TxChecksum: false, lab.TSO: false}),
		s.client.AddAddress(subscriberDevice, netip.PrefixFrom(endpoint, 128)),
		s.sourceRoute(endpoint, tunnelTable, lab.Route{Device: subscriberDevice}),
	); err != nil {
		return nil, err
	}
	device, err := s.client.Index(subscriberDevice)
	if err != nil {
		return nil, err
	}
	uplink, err := s.client.Index(clientDevice)
	if err != nil {
		return nil, err
	}
	var client *pktgen.Client
	err = s.client.Do(func() (err error) {
		client, err = pktgen.NewClient(pktgen.ClientConfig{
			Device: device, Uplink: uplink, MAC: clientMAC, Gateway: uplinkMAC,
			Local: outer, Server: netip.AddrPortFrom(server4.Addr(), tspPort),
		})
		return err
	})
	return client, err
}

// sourceRoute sends what the client namespace sends from an address by a default route of its own.
func (s *site) sourceRoute(from netip.Addr, table int, route lab.Route) error {
	rule := netlink.NewRule()
	rule.Family = netlink.FAMILY_V6
	rule.Src = lab.IPNet(netip.PrefixFrom(from, 128))
	rule.Table = table
	if err := s.client.Netlink.RuleAdd(rule); err != nil {
		return fmt.Errorf("rule for %s: %w", from, err)
	}
	route.To = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	route.Table = table
	return s.client.AddRoute(route)
}

// vxlanSource routes what is sent from the first address of vxlanNet through the VXLAN.
func (s *site) vxlanSource() error {
	return s.sourceRoute(hostOf(vxlanNet), vxlanTable, lab.Route{Via: vxlan6[1].Addr(), Device: vxlanDevice})
}
