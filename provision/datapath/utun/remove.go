// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"

	"ddtb/provision/datapath"
)

// Remove takes everything out of the kernel that a Driver with this Config left there: tunnels, devices, routes. The module stays
// loaded. Of the Config only Device is looked at. What is not there is no error; a Driver that still has it open is to be
// closed first.
func Remove(_ context.Context, config datapath.Config, log zerolog.Logger) error {
	h, err := newHost()
	if err != nil {
		return err
	}
	err = errors.Join(remove(h, config.Device), h.Close())
	log.Info().Str("device", config.Device).Msg("datapath removed")
	return err
}

func remove(h *host, name string) error {
	link, err := h.Netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	if link.Type() != kind || link.Attrs().ParentIndex != 0 {
		return nil // another driver's
	}
	routes, err := ourRoutes(h)
	errs := []error{err}
	r := router{host: h}
	for _, route := range routes {
		errs = append(errs, r.take(&route))
	}
	return errors.Join(append(errs, (&device{name: name, index: link.Attrs().Index}).remove(h))...)
}

// InForce tells whether a device of that name is there and is a shared utun device, or is that of another driver.
func InForce(name string) (ours, others bool) {
	h, err := newHost()
	if err != nil {
		return false, false
	}
	defer func() { _ = h.Close() }()
	link, err := h.Netlink.LinkByName(name)
	if err != nil {
		return false, false
	}
	ours = link.Type() == kind
	return ours, !ours
}
