// SPDX-License-Identifier: GPL-2.0-or-later

package ldap

import (
	"slices"
	"testing"
)

// TestAttributes: what a login has no need of is not asked for.
func TestAttributes(t *testing.T) {
	o := Options{ReadSecrets: true, GroupDN: "cn=tunnels"}.withDefaults()
	for _, test := range []struct {
		name             string
		o                Options
		secrets          bool
		password, groups bool
	}{
		{"response", o, true, true, true},
		{"PLAIN", o, false, false, true},
		{"no rights", Options{GroupDN: "cn=tunnels"}.withDefaults(), true, false, true},
		{"groups by search", Options{GroupDN: "cn=tunnels", GroupFilter: "(member={dn})"}.withDefaults(), false, false, false},
		{"no group", Options{}.withDefaults(), false, false, false},
	} {
		names := test.o.attributes(test.secrets)
		for _, secret := range []string{"userPassword", "ddtbDigestHA1"} {
			if got := slices.Contains(names, secret); got != test.password {
				t.Errorf("%s: %s is asked for: %t", test.name, secret, got)
			}
		}
		if got := slices.Contains(names, "memberOf"); got != test.groups {
			t.Errorf("%s: memberOf is asked for: %t", test.name, got)
		}
	}
	if got := (Options{}).attributes(true); !slices.Equal(got, []string{"1.1"}) {
		t.Errorf("nothing mapped: %q asks for all there is", got)
	}
}
