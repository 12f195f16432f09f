// SPDX-License-Identifier: GPL-2.0-or-later

package dialogue

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ddtb/tsp"
)

// ErrOffer: the server offered a tunnel that cannot work, or that was not asked for.
var ErrOffer = errors.New("unusable offer")

const (
	minKeepalive = time.Second
	maxKeepalive = 24 * time.Hour
	minPrefix    = 16 // bits; no provider delegates more than a /16
	maxResolvers = 8
)

// check refuses an offer that would do the machine harm or no good, and gives it with the optional parts put right:
// what is beyond bounds is bounded, a keepalive address that is missing is the server's.
func check(offer tsp.Offer, request tsp.Request, transport string) (tsp.Offer, error) {
	if err := checkType(offer, request, transport); err != nil {
		return offer, err
	}
	if !usable(offer.ClientIPv6) {
		return offer, fmt.Errorf("%w: tunnel address %v", ErrOffer, offer.ClientIPv6)
	}
	if p := offer.Prefix; p.IsValid() {
		if !usable(p.Addr()) || p.Bits() < minPrefix || p.Bits() > 64 || p != p.Masked() {
			return offer, fmt.Errorf("%w: prefix %v", ErrOffer, p)
		}
	}
	if !offer.KeepaliveTo.IsValid() {
		offer.KeepaliveTo = offer.ServerIPv6
	}
	if !usable(offer.KeepaliveTo) || offer.KeepaliveTo == offer.ClientIPv6 || offer.Keepalive <= 0 {
		offer.Keepalive, offer.KeepaliveTo = 0, netip.Addr{}
	} else {
		offer.Keepalive = min(max(offer.Keepalive, minKeepalive), maxKeepalive)
	}
	offer.Resolvers = offer.Resolvers[:min(len(offer.Resolvers), maxResolvers)]
	return offer, nil
}

func checkType(offer tsp.Offer, request tsp.Request, transport string) error {
	switch {
	case offer.Type != tsp.V6V4 && offer.Type != tsp.V6UDPV4,
		request.Type != tsp.V6AnyV4 && request.Type != offer.Type:
		return fmt.Errorf("%w: tunnel type %q for %q", ErrOffer, offer.Type, request.Type)
	case offer.Type == tsp.V6UDPV4 && transport != "udp":
		return fmt.Errorf("%w: tunnel type v6udpv4 over %s", ErrOffer, transport)
	case offer.Type == tsp.V6V4:
		if a := offer.ServerIPv4; !a.Is4() || a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() ||
			a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return fmt.Errorf("%w: tunnel server %v", ErrOffer, a)
		}
	}
	return nil
}

// usable says whether an IPv6 address can stand for somebody beyond a link.
func usable(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && a.Zone() == "" && a.IsGlobalUnicast()
}
