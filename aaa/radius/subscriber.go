// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
	"layeh.com/radius/rfc4372"
	"layeh.com/radius/rfc6911"

	"ddtb/aaa"
)

const minInterim = time.Minute // RFC 2869 section 5.16: less SHOULD NOT be used

// subscriber reads the authorisation in an Access-Accept. name is what the client called itself; the server may rename him.
// Attributes nobody here knows are passed over; one that is malformed is an error, since what is granted is then unknown.
func subscriber(accept *radius.Packet, name string, sources []RateSource, plans aaa.Plans) (aaa.Subscriber, error) {
	s := aaa.Subscriber{Name: name, Authentic: aaa.AuthenticRADIUS}
	if user := rfc2865.UserName_GetString(accept); user != "" {
		s.Name = user
	}
	for _, class := range values(accept, rfc2865.Class_Type) {
		s.Class = append(s.Class, class)
	}
	if a, ok := accept.Lookup(rfc4372.ChargeableUserIdentity_Type); ok {
		s.CUI = a
	}
	s.Filter = rfc2865.FilterID_GetString(accept)
	s.Rate, _ = rate(accept, sources, plans)
	s.Message = replyMessage(accept)
	err := errors.Join(limits(accept, &s), addresses(accept, &s), routes(accept, &s))
	return s, err
}

// limits reads what bounds a session.
func limits(p *radius.Packet, s *aaa.Subscriber) error {
	var errs []error
	number := func(t radius.Type, name string) uint32 {
		a, ok := p.Lookup(t)
		if !ok {
			return 0
		}
		n, err := radius.Integer(a)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return n
	}
	seconds := func(t radius.Type, name string) time.Duration {
		return time.Duration(number(t, name)) * time.Second
	}
	s.SessionTimeout = seconds(rfc2865.SessionTimeout_Type, "Session-Timeout")
	s.IdleTimeout = seconds(rfc2865.IdleTimeout_Type, "Idle-Timeout")
	if interim := seconds(rfc2869.AcctInterimInterval_Type, "Acct-Interim-Interval"); interim > 0 {
		s.InterimInterval = max(interim, minInterim)
	}
	s.SessionLimit = int(number(rfc2865.PortLimit_Type, "Port-Limit"))
	action := rfc2865.TerminationAction(number(rfc2865.TerminationAction_Type, "Termination-Action"))
	if action == rfc2865.TerminationAction_Value_RADIUSRequest {
		s.Reauthorize = p.Get(rfc2865.State_Type) // without State nothing can be asked (RFC 5080 section 2.1.1): the session ends
	}
	return errors.Join(errs...)
}

// addresses reads the static endpoint, the static prefix and the pool.
//
// Framed-IPv6-Address is the endpoint. Without it Framed-IPv6-Prefix is: a /128 as it stands, a shorter one with
// Framed-Interface-Id, or with 2 (1 is by custom the operator's end). The first Delegated-IPv6-Prefix is the prefix; further ones
// (RFC 4818 section 3) are routed to him besides. A pool is named by
// Delegated-IPv6-Prefix-Pool or Framed-IPv6-Pool or Stateful-IPv6-Address-Pool: here one pool gives both.
func addresses(p *radius.Packet, s *aaa.Subscriber) error {
	for _, t := range []radius.Type{rfc6911.DelegatedIPv6PrefixPool_Type, rfc3162.FramedIPv6Pool_Type, rfc6911.StatefulIPv6AddressPool_Type} {
		if pool := string(p.Get(t)); pool != "" {
			s.Pool = pool
			break
		}
	}
	for i, a := range values(p, attrDelegatedPrefix) {
		prefix, err := parsePrefix(a)
		if err != nil {
			return fmt.Errorf("Delegated-IPv6-Prefix: %w", err)
		}
		if i == 0 {
			s.Prefix = prefix
		} else {
			s.Routes = append(s.Routes, aaa.Route{Prefix: prefix, Delegated: true})
		}
	}
	if a, ok := p.Lookup(rfc6911.FramedIPv6Address_Type); ok {
		addr, err := parseAddr(a)
		if err != nil {
			return fmt.Errorf("Framed-IPv6-Address: %w", err)
		}
		s.Endpoint = addr
		return nil
	}
	a, ok := p.Lookup(attrFramedIPv6Prefix)
	if !ok {
		return nil
	}
	prefix, err := parsePrefix(a)
	if err != nil {
		return fmt.Errorf("Framed-IPv6-Prefix: %w", err)
	}
	s.Endpoint, err = withInterface(prefix, p.Get(rfc3162.FramedInterfaceID_Type))
	return err
}

// withInterface joins a prefix and an interface identifier; nil is 2.
func withInterface(prefix netip.Prefix, id radius.Attribute) (netip.Addr, error) {
	if prefix.Bits() == 128 {
		return prefix.Addr(), nil
	}
	if prefix.Bits() > 64 {
		return netip.Addr{}, fmt.Errorf("%w: Framed-IPv6-Prefix %v: expected /64 or shorter, or /128", errAttribute, prefix)
	}
	b := prefix.Addr().As16()
	switch len(id) {
	case 0:
		b[15] = 2
	case 8:
		copy(b[8:], id)
	default:
		return netip.Addr{}, fmt.Errorf("%w: Framed-Interface-Id of %d octets", errAttribute, len(id))
	}
	return netip.AddrFrom16(b), nil
}

func routes(p *radius.Packet, s *aaa.Subscriber) error {
	for _, a := range values(p, attrFramedIPv6Route) {
		r, err := aaa.ParseRoute(string(a))
		if err != nil {
			return fmt.Errorf("Framed-IPv6-Route: %w: %w", errAttribute, err)
		}
		s.Routes = append(s.Routes, r)
	}
	return nil
}

// replyMessage joins the Reply-Message attributes (RFC 2865 section 5.18).
func replyMessage(p *radius.Packet) string {
	var b strings.Builder
	for _, a := range values(p, rfc2865.ReplyMessage_Type) {
		b.Write(a)
	}
	return strings.ToValidUTF8(b.String(), "?")
}
