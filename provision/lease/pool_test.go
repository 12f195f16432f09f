// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"net/netip"
	"strings"
	"testing"
)

func pool(change func(*Pool)) Pool {
	p := Pool{
		Name: "home", First: 100, Size: 1 << 20, EndpointBase: netip.MustParseAddr("2001:db8:8000:0:ffff::"),
		PrefixBase: netip.MustParseAddr("2001:db8:4000::"), PrefixLen: 60,
	}
	if change != nil {
		change(&p)
	}
	return p
}

func TestPoolArithmetic(t *testing.T) {
	for _, tc := range []struct {
		pool     Pool
		index    uint32
		endpoint string
		prefix   string
	}{
		{pool(nil), 0, "2001:db8:8000:0:ffff::", "2001:db8:4000::/60"},
		{pool(nil), 1, "2001:db8:8000:0:ffff::1", "2001:db8:4000:10::/60"},
		{pool(nil), 0xABCDE, "2001:db8:8000:0:ffff:0:a:bcde", "2001:db8:40ab:cde0::/60"},
		{pool(nil), 1<<20 - 1, "2001:db8:8000:0:ffff:0:f:ffff", "2001:db8:40ff:fff0::/60"},
		{pool(func(p *Pool) { p.PrefixLen = 64 }), 0xABCDE, "2001:db8:8000:0:ffff:0:a:bcde", "2001:db8:400a:bcde::/64"},
		{pool(func(p *Pool) { p.PrefixLen, p.Size, p.PrefixBase = 32, 16, netip.MustParseAddr("2001:c00::") }), 15, "2001:db8:8000:0:ffff::f", "2001:c0f::/32"},
		{pool(func(p *Pool) { p.PrefixLen, p.PrefixBase = 0, netip.Addr{} }), 9, "2001:db8:8000:0:ffff::9", "invalid Prefix"},
	} {
		if err := tc.pool.Validate(); err != nil {
			t.Fatal(err)
		}
		endpoint, prefix := tc.pool.Endpoint(tc.index), tc.pool.Prefix(tc.index)
		if endpoint.String() != tc.endpoint || prefix.String() != tc.prefix {
			t.Errorf("index %#x: %v %v, want %s %s", tc.index, endpoint, prefix, tc.endpoint, tc.prefix)
		}
		id := tc.pool.ID(tc.index)
		if i, ok := tc.pool.TunnelIndex(id); !ok || i != tc.index {
			t.Errorf("tunnel %d is index %d, %v", id, i, ok)
		}
		if i, ok := tc.pool.Index(endpoint); !ok || i != tc.index {
			t.Errorf("%v is index %d, %v", endpoint, i, ok)
		}
		if !prefix.IsValid() {
			continue
		}
		span := spanOf(prefix)
		for _, a := range []netip.Addr{span.first.addr(), span.last.addr()} {
			if i, ok := tc.pool.Index(a); !ok || i != tc.index {
				t.Errorf("%v is index %d, %v", a, i, ok)
			}
		}
		if i, ok := tc.pool.PrefixIndex(prefix); !ok || i != tc.index {
			t.Errorf("%v is index %d, %v", prefix, i, ok)
		}
	}
}

func TestPoolOutside(t *testing.T) {
	p := pool(nil)
	if p.Endpoint(p.Size).IsValid() || p.Prefix(p.Size).IsValid() {
		t.Error("an index beyond the pool has addresses")
	}
	for _, a := range []string{"2001:db8:8000:0:fffe:ffff:ffff:ffff", "2001:db8:8000:0:ffff::10:0", "2001:db8:3fff:ffff::", "2001:db8:4100::", "::", "192.0.2.1", "ffff::"} {
		if i, ok := p.Index(netip.MustParseAddr(a)); ok {
			t.Errorf("%s is index %d", a, i)
		}
	}
	for _, a := range []string{"2001:db8:4000::/59", "2001:db8:4000::/61", "2001:db8:4000:10::1/60", "2001:db8:4100::/60"} {
		if i, ok := p.PrefixIndex(netip.MustParsePrefix(a)); ok {
			t.Errorf("%s is index %d", a, i)
		}
	}
	for _, id := range []uint32{0, 99, 100 + 1<<20, 1<<32 - 1} {
		if i, ok := p.TunnelIndex(id); ok {
			t.Errorf("tunnel %d is index %d", id, i)
		}
	}
	for prefix, want := range map[string]bool{
		"2001:db8::/32": true, "2001:db8:8000::/64": true, "2001:db8:8000:0:ffff::10:0/108": false, "2001:db8:4000:5::/64": true,
		"2001:db8:4100::/40": false, "2001:db8:3f00::/40": false,
	} {
		if got := p.Overlaps(netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("%s overlaps: %v", prefix, got)
		}
	}
}

