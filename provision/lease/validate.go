// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"unicode"
)

// maxPoolName bounds Pool.Name, in octets.
const maxPoolName = 64

// Validate checks pools that are to be served together: each one in itself (Pool.Validate), names and ids distinct, no
// address in two ranges, and none of the servers' own tunnel addresses within a range. The error joins all that is wrong.
//
// Endpoints never lie in a delegated prefix, of whatever pool: a router client puts the first address of its prefix on
// its LAN and announces the rest there.
func Validate(pools []Pool, servers ...netip.Addr) error {
	if len(pools) == 0 {
		return errors.New("no lease pool: at least one is needed")
	}
	var errs []error
	for _, p := range pools {
		errs = append(errs, p.Validate())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, p := range pools {
		for _, q := range pools[:i] {
			errs = append(errs, disjoint(p, q))
		}
		for _, s := range servers {
			errs = append(errs, apart(p, s))
		}
	}
	return errors.Join(errs...)
}

// Validate checks a pool in itself: a name, a size of at least 2, ids below 2^32, unicast addresses, the endpoints
// within one /64, the prefix base aligned to its length, the ranges within the address space and apart.
func (p Pool) Validate() error {
	if err := validName(p.Name); err != nil {
		return fmt.Errorf("pool %q: name: %w", p.Name, err)
	}
	if p.Size < 2 {
		return fmt.Errorf("pool %q: size %d: at least 2 is needed, since index 0 is never leased", p.Name, p.Size)
	}
	if uint64(p.First)+uint64(p.Size) > math.MaxUint32 {
		return fmt.Errorf("pool %q: first id %d and size %d: ids end at %d", p.Name, p.First, p.Size, uint32(math.MaxUint32))
	}
	if err := p.validEndpoints(); err != nil {
		return fmt.Errorf("pool %q: %w", p.Name, err)
	}
	if err := p.validPrefixes(); err != nil {
		return fmt.Errorf("pool %q: %w", p.Name, err)
	}
	return nil
}

func validName(name string) error {
	if name == "" || len(name) > maxPoolName {
		return fmt.Errorf("1 to %d octets expected", maxPoolName)
	}
	for _, r := range name {
		if r > unicode.MaxASCII || !(unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_' || r == '.') {
			return fmt.Errorf("character %q: letters, digits, '-', '_' and '.' expected", r)
		}
	}
	return nil
}

func (p Pool) validEndpoints() error {
	if err := validBase(p.EndpointBase); err != nil {
		return fmt.Errorf("endpoint base %s: %w", p.EndpointBase, err)
	}
	r := p.endpoints()
	if r.first.hi != r.last.hi || r.last.less(r.first) {
		return fmt.Errorf("endpoint base %s: %d endpoints do not fit into its /64", p.EndpointBase, p.Size)
	}
	return nil
}

func (p Pool) validPrefixes() error {
	if p.PrefixLen == 0 {
		if p.PrefixBase.IsValid() {
			return fmt.Errorf("prefix base %s: a prefix length is needed with it", p.PrefixBase)
		}
		return nil
	}
	if err := validBase(p.PrefixBase); err != nil {
		return fmt.Errorf("prefix base %s: %w", p.PrefixBase, err)
	}
	if p.PrefixLen < 16 || p.PrefixLen > 64 {
		return fmt.Errorf("prefix length %d: 16 to 64 expected", p.PrefixLen)
	}
	if base := netip.PrefixFrom(p.PrefixBase, p.PrefixLen); base.Masked() != base {
		return fmt.Errorf("prefix base %s: not a multiple of its /%d, %s expected", p.PrefixBase, p.PrefixLen, base.Masked().Addr())
	}
	end := wide{lo: uint64(p.Size) - 1}.shl(128 - p.PrefixLen)
	last := wideOf(p.PrefixBase).plus(end)
	if back := end.shr(128 - p.PrefixLen); back.lo != uint64(p.Size)-1 || last.less(wideOf(p.PrefixBase)) || validBase(last.addr()) != nil {
		return fmt.Errorf("prefix base %s: %d prefixes of /%d do not fit into the unicast address space behind it", p.PrefixBase, p.Size, p.PrefixLen)
	}
	if p.endpoints().overlaps(p.prefixes()) {
		return errors.New("the endpoints lie in the delegated prefixes: a client puts its prefix on its LAN, give them ranges apart")
	}
	return nil
}

func validBase(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("an IPv6 address is expected")
	case !a.Is6() || a.Is4In6() || a.Zone() != "":
		return errors.New("an IPv6 address without zone is expected")
	case !a.IsGlobalUnicast():
		return errors.New("a global unicast address is expected")
	}
	return nil
}

// disjoint says what two valid pools have in common.
func disjoint(p, q Pool) error {
	if p.Name == q.Name {
		return fmt.Errorf("pool %q: defined twice", p.Name)
	}
	var errs []error
	common := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf("pools %q and %q: %s", q.Name, p.Name, fmt.Sprintf(format, args...)))
		}
	}
	common(p.First < q.First+q.Size && q.First < p.First+p.Size,
		"tunnel ids overlap, %d to %d and %d to %d", q.First, q.First+q.Size-1, p.First, p.First+p.Size-1)
	common(p.endpoints().overlaps(q.endpoints()), "endpoint ranges overlap")
	common(p.delegates() && q.delegates() && p.prefixes().overlaps(q.prefixes()), "prefix ranges overlap")
	common(p.delegates() && p.prefixes().overlaps(q.endpoints()), "the endpoints of %q lie in the delegated prefixes of %q", q.Name, p.Name)
	common(q.delegates() && q.prefixes().overlaps(p.endpoints()), "the endpoints of %q lie in the delegated prefixes of %q", p.Name, q.Name)
	return errors.Join(errs...)
}

// apart says if a server address lies in a range of a valid pool.
func apart(p Pool, server netip.Addr) error {
	if !server.Is6() {
		return nil
	}
	a := wideOf(server.WithZone(""))
	if p.endpoints().contains(a) {
		return fmt.Errorf("pool %q: the server address %s lies among the endpoints %s to %s", p.Name, server, p.EndpointBase, p.Endpoint(p.Size-1))
	}
	if p.delegates() && p.prefixes().contains(a) {
		return fmt.Errorf("pool %q: the server address %s lies in the delegated prefixes", p.Name, server)
	}
	return nil
}
