// SPDX-License-Identifier: GPL-2.0-or-later

package aaa

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// Route is a prefix routed to a subscriber (RFC 3162 section 2.5).
type Route struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // invalid: the tunnel itself
	Metric  uint32

	// Delegated: it is delegated to the subscriber, beside the first one (several Delegated-IPv6-Prefix, RFC 4818 section 3).
	Delegated bool
}

// ParseRoute reads the text of a Framed-IPv6-Route, "prefix gateway metric" (RFC 3162 section 2.5). Gateway and metric may be
// missing; "::" is no gateway; metrics beyond the first are passed over.
func ParseRoute(text string) (Route, error) {
	var r Route
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return r, fmt.Errorf("route %q: expected \"prefix gateway metric\"", text)
	}
	prefix, err := netip.ParsePrefix(fields[0])
	if err != nil || !prefix.Addr().Is6() {
		return r, fmt.Errorf("route %q: expected an IPv6 prefix first", text)
	}
	r.Prefix = prefix.Masked()
	if len(fields) > 1 {
		gateway, err := netip.ParseAddr(fields[1])
		if err != nil || !gateway.Is6() {
			return r, fmt.Errorf("route %q: expected an IPv6 gateway second", text)
		}
		if !gateway.IsUnspecified() {
			r.Gateway = gateway
		}
	}
	if len(fields) > 2 {
		metric, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			return r, fmt.Errorf("route %q: expected a metric third", text)
		}
		r.Metric = uint32(metric)
	}
	return r, nil
}

// Rate bounds a tunnel's traffic, in bits of inner packets a second; 0 is no bound.
type Rate struct {
	Up   uint64 // from the subscriber
	Down uint64 // to the subscriber
}

// ParseRatePair reads two rates, "a/b", or one for both. Each is digits with K, M or G for thousands, millions, billions of
// bit/s; a number without counts unit bit/s. ok is false if text is no such thing.
func ParseRatePair(text string, unit uint64) (a, b uint64, ok bool) {
	left, right, two := strings.Cut(strings.TrimSpace(text), "/")
	a, ok = parseRate(left, unit)
	if !ok || !two {
		return a, a, ok
	}
	b, ok = parseRate(right, unit)
	return a, b, ok
}

func parseRate(text string, unit uint64) (uint64, bool) {
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "kKmMgG")
	switch strings.ToUpper(text[len(digits):]) {
	case "":
	case "K":
		unit = 1e3
	case "M":
		unit = 1e6
	case "G":
		unit = 1e9
	default:
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, false
	}
	return n * unit, true
}

// Plans gives names to rates.
type Plans map[string]Rate

// Rate reads a filter's name (RADIUS Filter-Id): a plan's, or "down/up" in kbit/s or with K, M or G, which anything may stand
// before up to a comma. ok is false if it tells no rate.
func (p Plans) Rate(filter string) (r Rate, ok bool) {
	if r, ok = p[filter]; ok {
		return r, true
	}
	if i := strings.LastIndexByte(filter, ','); i >= 0 {
		filter = filter[i+1:]
	}
	r.Down, r.Up, ok = ParseRatePair(filter, 1000)
	return r, ok
}
