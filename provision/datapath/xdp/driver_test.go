// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"testing"

	"github.com/rs/zerolog"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/datapathtest"
)

// TestRootSuite runs the drivers' suite in every way a packet can go.
func TestRootSuite(t *testing.T) {
	for _, test := range []struct {
		name     string
		options  Options
		topology datapathtest.Topology
		old      bool // as on an old kernel
		moving   bool // each process lays the records out another way than the one before
	}{
		{"native fib", Options{Mode: Native, NextHop: FIB}, datapathtest.TwoNICs, false, false},
		{"native fixed", Options{Mode: Native, NextHop: Fixed}, datapathtest.TwoNICs, false, false},
		{"native stack", Options{Mode: Native, NextHop: Stack}, datapathtest.TwoNICs, false, false},
		{"native fib one NIC", Options{Mode: Native, NextHop: FIB}, datapathtest.OneNIC, false, false},
		{"native fixed one NIC", Options{Mode: Native, NextHop: Fixed}, datapathtest.OneNIC, false, false},
		{"generic fib", Options{Mode: Generic, NextHop: FIB}, datapathtest.TwoNICs, false, false},
		{"generic fixed one NIC", Options{Mode: Generic, NextHop: Fixed}, datapathtest.OneNIC, false, false},
		{"tc fib", Options{Mode: TC, NextHop: FIB}, datapathtest.TwoNICs, false, false},
		{"tc fixed one NIC", Options{Mode: TC, NextHop: Fixed}, datapathtest.OneNIC, false, false},
		{"tc stack", Options{Mode: TC, NextHop: Stack}, datapathtest.TwoNICs, false, false},
		{"native dense", Options{Mode: Native, NextHop: Fixed}, datapathtest.TwoNICs, false, true},
		{"auto", Options{}, datapathtest.TwoNICs, false, false},
		{"old native", Options{Mode: Native}, datapathtest.TwoNICs, true, false},
		{"old tc one NIC", Options{Mode: TC, NextHop: Stack}, datapathtest.OneNIC, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			processes := uint32(0)
			datapathtest.Run(t, test.topology, func(t *testing.T) datapath.Datapath {
				options := test.options
				options.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
				d, err := New(options)
				if err != nil {
					t.Fatal(err)
				}
				d.quirks.old = test.old
				if processes++; test.moving {
					d.quirks.spread = processes % 2 * ownLine
				}
				return d
			})
		})
	}
}
