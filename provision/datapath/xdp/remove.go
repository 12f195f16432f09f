// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"

	"ddtb/provision/datapath"
)

// Remove takes everything out of the kernel that a Driver with this Config left there: programs, maps, routes, the
// device. Tunnels stop. Of the Config only Device and PinPath are looked at. What is not there is no error; a Driver that
// still has it open is to be closed first.
func Remove(_ context.Context, config datapath.Config, log zerolog.Logger) error {
	h, err := newHost()
	if err != nil {
		return err
	}
	a := &attacher{host: h, root: config.PinPath, tcx: true}
	errs := []error{a.prune(nil)}
	if on, err := onBPFFS(config.PinPath); err == nil && on {
		for _, dir := range append(a.otherVersions(), filepath.Join(config.PinPath, version)) {
			errs = append(errs, os.RemoveAll(dir))
		}
		// Not empty if somebody else keeps something there, and then it is theirs.
		_ = os.Remove(config.PinPath)
	}
	errs = append(errs, removeDevice(h, config.Device), h.Close())
	log.Info().Str("device", config.Device).Str("pins", config.PinPath).Msg("datapath removed")
	return errors.Join(errs...)
}

func removeDevice(h *host, name string) error {
	routes, err := ourRoutes(h)
	errs := []error{err}
	for _, route := range routes {
		errs = append(errs, delRoute(h, &route))
	}
	l, err := h.Netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return errors.Join(errs...)
	}
	if err == nil && l.Type() == "tuntap" {
		err = h.Netlink.LinkDel(l)
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("device %s: %w", name, err))
	}
	return errors.Join(errs...)
}
