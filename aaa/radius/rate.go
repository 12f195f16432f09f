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

// Plans gives names (Filter-Id) to rates.
type Plans map[string]aaa.Rate

// rate is what the first source that says something says.
func rate(p *radius.Packet, sources []RateSource, plans Plans) aaa.Rate {
	readers := map[RateSource]func(*radius.Packet) aaa.Rate{
		RateFilterID: func(p *radius.Packet) aaa.Rate { return filterRate(p, plans) },
		RateMikrotik: mikrotikRate,
		RateWISPr:    wisprRate,
		RateCisco:    ciscoRate,
	}
	for _, source := range sources {
		if r := readers[source](p); r != (aaa.Rate{}) {
			return r
		}
	}
	return aaa.Rate{}
}

func filterRate(p *radius.Packet, plans Plans) aaa.Rate {
	for _, a := range values(p, rfc2865.FilterID_Type) {
		text := string(a)
		if r, ok := plans[text]; ok {
			return r
		}
		if i := strings.LastIndexByte(text, ','); i >= 0 {
			text = text[i+1:]
		}
		down, up, ok := aaa.ParseRatePair(text, 1000)
		if ok {
			return aaa.Rate{Up: up, Down: down}
		}
	}
	return aaa.Rate{}
}

func mikrotikRate(p *radius.Packet) aaa.Rate {
	for _, v := range vendorAttributes(p, vendorMikrotik, 8) {
		first, _, _ := strings.Cut(strings.TrimSpace(string(v)), " ")
		if up, down, ok := aaa.ParseRatePair(first, 1); ok {
			return aaa.Rate{Up: up, Down: down}
		}
	}
	return aaa.Rate{}
}

func wisprRate(p *radius.Packet) aaa.Rate {
	number := func(kind byte) uint64 {
		for _, v := range vendorAttributes(p, vendorWISPr, kind) {
			if len(v) == 4 {
				return uint64(binary.BigEndian.Uint32(v))
			}
		}
		return 0
	}
	return aaa.Rate{Up: number(7), Down: number(8)}
}

func ciscoRate(p *radius.Packet) aaa.Rate {
	var r aaa.Rate
	for _, v := range vendorAttributes(p, vendorCisco, 1) {
		_, text, ok := strings.Cut(string(v), "rate-limit ")
		fields := strings.Fields(text)
		if !ok || len(fields) < 2 {
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
			r.Up = bits
		case direction == "output":
			r.Down = bits
		}
	}
	return r
}
