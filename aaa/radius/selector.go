// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
	"layeh.com/radius/rfc4372"
	"layeh.com/radius/rfc6911"
)

// isMeant checks the attributes that name a NAS (RFC 5176 section 3): a request for another one gets Error-Cause 403.
func (n NAS) isMeant(p *radius.Packet) error {
	if id, ok := p.Lookup(rfc2865.NASIdentifier_Type); ok && string(id) != n.Identifier {
		return fmt.Errorf("NAS-Identifier %q is not ours: %w", id, CauseNASMismatch)
	}
	for _, t := range []radius.Type{rfc2865.NASIPAddress_Type, rfc3162.NASIPv6Address_Type} {
		a, ok := p.Lookup(t)
		if !ok {
			continue
		}
		if addr, valid := netip.AddrFromSlice(a); !valid || !n.Address.IsValid() || addr != n.Address.Unmap() {
			return fmt.Errorf("NAS address is not ours: %w", CauseNASMismatch)
		}
	}
	return nil
}

// selector reads the attributes that name a session (RFC 5176 section 3).
func selector(p *radius.Packet) (s Selector, err error) {
	s.Session = rfc2866.AcctSessionID_GetString(p)
	s.User = rfc2865.UserName_GetString(p)
	s.CUI = rfc4372.ChargeableUserIdentity_GetString(p)
	invalid := func(name string) error { return fmt.Errorf("%s: %w", name, CauseInvalidValue) }
	if a, ok := p.Lookup(rfc2865.NASPort_Type); ok {
		if s.Tunnel, err = radius.Integer(a); err != nil {
			return s, invalid("NAS-Port")
		}
	}
	if text := rfc2869.NASPortID_GetString(p); text != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(text, "tunnel-"), 10, 32)
		if err != nil || (s.Tunnel != 0 && s.Tunnel != uint32(n)) {
			return s, fmt.Errorf("NAS-Port-Id %q: %w", text, CauseNoSession)
		}
		s.Tunnel = uint32(n)
	}
	if text := rfc2865.CallingStationID_GetString(p); text != "" {
		if s.Client, err = parseClient(text); err != nil {
			return s, invalid("Calling-Station-Id")
		}
	}
	if a, ok := p.Lookup(rfc6911.FramedIPv6Address_Type); ok {
		if s.Endpoint, err = parseAddr(a); err != nil {
			return s, invalid("Framed-IPv6-Address")
		}
	}
	for _, t := range []radius.Type{attrDelegatedPrefix, attrFramedIPv6Prefix} {
		a, ok := p.Lookup(t)
		if !ok {
			continue
		}
		prefix, err := parsePrefix(a)
		if err != nil {
			return s, invalid("prefix")
		}
		if t == attrFramedIPv6Prefix && prefix.Bits() == 128 {
			s.Endpoint = prefix.Addr()
		} else {
			s.Prefix = prefix
		}
	}
	if s == (Selector{}) {
		return s, fmt.Errorf("nothing names a session: %w", CauseMissingAttribute)
	}
	return s, nil
}

// parseClient reads an address with or without port.
func parseClient(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), 0), nil
	}
	return netip.ParseAddrPort(text)
}

// Attributes a request may carry (RFC 5176 section 3.6, what of it there is here). Those that name a NAS or a session:
var naming = []radius.Type{
	rfc2865.UserName_Type, rfc2865.NASIPAddress_Type, rfc2865.NASPort_Type, rfc2865.CallingStationID_Type, rfc2865.NASIdentifier_Type,
	rfc2866.AcctSessionID_Type, rfc2869.NASPortID_Type, rfc4372.ChargeableUserIdentity_Type, rfc3162.NASIPv6Address_Type,
	attrFramedIPv6Prefix, attrDelegatedPrefix, rfc6911.FramedIPv6Address_Type,
	attrProxyState, rfc2869.EventTimestamp_Type, attrMessageAuthenticator, rfc2865.ServiceType_Type,
}

// Those that a Disconnect-Request may have besides, and those that a CoA-Request may.
var (
	explaining = []radius.Type{rfc2865.ReplyMessage_Type, rfc2866.AcctTerminateCause_Type}
	changing   = []radius.Type{
		rfc2865.FilterID_Type, rfc2865.Class_Type, rfc2865.SessionTimeout_Type, rfc2865.IdleTimeout_Type, rfc2869.AcctInterimInterval_Type,
	}
)

// supported refuses a request with an attribute that would not be acted on, with Error-Cause 401 (RFC 5176 section 3.5), or with
// a Service-Type, which asks for a login of its own: Error-Cause 405.
func supported(p *radius.Packet) error {
	for _, avp := range p.Attributes {
		t := avp.Type
		var ok bool
		switch {
		case t == rfc2865.ServiceType_Type:
			return fmt.Errorf("Service-Type: %w", CauseUnsupportedService)
		case p.Code == radius.CodeDisconnectRequest:
			ok = slices.Contains(explaining, t)
		case t == attrVendorSpecific:
			ok = len(avp.Attribute) >= 4 && slices.Contains(rateVendors, binary.BigEndian.Uint32(avp.Attribute))
		default:
			ok = slices.Contains(changing, t)
		}
		if !ok && !slices.Contains(naming, t) {
			return fmt.Errorf("attribute %d: %w", t, CauseUnsupportedAttribute)
		}
	}
	return nil
}

// change reads what a CoA-Request sets. One that sets nothing known here gets Error-Cause 402.
func (d *DynamicServer) change(p *radius.Packet) (c Change, err error) {
	for _, f := range []struct {
		kind  radius.Type
		name  string
		field **time.Duration
	}{
		{rfc2865.SessionTimeout_Type, "Session-Timeout", &c.SessionTimeout},
		{rfc2865.IdleTimeout_Type, "Idle-Timeout", &c.IdleTimeout},
		{rfc2869.AcctInterimInterval_Type, "Acct-Interim-Interval", &c.InterimInterval},
	} {
		a, ok := p.Lookup(f.kind)
		if !ok {
			continue
		}
		n, err := radius.Integer(a)
		if err != nil {
			return c, fmt.Errorf("%s: %w", f.name, CauseInvalidValue)
		}
		seconds := time.Duration(n) * time.Second
		*f.field = &seconds
	}
	if c.InterimInterval != nil && *c.InterimInterval > 0 {
		*c.InterimInterval = max(*c.InterimInterval, minInterim)
	}
	if err := d.changeRate(p, &c); err != nil {
		return c, err
	}
	for _, class := range values(p, rfc2865.Class_Type) {
		c.Class = append(c.Class, class)
	}
	if c.Rate == nil && c.SessionTimeout == nil && c.IdleTimeout == nil && c.InterimInterval == nil && c.Class == nil {
		return c, fmt.Errorf("nothing to change: %w", CauseMissingAttribute)
	}
	return c, nil
}

// changeRate reads a rate. A Filter-Id or a vendor's attribute that tells none gets Error-Cause 407.
func (d *DynamicServer) changeRate(p *radius.Packet, c *Change) error {
	filter, named := p.Lookup(rfc2865.FilterID_Type)
	_, vendor := p.Lookup(attrVendorSpecific)
	if !named && !vendor {
		return nil
	}
	r, ok := rate(p, d.o.Rates, d.o.Plans)
	if !ok {
		return fmt.Errorf("no rate in the attributes for rates: %w", CauseInvalidValue)
	}
	c.Rate = &r
	if named {
		text := string(filter)
		c.Filter = &text
	}
	return nil
}
