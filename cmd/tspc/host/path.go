// SPDX-License-Identifier: GPL-2.0-or-later

package host

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Path is how packets to an IPv4 address leave this machine.
type Path struct {
	Interface int        // index
	Source    netip.Addr // the address they are sent from
	Gateway   netip.Addr // not valid on a link to the destination itself
}

// PathTo asks the kernel for the path to an IPv4 address. The error says why there is none.
func PathTo(to netip.Addr) (Path, error) {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil {
		return Path{}, fmt.Errorf("no way to %v: %w", to, err)
	}
	if len(routes) == 0 {
		return Path{}, fmt.Errorf("no way to %v", to)
	}
	source, _ := netip.AddrFromSlice(routes[0].Src)
	gateway, _ := netip.AddrFromSlice(routes[0].Gw)
	return Path{Interface: routes[0].LinkIndex, Source: source.Unmap(), Gateway: gateway.Unmap()}, nil
}

// Through says whether the path leaves through interface name.
func (p Path) Through(name string) bool {
	link, err := netlink.LinkByIndex(p.Interface)
	return err == nil && link.Attrs().Name == name
}

// Watch sends on the returned channel after interfaces, IPv4 addresses or IPv4 routes changed, as often as it is read
// from, until stop is called.
func Watch(log zerolog.Logger) (changed <-chan struct{}, stop func(), err error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
	if err != nil {
		return nil, nil, fmt.Errorf("watching the network: %w", err)
	}
	events := make(chan struct{}, 1)
	stopped, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		err := forward(socket, events)
		select {
		case <-stopped:
		default:
			log.Error().Err(err).Msg("changes of the network are no longer noticed at once")
		}
	}()
	return events, func() { close(stopped); socket.Close(); <-finished }, nil
}

// forward tells events of each message on socket until that fails. A queue that ran over (ENOBUFS) is news too; what
// the messages say is not needed.
func forward(socket *nl.NetlinkSocket, events chan<- struct{}) error {
	for {
		if _, _, err := socket.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		select {
		case events <- struct{}{}:
		default:
		}
	}
}
