// SPDX-License-Identifier: GPL-2.0-or-later

//go:build utun

package utun

import (
	"testing"

	"github.com/rs/zerolog"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/datapathtest"
)

// The tests of this file and the others with this build tag need a kernel that has the module: `make test-vm` runs them in guests.

// open makes a Driver for the network namespace of the thread.
func open(t *testing.T, options Options) *Driver {
	t.Helper()
	options.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
	d, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestRootSuite runs the drivers' suite.
func TestRootSuite(t *testing.T) {
	for _, test := range []struct {
		name     string
		layout   Layout
		topology datapathtest.Topology
	}{
		{"shared", Shared, datapathtest.TwoNICs},
		{"shared one NIC", Shared, datapathtest.OneNIC},
		{"interface", Interface, datapathtest.TwoNICs},
	} {
		t.Run(test.name, func(t *testing.T) {
			datapathtest.Run(t, test.topology, func(t *testing.T) datapath.Datapath { return open(t, Options{Layout: test.layout}) })
		})
	}
}
