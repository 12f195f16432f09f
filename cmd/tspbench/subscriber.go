// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"ddtb/cmd/tspbench/lab"
	"ddtb/cmd/tspbench/pktgen"
	"ddtb/provision/datapath"
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
	off := map[lab.Feature]bool{lab.TxChecksum: false, lab.TSO: false, lab.GSO: false}
	if err := s.client.Offload(subscriberDevice, off); err != nil {
		return nil, err
	}
	if err := errors.Join(
		s.client.AddAddress(subscriberDevice, netip.PrefixFrom(endpoint, 128)),
		s.sourceRoute(endpoint, tunnelTable, lab.Route{Device: subscriberDevice}),
	); err != nil {
		return nil, err
	}
	// A large packet is cut at the next device that cannot send it as it is. On a wire that is the uplink, which finds it
	// encapsulated; where no wire is, it has to be cut before, since clients send datagrams of one packet each.
	hook, ingress := subscriberDevice, false
	if s.wiring == veth {
		hook, ingress = subscriberPeer, true
	}
	device, err := s.client.Index(hook)
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
			Device: device, Ingress: ingress, Uplink: uplink, MAC: clientMAC, Gateway: uplinkMAC,
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

// tunnelSite is a site with the driver, one tunnel and the subscriber's end of it.
type tunnelSite struct {
	*site
	undo []func() error
}

// newTunnelSite makes one, with a fixed next hop.
func newTunnelSite(ctx context.Context, w wiring) (_ *tunnelSite, err error) {
	t := &tunnelSite{}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if t.site, err = newSite(w); err != nil {
		return nil, err
	}
	t.undo = append(t.undo, t.site.Close)
	driver, err := openDriver(ctx, t.site, fixedHop, 1)
	if err != nil {
		return nil, err
	}
	t.undo = append(t.undo, driver.Close)
	tunnel := tunnelAt(datapath.V6UDPV4, 0)
	if err := driver.Set(ctx, tunnel); err != nil {
		return nil, fmt.Errorf("set tunnel: %w", err)
	}
	client, err := t.subscriber(tunnel.Remote, tunnel.Endpoint, datapathConfig(1).MTU)
	if err != nil {
		return nil, err
	}
	t.undo = append(t.undo, client.Close)
	return t, nil
}

// Close ends the site.
func (t *tunnelSite) Close() error {
	var errs []error
	for i := len(t.undo) - 1; i >= 0; i-- {
		errs = append(errs, t.undo[i]())
	}
	return errors.Join(errs...)
}
