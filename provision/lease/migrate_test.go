// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// What a change of the pools between two starts keeps, drops and refuses.
func TestMigrate(t *testing.T) {
	change := func(fn func(home *Pool)) func([]Pool) []Pool {
		return func(pools []Pool) []Pool {
			fn(&pools[0])
			return pools
		}
	}
	// Before: 10 active at index 10, 20 idle at 20, 30 reserved at 30, 40 active with a foreign prefix at 40.
	for _, tc := range []struct {
		name    string
		change  func([]Pool) []Pool
		refused string   // in the error without Drop; "" if there is none
		want    []string // "owner state", by index, with Drop
	}{
		{"nothing", change(func(*Pool) {}), "", []string{"active 1", "idle 2", "reserved 3", "foreign 1"}},
		{"grown", change(func(p *Pool) { p.Size = 1000 }), "", []string{"active 1", "idle 2", "reserved 3", "foreign 1"}},
		{"order", func(p []Pool) []Pool { slices.Reverse(p); return p }, "", []string{"active 1", "idle 2", "reserved 3", "foreign 1"}},
		{"shrunk a little", change(func(p *Pool) { p.Size = 41 }), "", []string{"active 1", "idle 2", "reserved 3", "foreign 1"}},
		{"shrunk", change(func(p *Pool) { p.Size = 25 }), `pool "home" has changed: 1 active leases and 1 reservations`, []string{"active 1", "idle 2"}},
		{"only idle lost", func(p []Pool) []Pool { return p[:1] }, "", []string{"active 1", "idle 2", "reserved 3", "foreign 1"}},
		{"gone", change(func(p *Pool) { p.Name = "other" }), "2 active leases and 1 reservations", nil},
		{"other endpoints", change(func(p *Pool) { p.EndpointBase = netip.MustParseAddr("2001:db8:8002::") }), "2 active leases", []string{"active 2", "idle 2", "reserved 3", "foreign 2"}},
		{"other prefixes", change(func(p *Pool) { p.PrefixBase = netip.MustParseAddr("2001:db8:5000::") }), "2 active leases", []string{"active 2", "idle 2", "reserved 3", "foreign 2"}},
		{"other ids", change(func(p *Pool) { p.First = 1000 }), "2 active leases", []string{"active 2", "idle 2", "reserved 3", "foreign 2"}},
		{"around the foreign prefix", func(pools []Pool) []Pool {
			return append(pools, Pool{Name: "new", First: 1 << 25, Size: 300, EndpointBase: netip.MustParseAddr("2001:db8:8003::"),
				PrefixBase: netip.MustParseAddr("2001:db8:f000::"), PrefixLen: 56})
		}, "1 active leases", []string{"active 1", "idle 2", "reserved 3", "foreign 2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			e := mustOpen(t, dir, testPools(100), Options{})
			acquire := func(owner string, index uint32, foreign netip.Prefix) Lease {
				req := request(owner)
				req.Index, req.Foreign = index, foreign
				return mustAcquire(t, e, req)
			}
			acquire("active", 10, netip.Prefix{})
			idle := acquire("idle", 20, netip.Prefix{})
			acquire("foreign", 40, netip.MustParsePrefix("2001:db8:f000::/48"))
			if err := e.Release(t.Context(), holderOf(idle)); err != nil {
				t.Fatal(err)
			}
			if err := e.Reserve(t.Context(), "home", 30, "reserved", true); err != nil {
				t.Fatal(err)
			}
			req := request("passing")
			req.Pool = "office"
			if err := e.Release(t.Context(), holderOf(mustAcquire(t, e, req))); err != nil {
				t.Fatal(err)
			}
			before := dump(t, e)
			mustClose(t, e)

			pools := tc.change(testPools(100))
			if tc.refused != "" {
				_, err := OpenEmbedded(dir, pools, Options{})
				if err == nil || !strings.Contains(err.Error(), tc.refused) || !strings.Contains(err.Error(), "nothing was changed") {
					t.Fatalf("%v, want %q", err, tc.refused)
				}
				// It is true.
				e = mustOpen(t, dir, testPools(100), Options{})
				if got := dump(t, e); !slices.Equal(got, before) {
					t.Errorf("changed to %v", got)
				}
				mustClose(t, e)
			}
			var log bytes.Buffer
			for range 2 { // the second time it is read as it was written
				e = mustOpen(t, dir, pools, Options{Drop: tc.refused != "", Logger: zerolog.New(&log)})
				var got []string
				for l, err := range e.All(t.Context()) {
					if err != nil {
						t.Fatal(err)
					}
					if l.Pool == "home" {
						got = append(got, l.Owner+" "+string('0'+byte(l.State)))
						if l.Endpoint != pools[slices.IndexFunc(pools, func(p Pool) bool { return p.Name == "home" })].Endpoint(l.Index) {
							t.Errorf("%+v", l)
						}
					}
				}
				if !slices.Equal(got, tc.want) {
					t.Errorf("got %q, want %q", got, tc.want)
				}
				mustClose(t, e)
			}
			if dropped := strings.Contains(log.String(), "dropped"); dropped != (tc.refused != "" || tc.name == "only idle lost") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}
