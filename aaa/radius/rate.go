// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"encoding/binary"
	"strconv"
	"strings"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"ddtb/aaa"
)

// RateSource names an attribute a rate can come by, as the configuration does.
type RateSource string

// The sources, in the order they are looked at by default.
const (
	RateFilterID RateSource = "filter-id" // "down/up" in kbit/s, K, M, G; a prefix "tr," and what is no rate is passed over
	RateMikrotik RateSource = "mikrotik"  // Mikrotik-Rate-Limit "rx/tx ...": the router receives what the subscriber sends
	RateWISPr    RateSource = "wispr"     // WISPr-Bandwidth-Max-Up and -Down, bit/s
	RateCisco    RateSource = "cisco"     // Cisco-AVPair "...rate-limit input|output [access-group n] bps ..."
)

// RateSources is all of them.
var RateSources = []RateSource{RateFilterID, RateMikrotik, RateWISPr, RateCisco}

const (
	vendorCisco    = 9
	vendorMikrotik = 14988
	vendorWISPr    = 14122
)

// rateVendors are whose attributes tell rates.
var rateVendors = []uint32{vendorCisco, vendorMikrotik, vendorWISPr}

// rate is what the first source that says something says; ok is false if none does.
func rate(p *radius.Packet, sources []RateSource, plans aaa.Plans) (r aaa.Rate, ok bool) {
	readers := map[RateSource]func(*radius.Packet) (aaa.Rate, bool){
		RateFilterID: func(p *radius.Packet) (aaa.Rate, bool) { return filterRate(p, plans) },
		RateMikrotik: mikrotikRate,
		RateWISPr:    wisprRate,
		RateCisco:    ciscoRate,
	}
	for _, source := range sources {
		if r, ok := readers[source](p); ok {
			return r, true
		}
	}
	return aaa.Rate{}, false
}

func filterRate(p *radius.Packet, plans aaa.Plans) (aaa.Rate, bool) {
	for _, a := range values(p, rfc2865.FilterID_Type) {
		if r, ok := plans.Rate(string(a)); ok {
			return r, true
		}
	}
	return aaa.Rate{}, false
}

func mikrotikRate(p *radius.Packet) (aaa.Rate, bool) {
	for _, v := range vendorAttributes(p, vendorMikrotik, 8) {
		first, _, _ := strings.Cut(strings.TrimSpace(string(v)), " ")
		if up, down, ok := aaa.ParseRatePair(first, 1); ok {
			return aaa.Rate{Up: up, Down: down}, true
		}
	}
	return aaa.Rate{}, false
}

func wisprRate(p *radius.Packet) (r aaa.Rate, ok bool) {
	for kind, direction := range map[byte]*uint64{7: &r.Up, 8: &r.Down} {
		for _, v := range vendorAttributes(p, vendorWISPr, kind) {
			if len(v) == 4 {
				*direction, ok = uint64(binary.BigEndian.Uint32(v)), true
				break
			}
		}
	}
	return r, ok
}

func ciscoRate(p *radius.Packet) (r aaa.Rate, ok bool) {
	for _, v := range vendorAttributes(p, vendorCisco, 1) {
		_, text, found := strings.Cut(string(v), "rate-limit ")
		fields := strings.Fields(text)
		if !found || len(fields) < 2 {
			continue
		}
		direction, rest := fields[0], fields[1:]
		if rest[0] == "access-group" && len(rest) > 2 {
			rest = rest[2:]
		}
		bits, err := strconv.ParseUint(rest[0], 10, 64)
		switch {
		case err != nil:
		case direction == "input":
			r.Up, ok = bits, true
		case direction == "output":
			r.Down, ok = bits, true
		}
	}
	return r, ok
}
