// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
	"layeh.com/radius/rfc4372"
	"layeh.com/radius/rfc6911"

	"ddtb/aaa"
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

// change reads what a CoA-Request sets. One that sets nothing known here gets Error-Cause 402.
func (d *DynamicServer) change(p *radius.Packet) (c Change, err error) {
	duration := func(t radius.Type, name string) (*time.Duration, error) {
		a, ok := p.Lookup(t)
		if !ok {
			return nil, nil
		}
		n, err := radius.Integer(a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, CauseInvalidValue)
		}
		seconds := time.Duration(n) * time.Second
		return &seconds, nil
	}
	if c.SessionTimeout, err = duration(rfc2865.SessionTimeout_Type, "Session-Timeout"); err != nil {
		return c, err
	}
	if c.IdleTimeout, err = duration(rfc2865.IdleTimeout_Type, "Idle-Timeout"); err != nil {
		return c, err
	}
	if c.InterimInterval, err = duration(rfc2869.AcctInterimInterval_Type, "Acct-Interim-Interval"); err != nil {
		return c, err
	}
	if c.InterimInterval != nil && *c.InterimInterval > 0 {
		*c.InterimInterval = max(*c.InterimInterval, minInterim)
	}
	if r := rate(p, d.o.Rates, d.o.Plans); r != (aaa.Rate{}) {
		c.Rate = &r
	}
	for _, class := range values(p, rfc2865.Class_Type) {
		c.Class = append(c.Class, class)
	}
	if c.Rate == nil && c.SessionTimeout == nil && c.IdleTimeout == nil && c.InterimInterval == nil && c.Class == nil {
		return c, fmt.Errorf("nothing to change: %w", CauseMissingAttribute)
	}
	return c, nil
}

// requestKey tells a retransmission from a new request (RFC 5176 section 2.3).
type requestKey struct {
	from          netip.AddrPort
	id            byte
	authenticator [16]byte
}

const (
	cacheSize = 4096
	cacheTime = time.Minute
)

// replyCache remembers the requests of the last minute and what they were answered.
type replyCache struct {
	mu      sync.Mutex
	entries map[requestKey][]byte // nil while it is being acted on
	order   []cached              // oldest first
}

type cached struct {
	key  requestKey
	time time.Time
}

// begin tells whether the request is known, and its reply if there is one already; an unknown one is noted.
func (c *replyCache) begin(key requestKey, now time.Time) (reply []byte, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.order) > 0 && (len(c.order) >= cacheSize || now.Sub(c.order[0].time) > cacheTime) {
		delete(c.entries, c.order[0].key)
		c.order = c.order[1:]
	}
	if reply, known = c.entries[key]; known {
		return reply, true
	}
	c.entries[key] = nil
	c.order = append(c.order, cached{key, now})
	return nil, false
}

func (c *replyCache) end(key requestKey, reply []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; ok {
		c.entries[key] = reply
	}
}

// forget lets the same request be tried again.
func (c *replyCache) forget(key requestKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}
