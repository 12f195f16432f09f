// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/xdp"
)

// Figures' prefixes of the ways the driver finds the next hop.
const (
	fixedHop  = "xdp"
	fibLookup = "xdp.fib"
)

// nextHops are the driver's modes by prefix.
var nextHops = map[string]xdp.NextHop{fixedHop: xdp.Fixed, fibLookup: xdp.FIB}

// openDriver puts the eBPF driver in force on a site, with room for n tunnels. On a wire it is native XDP, what a network
// card would run and a veth runs if told to. XDP knows no packets of 64 KB without checksum: there it is what the driver
// chooses by itself, tc.
func openDriver(ctx context.Context, s *site, prefix string, n int) (datapath.Datapath, error) {
	var driver *xdp.Driver
	err := s.server.Do(func() (err error) {
		driver, err = xdp.New(xdp.Options{
			Mode:    map[wiring]xdp.Mode{wire: xdp.Native, veth: xdp.Auto}[s.wiring],
			NextHop: nextHops[prefix], Logger: zerolog.Nop(),
		})
		if err != nil {
			return err
		}
		if err := driver.Configure(ctx, datapathConfig(n)); err != nil {
			return errors.Join(err, driver.Close())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("eBPF driver: %w", err)
	}
	return driver, nil
}