func TestPoolValidate(t *testing.T) {
	addr := netip.MustParseAddr
	for name, tc := range map[string]struct {
		change func(*Pool)
		want   string
	}{
		"no name":             {func(p *Pool) { p.Name = "" }, "1 to 64 octets"},
		"name with a brace":   {func(p *Pool) { p.Name = "a}b" }, "letters, digits"},
		"too small":           {func(p *Pool) { p.Size = 1 }, "at least 2"},
		"ids beyond":          {func(p *Pool) { p.First = 1<<32 - 1000 }, "ids end at"},
		"no endpoints":        {func(p *Pool) { p.EndpointBase = netip.Addr{} }, "an IPv6 address"},
		"IPv4 endpoints":      {func(p *Pool) { p.EndpointBase = addr("192.0.2.0") }, "an IPv6 address"},
		"mapped":              {func(p *Pool) { p.EndpointBase = addr("::ffff:192.0.2.0") }, "an IPv6 address"},
		"link-local":          {func(p *Pool) { p.EndpointBase = addr("fe80::") }, "global unicast"},
		"beyond its /64":      {func(p *Pool) { p.EndpointBase = addr("2001:db8:8000:0:ffff:ffff:fff1::") }, "do not fit into its /64"},
		"base without length": {func(p *Pool) { p.PrefixLen = 0 }, "a prefix length is needed"},
		"length without base": {func(p *Pool) { p.PrefixBase = netip.Addr{} }, "prefix base"},
		"length 65":           {func(p *Pool) { p.PrefixLen = 65 }, "16 to 64"},
		"length 8":            {func(p *Pool) { p.PrefixLen = 8 }, "16 to 64"},
		"not aligned":         {func(p *Pool) { p.PrefixBase = addr("2001:db8:4000:8::") }, "2001:db8:4000:: expected"},
		"past the end":        {func(p *Pool) { p.PrefixLen, p.PrefixBase = 16, addr("2001::") }, "do not fit"},
		"into multicast":      {func(p *Pool) { p.PrefixLen, p.PrefixBase = 24, addr("f000::") }, "do not fit"},
		"endpoints in prefix": {func(p *Pool) { p.EndpointBase = addr("2001:db8:4000:5::") }, "give them ranges apart"},
	} {
		err := pool(tc.change).Validate()
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestValidate(t *testing.T) {
	addr := netip.MustParseAddr
	second := func(change func(*Pool)) []Pool {
		q := Pool{
			Name: "office", First: 1 << 24, Size: 1000, EndpointBase: addr("2001:db8:8001::"),
			PrefixBase: addr("2001:db8:5000::"), PrefixLen: 56,
		}
		if change != nil {
			change(&q)
		}
		return []Pool{pool(nil), q}
	}
	for name, tc := range map[string]struct {
		pools  []Pool
		server string
		want   string // "": valid
	}{
		"two":                   {second(nil), "2001:db8:8000::1", ""},
		"without prefixes":      {second(func(p *Pool) { p.PrefixLen, p.PrefixBase = 0, netip.Addr{} }), "2001:db8:8000::1", ""},
		"IPv4 server":           {second(nil), "192.0.2.1", ""},
		"none":                  {nil, "2001:db8:8000::1", "at least one"},
		"a bad one":             {second(func(p *Pool) { p.Size = 0 }), "2001:db8:8000::1", `pool "office": size 0`},
		"same name":             {second(func(p *Pool) { p.Name = "home" }), "2001:db8:8000::1", "defined twice"},
		"ids":                   {second(func(p *Pool) { p.First = 99 }), "2001:db8:8000::1", "tunnel ids overlap"},
		"endpoints":             {second(func(p *Pool) { p.EndpointBase = addr("2001:db8:8000:0:ffff::f:ffff") }), "2001:db8:8000::1", "endpoint ranges overlap"},
		"prefixes":              {second(func(p *Pool) { p.PrefixBase = addr("2001:db8:40ff:ff00::") }), "2001:db8:8000::1", "prefix ranges overlap"},
		"endpoints in prefixes": {second(func(p *Pool) { p.EndpointBase = addr("2001:db8:4000::") }), "2001:db8:8000::1", `endpoints of "office" lie in the delegated prefixes of "home"`},
		"prefixes on endpoints": {second(func(p *Pool) { p.PrefixBase, p.EndpointBase = addr("2001:db8:8000::"), addr("2001:db8:9000::") }), "2001:db8:8000::1", `endpoints of "home" lie in the delegated prefixes of "office"`},
		"server at an endpoint": {second(nil), "2001:db8:8001::5", "lies among the endpoints"},
		"server at index 0":     {second(nil), "2001:db8:8001::", "lies among the endpoints"},
		"server in a prefix":    {second(nil), "2001:db8:5000:1::1", "lies in the delegated prefixes"},
	} {
		err := Validate(tc.pools, addr(tc.server))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	all := Validate(second(func(p *Pool) { p.First, p.EndpointBase = 99, addr("2001:db8:8000:0:ffff::") }), addr("2001:db8:8000:0:ffff::1"))
	if n := len(strings.Split(all.Error(), "\n")); n != 4 {
		t.Errorf("%d things are wrong, want 4 told:\n%v", n, all)
	}
}
