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
	}{
		{"native fib", Options{Mode: Native, NextHop: FIB}, datapathtest.TwoNICs, false},
		{"native fixed", Options{Mode: Native, NextHop: Fixed}, datapathtest.TwoNICs, false},
		{"native stack", Options{Mode: Native, NextHop: Stack}, datapathtest.TwoNICs, false},
		{"native fib one NIC", Options{Mode: Native, NextHop: FIB}, datapathtest.OneNIC, false},
		{"native fixed one NIC", Options{Mode: Native, NextHop: Fixed}, datapathtest.OneNIC, false},
		{"generic fib", Options{Mode: Generic, NextHop: FIB}, datapathtest.TwoNICs, false},
		{"generic fixed one NIC", Options{Mode: Generic, NextHop: Fixed}, datapathtest.OneNIC, false},
		{"tc fib", Options{Mode: TC, NextHop: FIB}, datapathtest.TwoNICs, false},
		{"tc fixed one NIC", Options{Mode: TC, NextHop: Fixed}, datapathtest.OneNIC, false},
		{"tc stack", Options{Mode: TC, NextHop: Stack}, datapathtest.TwoNICs, false},
		{"auto", Options{}, datapathtest.TwoNICs, false},
		{"old native", Options{Mode: Native}, datapathtest.TwoNICs, true},
		{"old tc one NIC", Options{Mode: TC, NextHop: Stack}, datapathtest.OneNIC, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			datapathtest.Run(t, test.topology, func(t *testing.T) datapath.Datapath {
				options := test.options
				options.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
				d, err := New(options)
				if err != nil {
					t.Fatal(err)
				}
				d.noTCX = test.old
				return d
			})
		})
	}
}
