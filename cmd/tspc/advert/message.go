// SPDX-License-Identifier: GPL-2.0-or-later

package advert

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"
)

// ICMPv6 types and option types of RFC 4861 and RFC 8106.
const (
	typeSolicitation  = 133
	typeAdvertisement = 134

	optionSourceLinkAddress = 1
	optionPrefix            = 3
	optionMTU               = 5
	optionResolvers         = 25
)

const (
	curHopLimit      = 64
	flagOnLink       = 0x80
	flagAutonomous   = 0x40
	solicitationLen  = 8
	neighborHopLimit = 255 // no router has forwarded it (RFC 4861 section 6.1)
)

// Lifetimes in an advertisement. Those of the prefix are the short ones of RFC 9096 section 3.3, so that hosts soon
// forget a prefix the provider has changed while this router was off.
const (
	routerLifetime    = 3 * maxInterval
	resolverLifetime  = 3 * maxInterval
	preferredLifetime = 45 * time.Minute
	validLifetime     = 90 * time.Minute
)

// old is a prefix that is no longer ours.
type old struct {
	prefix netip.Prefix
	until  time.Time // hosts may use its addresses for what they have begun
}

// marshal makes a Router Advertisement (RFC 4861 section 4.2) without checksum. With final, this router says goodbye.
func marshal(content Content, last []old, address net.HardwareAddr, now time.Time, final bool) []byte {
	b := make([]byte, 16, 128)
	b[0], b[4] = typeAdvertisement, curHopLimit
	preferred := preferredLifetime
	if final {
		preferred = 0
	} else if content.Router {
		binary.BigEndian.PutUint16(b[6:8], uint16(routerLifetime/time.Second))
	}
	if len(address) == 6 {
		b = append(b, optionSourceLinkAddress, 1)
		b = append(b, address...)
	}
	b = append(b, optionMTU, 1, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(content.MTU))
	b = appendPrefix(b, content.Prefix, validLifetime, preferred)
	for _, o := range last {
		b = appendPrefix(b, o.prefix, o.until.Sub(now), 0)
	}
	return appendResolvers(b, content.Resolvers, final)
}

// appendPrefix appends a Prefix Information option (RFC 4861 section 4.6.2).
func appendPrefix(b []byte, prefix netip.Prefix, valid, preferred time.Duration) []byte {
	b = append(b, optionPrefix, 4, byte(prefix.Bits()), flagOnLink|flagAutonomous)
	b = binary.BigEndian.AppendUint32(b, uint32(valid/time.Second))
	b = binary.BigEndian.AppendUint32(b, uint32(preferred/time.Second))
	b = append(b, 0, 0, 0, 0)
	address := prefix.Addr().As16()
	return append(b, address[:]...)
}

// appendResolvers appends a Recursive DNS Server option (RFC 8106 section 5.1) with those that have IPv6 addresses.
func appendResolvers(b []byte, resolvers []netip.Addr, final bool) []byte {
	start := len(b)
	b = append(b, optionResolvers, 1, 0, 0)
	lifetime := resolverLifetime
	if final {
		lifetime = 0
	}
	b = binary.BigEndian.AppendUint32(b, uint32(lifetime/time.Second))
	for _, resolver := range resolvers {
		if resolver.Is6() && !resolver.Is4In6() && b[start+1] < 1+2*maxResolvers {
			address := resolver.As16()
			b = append(b, address[:]...)
			b[start+1] += 2
		}
	}
	if b[start+1] == 1 {
		return b[:start]
	}
	return b
}

// maxResolvers bounds the name servers in an advertisement.
const maxResolvers = 8

// isSolicitation says whether an ICMPv6 message with this hop limit is a valid Router Solicitation (RFC 4861
// section 6.1.1; the kernel has checked the checksum).
func isSolicitation(b []byte, hopLimit int) bool {
	if len(b) < solicitationLen || b[0] != typeSolicitation || b[1] != 0 || hopLimit != neighborHopLimit {
		return false
	}
	for options := b[solicitationLen:]; len(options) > 0; {
		if len(options) < 2 || options[1] == 0 || len(options) < 8*int(options[1]) {
			return false
		}
		options = options[8*int(options[1]):]
	}
	return true
}
