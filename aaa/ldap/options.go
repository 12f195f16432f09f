// SPDX-License-Identifier: GPL-2.0-or-later

package ldap

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	ldapv3 "github.com/go-ldap/ldap/v3"

	"ddtb/aaa"
)

// Options of an Authenticator. Zero fields mean the default named.
type Options struct {
	URLs     []string    // "ldap://host", "ldaps://host:636", asked in this order
	StartTLS bool        // on ldap:// URLs (RFC 4511 section 4.14)
	TLS      *tls.Config // roots, client certificate, name; nil: the system's roots and the URL's host
	BindDN   string      // service account; "" searches anonymously
	Password string

	Base   string // where subscribers lie
	Filter string // {user} is the name given, escaped; "": "(uid={user})". Active Directory: "(sAMAccountName={user})"
	Scope  Scope

	GroupDN     string // not "": only its members may have a tunnel
	GroupFilter string // searched below Base with {dn} and {user}; "": memberOf of the entry must hold GroupDN

	Map   Map
	Plans aaa.Plans // rates by the name that Map.Filter gives

	Timeout     time.Duration // of one operation and of a dial; 0: 5 s
	Dead        time.Duration // a server that failed is passed over for so long; 0: 30 s
	Searchers   int           // connections a server for searches; 0: 4
	Binders     int           // connections a server for binds; 0: 16
	ReadSecrets bool          // Map.Password or Map.HA1 can be read: offer DIGEST-MD5, and CRAM-MD5 if Map.Password is set
}

// Scope of the search for a subscriber.
type Scope string

// The scopes of RFC 4511 section 4.5.1.2; "" is ScopeSub.
const (
	ScopeSub Scope = "sub"
	ScopeOne Scope = "one"
)

// Map names the directory's attributes. The first that an entry has counts; nil fields take the default.
type Map struct {
	Name            []string // the stable name: a directory compares without case, leases do not; default: uid, sAMAccountName
	Pool            []string // default: radiusFramedIPv6Pool
	Prefix          []string // default: radiusDelegatedIPv6Prefix, msRADIUS-FramedIpv6Prefix
	Endpoint        []string // default: radiusFramedIPv6Address
	SessionLimit    []string // default: radiusPortLimit
	SessionTimeout  []string // seconds; default: radiusSessionTimeout
	IdleTimeout     []string // seconds; default: radiusIdleTimeout
	InterimInterval []string // seconds; default: radiusAcctInterimInterval
	Class           []string // default: radiusClass
	Filter          []string // default: radiusFilterId
	Rate            []string // "down/up" in kbit/s or with K, M, G; default: none
	Routes          []string // default: radiusFramedIPv6Route, msRADIUS-FramedIpv6Route
	Reply           []string // "Attribute := value" lines; default: radiusReplyAttribute
	Profile         []string // DN of an entry that gives what the subscriber's own does not; default: radiusProfileDN
	Disabled        []string // true, or bit 2 set (userAccountControl), refuses; default: none
	Enabled         []string // must be there and not false; default: none. FreeRADIUS: dialupAccess
	Password        []string // clear password, or {CLEARTEXT}...; default: userPassword
	HA1             []string // "realm hex", MD5(user:realm:password); default: ddtbDigestHA1
}

// DefaultMap is the Map with every default.
func DefaultMap() Map { return Map{}.withDefaults() }

// withDefaults fills what is empty.
func (m Map) withDefaults() Map {
	for _, d := range []struct {
		field *[]string
		names string
	}{
		{&m.Name, "uid sAMAccountName"}, {&m.Pool, "radiusFramedIPv6Pool"}, {&m.Prefix, "radiusDelegatedIPv6Prefix msRADIUS-FramedIpv6Prefix"},
		{&m.Endpoint, "radiusFramedIPv6Address"}, {&m.SessionLimit, "radiusPortLimit"},
		{&m.SessionTimeout, "radiusSessionTimeout"}, {&m.IdleTimeout, "radiusIdleTimeout"},
		{&m.InterimInterval, "radiusAcctInterimInterval"}, {&m.Class, "radiusClass"}, {&m.Filter, "radiusFilterId"},
		{&m.Routes, "radiusFramedIPv6Route msRADIUS-FramedIpv6Route"}, {&m.Reply, "radiusReplyAttribute"},
		{&m.Profile, "radiusProfileDN"}, {&m.Password, "userPassword"}, {&m.HA1, "ddtbDigestHA1"},
	} {
		if *d.field == nil {
			*d.field = strings.Fields(d.names)
		}
	}
	return m
}

func (o Options) withDefaults() Options {
	if o.Filter == "" {
		o.Filter = "(uid={user})"
	}
	if o.Scope == "" {
		o.Scope = ScopeSub
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.Timeout, 5 * time.Second}, {&o.Dead, 30 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Searchers == 0 {
		o.Searchers = 4
	}
	if o.Binders == 0 {
		o.Binders = 16
	}
	o.Map = o.Map.withDefaults()
	return o
}

// Validate says everything that is wrong with o, each error beginning with the key it is about.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if len(o.URLs) == 0 {
		errs = append(errs, errors.New("urls: expected at least one ldap:// or ldaps:// URL"))
	}
	for _, text := range o.URLs {
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "ldap" && u.Scheme != "ldaps") || u.Host == "" {
			errs = append(errs, fmt.Errorf("urls: %q: expected ldap://host[:port] or ldaps://host[:port]", text))
		} else if u.Scheme == "ldaps" && o.StartTLS {
			errs = append(errs, fmt.Errorf("start_tls: %q is encrypted from the start: use ldap://", text))
		}
	}
	if o.Base == "" {
		errs = append(errs, errors.New("base: expected the DN under which subscribers lie"))
	} else if _, err := ldapv3.ParseDN(o.Base); err != nil {
		errs = append(errs, fmt.Errorf("base: %q: %w", o.Base, err))
	}
	if !strings.Contains(o.Filter, "{user}") {
		errs = append(errs, fmt.Errorf("filter: %q: expected {user} in it", o.Filter))
	} else if _, err := ldapv3.CompileFilter(strings.ReplaceAll(o.Filter, "{user}", "x")); err != nil {
		errs = append(errs, fmt.Errorf("filter: %q: %w", o.Filter, err))
	}
	if o.GroupFilter != "" {
		if _, err := ldapv3.CompileFilter(expand(o.GroupFilter, "x", "cn=x")); err != nil {
			errs = append(errs, fmt.Errorf("group_filter: %q: %w", o.GroupFilter, err))
		}
	}
	if o.Scope != ScopeSub && o.Scope != ScopeOne {
		errs = append(errs, fmt.Errorf(`scope: %q: expected "sub" or "one"`, o.Scope))
	}
	if o.BindDN != "" && o.Password == "" {
		errs = append(errs, errors.New("password: expected the service account's; a bind without one is anonymous (RFC 4513 section 5.1.2)"))
	}
	if o.Searchers < 1 || o.Searchers > 256 || o.Binders < 1 || o.Binders > 1024 {
		errs = append(errs, errors.New("searchers, binders: expected 1 to 256 and 1 to 1024"))
	}
	return errors.Join(errs...)
}

// expand fills in a filter, escaping what the subscriber sent and what the directory returned.
func expand(filter, user, dn string) string {
	return strings.NewReplacer("{user}", ldapv3.EscapeFilter(user), "{dn}", ldapv3.EscapeFilter(dn)).Replace(filter)
}
