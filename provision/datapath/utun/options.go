// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"ddtb/provision/datapath"
)

// RouteProtocol is the protocol number of the routes the driver adds, for `ip route show proto 153` and for routing
// daemons; all drivers use the same. /etc/iproute2/rt_protos.d can give it the name ddtb.
const RouteProtocol = datapath.RouteProtocol

// Layout is how many devices there are.
type Layout string

// The layouts.
const (
	Shared    Layout = "shared"    // one device for all tunnels; the default
	Interface Layout = "interface" // one more for each tunnel
)

// DSCP is what becomes of the differentiated services field when a packet is encapsulated (RFC 2983).
type DSCP string

// The ways of RFC 2983.
const (
	Uniform DSCP = "uniform" // the inner one is copied; the default
	Pipe    DSCP = "pipe"    // the outer one is 0
)

// Options of a Driver. The zero value is good.
type Options struct {
	Layout Layout
	DSCP   DSCP
	Logger zerolog.Logger
}

// Validate tells what is wrong, by the names of the keys of the configuration.
func (o Options) Validate() error {
	var errs []error
	switch o.Layout {
	case "", Shared, Interface:
	default:
		errs = append(errs, fmt.Errorf("layout %q: %q or %q expected", o.Layout, Shared, Interface))
	}
	switch o.DSCP {
	case "", Uniform, Pipe:
	default:
		errs = append(errs, fmt.Errorf("dscp %q: %q or %q expected", o.DSCP, Uniform, Pipe))
	}
	return errors.Join(errs...)
}

// validate checks what this driver needs beyond datapath.Config.Validate.
func validate(config datapath.Config) error {
	if err := config.Validate(); err != nil {
		return err
	}
	switch {
	case config.Device == "" || len(config.Device) > 15:
		return fmt.Errorf("device %q: a name of 1 to 15 characters is expected", config.Device)
	case len(config.Local) > localsMax:
		return fmt.Errorf("%d local addresses: at most %d", len(config.Local), localsMax)
	case len(config.Pools) > poolsMax:
		return fmt.Errorf("%d pools: at most %d", len(config.Pools), poolsMax)
	}
	return nil
}
