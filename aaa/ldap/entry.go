// SPDX-License-Identifier: GPL-2.0-or-later

package ldap

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	ldapv3 "github.com/go-ldap/ldap/v3"

	"ddtb/aaa"
)

// attributes is every name a search has to ask for, with those of what verifies a response only where there is one: what is not
// asked for lies in no memory and goes over no wire. memberOf, which can be long, is operational: it comes only when asked for by name.
func (o Options) attributes(secrets bool) []string {
	m := o.Map
	var names []string
	if o.GroupDN != "" && o.GroupFilter == "" {
		names = append(names, "memberOf")
	}
	for _, list := range [][]string{m.Name, m.Pool, m.Prefix, m.Endpoint, m.SessionLimit, m.SessionTimeout, m.IdleTimeout,
		m.InterimInterval, m.Class, m.Filter, m.Rate, m.Routes, m.Reply, m.Profile, m.Disabled, m.Enabled} {
		names = append(names, list...)
	}
	if secrets && o.ReadSecrets {
		names = append(append(names, m.Password...), m.HA1...)
	}
	if len(names) == 0 {
		return []string{"1.1"} // none at all, where an empty list asks for everything (RFC 4511 section 4.5.1.8)
	}
	return names
}

// all returns the values of the first attribute of names that e has.
func all(e *ldapv3.Entry, names []string) []string {
	for _, name := range names {
		if values := e.GetEqualFoldAttributeValues(name); len(values) > 0 {
			return values
		}
	}
	return nil
}

// first returns the first of them, "" if there is none.
func first(e *ldapv3.Entry, names []string) string {
	if values := all(e, names); len(values) > 0 {
		return strings.TrimSpace(values[0])
	}
	return ""
}

// grant collects what an entry gives. Entries are read in the order profile, subscriber, so that the subscriber's own win.
type grant struct {
	s    aaa.Subscriber
	errs []error
}

func (g *grant) read(e *ldapv3.Entry, m Map) {
	for _, line := range all(e, m.Reply) {
		g.reply(line)
	}
	for _, f := range []struct {
		names []string
		name  string
	}{
		{m.Pool, "Framed-IPv6-Pool"}, {m.Endpoint, "Framed-IPv6-Address"},
		{m.SessionLimit, "Port-Limit"}, {m.SessionTimeout, "Session-Timeout"}, {m.IdleTimeout, "Idle-Timeout"},
		{m.InterimInterval, "Acct-Interim-Interval"}, {m.Filter, "Filter-Id"}, {m.Rate, "rate"},
	} {
		if value := first(e, f.names); value != "" {
			g.set(f.name, value)
		}
	}
	g.prefixes(all(e, m.Prefix))
	for _, f := range []struct {
		names []string
		name  string
	}{{m.Class, "Class"}, {m.Routes, "Framed-IPv6-Route"}} {
		for _, value := range all(e, f.names) {
			g.set(f.name, value)
		}
	}
}

// reply reads one line of radiusReplyAttribute: a RADIUS attribute, an operator of FreeRADIUS's users file, a value.
func (g *grant) reply(line string) {
	name, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
	operator, value, ok2 := strings.Cut(strings.TrimSpace(rest), " ")
	if !ok || !ok2 || !strings.Contains(" = := += ", " "+operator+" ") {
		g.errs = append(g.errs, fmt.Errorf("reply attribute %q: expected \"Name := value\"", line))
		return
	}
	value = strings.TrimSpace(value)
	if quoted, err := strconv.Unquote(value); err == nil {
		value = quoted
	} else if len(value) >= 2 && value[0] == '\'' && value[len(value)-1] == '\'' {
		value = value[1 : len(value)-1]
	}
	if operator == "+=" && strings.EqualFold(name, "Delegated-IPv6-Prefix") && g.s.Prefix.IsValid() {
		g.further(value)
		return
	}
	g.set(name, value)
}

// prefixes gives the subscriber those of an attribute. A directory keeps no order: the lowest is the delegated prefix of which
// the client is told, the others are further ones.
func (g *grant) prefixes(values []string) {
	sorted := slices.SortedFunc(slices.Values(values), func(a, b string) int {
		p, _ := netip.ParsePrefix(a)
		q, _ := netip.ParsePrefix(b)
		return p.Compare(q)
	})
	for i, value := range sorted {
		if value = strings.TrimSpace(value); i == 0 {
			g.set("Delegated-IPv6-Prefix", value)
		} else {
			g.further(value)
		}
	}
}

// further delegates a prefix beside the first one.
func (g *grant) further(value string) {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		g.errs = append(g.errs, fmt.Errorf("Delegated-IPv6-Prefix %q: %w", value, err))
		return
	}
	g.s.Routes = append(g.s.Routes, aaa.Route{Prefix: prefix.Masked(), Delegated: true})
}

// set gives the subscriber what a RADIUS attribute of this name would; names not known here change nothing.
func (g *grant) set(name, value string) {
	var err error
	s := &g.s
	switch strings.ToLower(name) {
	case "framed-ipv6-pool", "delegated-ipv6-prefix-pool", "stateful-ipv6-address-pool":
		s.Pool = value
	case "delegated-ipv6-prefix":
		var prefix netip.Prefix
		prefix, err = netip.ParsePrefix(value)
		s.Prefix = prefix.Masked()
	case "framed-ipv6-address":
		s.Endpoint, err = netip.ParseAddr(strings.TrimSuffix(value, "/128"))
	case "port-limit":
		s.SessionLimit, err = strconv.Atoi(value)
	case "session-timeout":
		s.SessionTimeout, err = seconds(value)
	case "idle-timeout":
		s.IdleTimeout, err = seconds(value)
	case "acct-interim-interval":
		s.InterimInterval, err = seconds(value)
		if s.InterimInterval > 0 {
			s.InterimInterval = max(s.InterimInterval, time.Minute)
		}
	case "class":
		s.Class = append(s.Class, []byte(value))
	case "filter-id":
		s.Filter = value
	case "rate":
		if down, up, ok := aaa.ParseRatePair(value, 1000); ok {
			s.Rate = aaa.Rate{Up: up, Down: down}
		} else {
			err = errors.New(`expected "down/up"`)
		}
	case "framed-ipv6-route":
		var route aaa.Route
		if route, err = aaa.ParseRoute(value); err == nil {
			s.Routes = append(s.Routes, route)
		}
	}
	if err != nil {
		g.errs = append(g.errs, fmt.Errorf("%s %q: %w", name, value, err))
	}
}

func seconds(text string) (time.Duration, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return time.Duration(n) * time.Second, err
}

// allowed applies Disabled and Enabled.
func (m Map) allowed(e *ldapv3.Entry) error {
	if text := first(e, m.Disabled); text != "" {
		const accountDisable = 2 // userAccountControl of Active Directory
		n, err := strconv.ParseInt(text, 10, 64)
		if isTrue(text) || err == nil && n != 1 && n&accountDisable != 0 || err == nil && n == 1 {
			return errors.New("the account is disabled")
		}
	}
	if m.Enabled != nil {
		if text := first(e, m.Enabled); text == "" || isFalse(text) {
			return errors.New("the account is not enabled")
		}
	}
	return nil
}

func isTrue(text string) bool {
	return strings.EqualFold(text, "true") || strings.EqualFold(text, "yes")
}
func isFalse(text string) bool {
	return strings.EqualFold(text, "false") || strings.EqualFold(text, "no")
}
