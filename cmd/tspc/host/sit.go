// SPDX-License-Identifier: GPL-2.0-or-later

package host

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sitHopLimit is the outer header's; inherited from the inner one, traceroute would end inside the tunnel (RFC 4213
// section 3.3: the tunnel is one hop).
const sitHopLimit = 64

// addSit makes the kernel's protocol 41 interface. The error wraps errors.ErrUnsupported if the kernel has none.
func addSit(c change) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = c.Interface
	// The outer path's MTU is not tracked: the tunnel's MTU is fixed, and DF is not set (RFC 4213 section 3.2.1).
	err := netlink.LinkAdd(&netlink.Sittun{
		LinkAttrs: attributes, Local: c.Source.AsSlice(), Remote: c.Remote.AsSlice(),
		Ttl: sitHopLimit, Proto: unix.IPPROTO_IPV6,
	})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w (another interface has this name, or another sit interface these addresses)", err)
	}
	return explain(err)
}

// removeSit removes the interface if it is a sit one.
func removeSit(c change) error {
	link, err := linkByName(c.Interface)
	if err != nil {
		return err
	}
	if link.Type() != (&netlink.Sittun{}).Type() {
		return nil // the name is somebody else's by now
	}
	return explain(netlink.LinkDel(link))
}
