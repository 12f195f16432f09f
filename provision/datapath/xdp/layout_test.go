// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCover(t *testing.T) {
	for _, test := range []struct {
		base   string
		length int
		n      uint32
		want   []string
	}{
		{"2001:db8::", 128, 1, []string{"2001:db8::/128"}},
		{"2001:db8::", 128, 256, []string{"2001:db8::/120"}},
		{"2001:db8::1", 128, 7, []string{"2001:db8::1/128", "2001:db8::2/127", "2001:db8::4/126"}},
		{"2001:db8::", 128, 1000, []string{
			"2001:db8::/119", "2001:db8::200/120", "2001:db8::300/121", "2001:db8::380/122", "2001:db8::3c0/123", "2001:db8::3e0/125",
		}},
		{"2001:db8:100::", 48, 256, []string{"2001:db8:100::/40"}},
		{"2001:db8:1::", 48, 3, []string{"2001:db8:1::/48", "2001:db8:2::/47"}},
		{"2001:db8::", 56, 65536, []string{"2001:db8::/40"}},
		{"2001:db8::", 64, 65536, []string{"2001:db8::/48"}},
	} {
		var got []string
		for _, prefix := range cover(netip.MustParseAddr(test.base), test.length, test.n) {
			got = append(got, prefix.String())
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s/%d x %d: %s", test.base, test.length, test.n, diff)
		}
	}
}
