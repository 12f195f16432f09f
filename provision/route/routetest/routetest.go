// SPDX-License-Identifier: GPL-2.0-or-later

// Package routetest is what every route.Table has to pass.
package routetest

import (
	"net/netip"
	"slices"
	"testing"

	"ddtb/provision/route"
)

// Run runs the suite over an empty table.
func Run(t *testing.T, table route.Table) {
	t.Helper()
	endpoint, prefix := netip.MustParsePrefix("2001:db8:f000:1::5/128"), netip.MustParsePrefix("2001:db8:1000:500::/56")
	within := netip.MustParsePrefix("2001:db8:1000:500::/64")
	must(t, table.Delete(prefix)) // not there: no error
	has(t, table)
	must(t, table.Add(prefix))
	must(t, table.Add(endpoint))
	must(t, table.Add(within))
	must(t, table.Add(prefix)) // there: no error
	has(t, table, endpoint, prefix, within)
	must(t, table.Delete(prefix))
	has(t, table, endpoint, within)
	must(t, table.Delete(prefix))
	must(t, table.Delete(within))
	must(t, table.Delete(endpoint))
	has(t, table)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// has wants a table to have these routes and no others.
func has(t *testing.T, table route.Table, want ...netip.Prefix) {
	t.Helper()
	got, err := table.List()
	must(t, err)
	compare := func(a, b netip.Prefix) int { return a.Compare(b) }
	slices.SortFunc(got, compare)
	slices.SortFunc(want, compare)
	if !slices.Equal(got, want) {
		t.Errorf("routes to %v, expected to %v", got, want)
	}
}
