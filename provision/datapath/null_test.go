// SPDX-License-Identifier: GPL-2.0-or-later

package datapath_test

import (
	"net/netip"
	"testing"
	"time"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/datapathtest"
)

func config() datapath.Config {
	return datapath.Config{
		Local: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3653")}, Server: netip.MustParseAddr("2001:db8:e:ffff::1"), MTU: 1400,
		Pools: []datapath.Pool{
			{Name: "site", First: 1000, Size: 4096, EndpointBase: netip.MustParseAddr("2001:db8:e::"), PrefixBase: netip.MustParseAddr("2001:db8:1000::"), PrefixLen: 48},
		},
	}
}

func TestNullModel(t *testing.T) {
	datapathtest.RunModel(t, config(), datapath.NewNull(time.Now))
}
