// SPDX-License-Identifier: GPL-2.0-or-later

package datapath_test

import (
	"net/netip"
	"slices"
	"testing"

	"ddtb/provision/datapath"
)

func TestPrefixes(t *testing.T) {
	p := netip.MustParsePrefix
	set := datapath.PrefixesOf(p("2001:db8:2::/48"), p("2001:db8:1::5/48"), netip.Prefix{}, p("192.0.2.0/24"), p("2001:db8:1::/56"), p("2001:db8:2::/48"))
	if set != datapath.PrefixesOf(p("2001:db8:1::/56"), p("2001:db8:2::/48"), p("2001:db8:1::/48")) {
		t.Error("the order makes a difference")
	}
	want := []netip.Prefix{p("2001:db8:1::/48"), p("2001:db8:1::/56"), p("2001:db8:2::/48")}
	if got := slices.Collect(set.All()); !slices.Equal(got, want) || set.Len() != len(want) || set.String() != "2001:db8:1::/48 2001:db8:1::/56 2001:db8:2::/48" {
		t.Errorf("%v, %d, %q", got, set.Len(), set)
	}
	for address, in := range map[string]bool{"2001:db8:1:ffff::1": true, "2001:db8:2::": true, "2001:db8:3::": false, "192.0.2.1": false} {
		if set.Contains(netip.MustParseAddr(address)) != in {
			t.Errorf("%s is in: %v expected", address, in)
		}
	}
	for prefix, shares := range map[string]bool{"2001:db8::/32": true, "2001:db8:2:1::/64": true, "2001:db8:3::/48": false} {
		if set.Overlaps(p(prefix)) != shares {
			t.Errorf("%s overlaps: %v expected", prefix, shares)
		}
	}
	if empty := datapath.PrefixesOf(); empty != (datapath.Prefixes{}) || empty.Len() != 0 || empty.String() != "" || empty.Contains(netip.IPv6Unspecified()) {
		t.Errorf("the empty set is %+v", empty)
	}
	for range set.All() {
		break
	}
}
