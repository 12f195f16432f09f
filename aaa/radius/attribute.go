// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"layeh.com/radius"
)

// Attributes that are decoded here: layeh.com/radius refuses prefixes with host bits set, gives only the first of several,
// or does not know them.
const (
	attrVendorSpecific   radius.Type = 26
	attrProxyState       radius.Type = 33  // RFC 2865 section 5.33
	attrFramedIPv6Prefix radius.Type = 97  // RFC 3162 section 2.3
	attrFramedIPv6Route  radius.Type = 99  // RFC 3162 section 2.5; aaa.ParseRoute
	attrDelegatedPrefix  radius.Type = 123 // RFC 4818
	attrDigestResponse   radius.Type = 206 // draft-sterman-aaa-sip
	attrDigestAttributes radius.Type = 207 // draft-sterman-aaa-sip
)

var errAttribute = errors.New("malformed attribute")

// parsePrefix reads the form of RFC 3162 section 2.3: reserved, length, as many octets as are needed or more. Bits beyond
// the length are cleared, since servers send what an operator typed.
func parsePrefix(a radius.Attribute) (netip.Prefix, error) {
	if len(a) < 2 || len(a) > 18 || a[1] > 128 {
		return netip.Prefix{}, fmt.Errorf("%w: prefix of %d octets", errAttribute, len(a))
	}
	var b [16]byte
	copy(b[:], a[2:])
	return netip.PrefixFrom(netip.AddrFrom16(b), int(a[1])).Masked(), nil
}

// formatPrefix writes that form.
func formatPrefix(p netip.Prefix) radius.Attribute {
	b := p.Masked().Addr().As16()
	return append(radius.Attribute{0, byte(p.Bits())}, b[:(p.Bits()+7)/8]...)
}

// parseAddr reads an IPv6 address (RFC 6911 section 3.1).
func parseAddr(a radius.Attribute) (netip.Addr, error) {
	if len(a) != 16 {
		return netip.Addr{}, fmt.Errorf("%w: IPv6 address of %d octets", errAttribute, len(a))
	}
	return netip.AddrFrom16([16]byte(a)), nil
}

// vendorAttributes yields the values of one vendor's attribute (RFC 2865 section 5.26, the recommended form).
func vendorAttributes(p *radius.Packet, vendor uint32, kind byte) [][]byte {
	var out [][]byte
	for _, avp := range p.Attributes {
		if avp.Type != attrVendorSpecific || len(avp.Attribute) < 4 || binary.BigEndian.Uint32(avp.Attribute) != vendor {
			continue
		}
		for b := []byte(avp.Attribute[4:]); len(b) >= 2; {
			n := int(b[1])
			if n < 2 || n > len(b) {
				break
			}
			if b[0] == kind {
				out = append(out, b[2:n])
			}
			b = b[n:]
		}
	}
	return out
}

// addVendor appends one attribute of a vendor.
func addVendor(p *radius.Packet, vendor uint32, kind byte, value []byte) error {
	const room = 253 - 4 - 2
	if len(value) > room {
		return fmt.Errorf("vendor attribute %d of %d octets: at most %d fit", kind, len(value), room)
	}
	a := binary.BigEndian.AppendUint32(nil, vendor)
	a = append(a, kind, byte(len(value)+2))
	p.Add(attrVendorSpecific, append(a, value...))
	return nil
}

// values yields all attributes of a type.
func values(p *radius.Packet, t radius.Type) []radius.Attribute {
	var out []radius.Attribute
	for _, avp := range p.Attributes {
		if avp.Type == t {
			out = append(out, avp.Attribute)
		}
	}
	return out
}

// addText appends text, cut to what an attribute holds and to most octets.
func addText(p *radius.Packet, t radius.Type, text string, most int) {
	if text == "" {
		return
	}
	p.Add(t, radius.Attribute(text[:min(len(text), most, 253)]))
}
