// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"fmt"
	"slices"

	"github.com/rs/zerolog"

	"ddtb/provision/datapath"
)

// RouteProtocol is the protocol number of the routes the driver adds, for `ip route show proto 153` and for routing
// daemons. /etc/iproute2/rt_protos.d can give it the name ddtb.
const RouteProtocol = datapath.RouteProtocol

// Mode is how the programs are attached to the interfaces.
type Mode string

// The modes. Whatever the mode, a tc program takes what is left to the stack.
const (
	Auto    Mode = "auto"    // native XDP where the driver of the interface has it, else tc; on veth tc (see the package comment)
	Native  Mode = "native"  // XDP in the driver; Configure fails where there is none
	Generic Mode = "generic" // XDP on the skb, every interface has it
	TC      Mode = "tc"      // no XDP
)

// NextHop is how the next hop of a packet is found.
type NextHop string

// The ways to the next hop.
const (
	FIB   NextHop = "fib"   // a lookup for each packet; what has no neighbour entry yet goes through the stack
	Fixed NextHop = "fixed" // the gateways of the default routes, watched by netlink; whatever has another route is looked up
	Stack NextHop = "stack" // every packet goes through the stack, with netfilter and tc
)

// DSCP is what becomes of the differentiated services field.
type DSCP string

// The models of RFC 2983. The inner field is left alone at decapsulation in both: what the networks between made of the
// outer one says nothing here.
const (
	Uniform DSCP = "uniform" // the outer field is a copy of the inner one
	Pipe    DSCP = "pipe"    // the outer field is 0
)

// Options of a Driver. The zero value is good: Auto, FIB, Uniform, no log.
type Options struct {
	Mode    Mode
	NextHop NextHop
	DSCP    DSCP
	Logger  zerolog.Logger
}

// Validate says which option is not one of its words.
func (o Options) Validate() error {
	o = o.withDefaults()
	switch {
	case !slices.Contains([]Mode{Auto, Native, Generic, TC}, o.Mode):
		return fmt.Errorf("mode %q: auto, native, generic or tc expected", o.Mode)
	case !slices.Contains([]NextHop{FIB, Fixed, Stack}, o.NextHop):
		return fmt.Errorf("nexthop %q: fib, fixed or stack expected", o.NextHop)
	case !slices.Contains([]DSCP{Uniform, Pipe}, o.DSCP):
		return fmt.Errorf("dscp %q: uniform or pipe expected", o.DSCP)
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Mode == "" {
		o.Mode = Auto
	}
	if o.NextHop == "" {
		o.NextHop = FIB
	}
	if o.DSCP == "" {
		o.DSCP = Uniform
	}
	return o
}
