// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// Check is one thing the datapath needs of the host.
type Check struct {
	Name   string // "kernel module utun"
	OK     bool
	Detail string // what was found, or what to do about it
}

// Probe tells whether the host has what a Config needs. It changes nothing, but that the kernel loads the module if it is installed.
func Probe(config datapath.Config) []Check {
	var checks []Check
	need := func(name string, err error, fine string) {
		if err != nil {
			fine = err.Error()
		}
		checks = append(checks, Check{Name: name, OK: err == nil, Detail: fine})
	}
	var uts unix.Utsname
	err := unix.Uname(&uts)
	need("Linux", err, unix.ByteSliceToString(uts.Release[:]))
	need("configuration", validate(config), "valid")
	h, err := newHost()
	if err != nil {
		need("netlink", err, "")
		return checks
	}
	defer func() { _ = h.Close() }()
	need("kernel module "+kind, haveModule(h), "loaded")
	need("IPv6 forwarding", h.Forwards(), "on")
	need("interfaces", h.interfaces(config), "all are there")
	need("device "+config.Device, available(h, config.Device), "there, or free to be made")
	return checks
}

// Available tells whether the kernel has the module; it is loaded if it is installed. The error wraps datapath.ErrNotSupported
// and says what to do.
func Available() error {
	h, err := newHost()
	if err != nil {
		return err
	}
	return errors.Join(haveModule(h), h.Close())
}

func haveModule(h *host) error {
	f, err := openFamily(h)
	if err == nil {
		f.close()
	}
	return err
}

// available tells whether the name of the device is not another interface's.
func available(h *host, name string) error {
	link, err := h.Netlink.LinkByName(name)
	if err != nil {
		return nil //nolint:nilerr // there is none: it will be made
	}
	if link.Type() != kind || link.Attrs().ParentIndex != 0 {
		return fmt.Errorf("an interface of that name is there, %s: %w", link.Type(), errOthers)
	}
	return nil
}

var errOthers = errors.New("if it is that of another driver, run `ddtb remove` with that driver first")
