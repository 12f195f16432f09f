// SPDX-License-Identifier: GPL-2.0-or-later

package ldap

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	ldapv3 "github.com/go-ldap/ldap/v3"

	"ddtb/aaa"
)

// Authenticator implements aaa.Authenticator.
type Authenticator struct {
	o   Options
	dir directory
}

// New makes an Authenticator; nothing is opened before the first login. The error is that of o.Validate.
func New(o Options) (*Authenticator, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	a := &Authenticator{o: o.withDefaults()}
	a.dir.dead = a.o.Dead
	for _, u := range a.o.URLs {
		a.dir.servers = append(a.dir.servers, newServer(u, a.o))
	}
	return a, nil
}

// Close ends all connections; logins under way fail.
func (a *Authenticator) Close() error {
	for _, s := range a.dir.servers {
		s.close()
	}
	return nil
}

// Mechanisms implements aaa.Authenticator.
func (a *Authenticator) Mechanisms() []aaa.Mechanism {
	if !a.o.ReadSecrets {
		return []aaa.Mechanism{aaa.MechanismPlain}
	}
	if len(a.o.Map.Password) == 0 {
		return []aaa.Mechanism{aaa.MechanismDigestMD5, aaa.MechanismPlain}
	}
	return []aaa.Mechanism{aaa.MechanismDigestMD5, aaa.MechanismCramMD5, aaa.MechanismPlain}
}

// Authenticate implements aaa.Authenticator.
func (a *Authenticator) Authenticate(ctx context.Context, login aaa.Login) (aaa.Subscriber, error) {
	user := aaa.ToUTF8(login.Credential.User())
	s, err := a.authenticate(ctx, login, user)
	if err != nil {
		return aaa.Subscriber{}, fmt.Errorf("ldap: %q: %w", user, err)
	}
	return s, nil
}

func (a *Authenticator) authenticate(ctx context.Context, login aaa.Login, user string) (aaa.Subscriber, error) {
	if user == "" {
		return aaa.Subscriber{}, fmt.Errorf("%w: no name", aaa.ErrUnknown)
	}
	if p, ok := login.Credential.(aaa.Password); ok && p.Password == "" {
		// A bind with a name and no password succeeds anonymously (RFC 4513 section 5.1.2).
		return aaa.Subscriber{}, fmt.Errorf("%w: empty password", aaa.ErrRejected)
	}
	_, plain := login.Credential.(aaa.Password)
	entry, err := a.find(ctx, user, !plain)
	if err != nil {
		return aaa.Subscriber{}, err
	}
	proof, err := a.verify(ctx, entry, login.Credential)
	if err != nil {
		return aaa.Subscriber{}, err
	}
	// Only who has proved to be the subscriber learns, by what happens, that he is disabled or not entitled.
	if err := a.o.Map.allowed(entry); err != nil {
		return aaa.Subscriber{}, fmt.Errorf("%w: %w", aaa.ErrRejected, err)
	}
	if err := a.entitled(ctx, entry, user); err != nil {
		return aaa.Subscriber{}, err
	}
	s, err := a.subscriber(ctx, entry, user)
	s.ResponseAuth = proof
	return s, err
}

// find returns the one entry of user, with its secrets or without. Two is one too many to choose from.
func (a *Authenticator) find(ctx context.Context, user string, secrets bool) (*ldapv3.Entry, error) {
	scope := ldapv3.ScopeWholeSubtree
	if a.o.Scope == ScopeOne {
		scope = ldapv3.ScopeSingleLevel
	}
	const enough = 2
	entries, err := a.dir.search(ctx, ldapv3.NewSearchRequest(a.o.Base, scope, ldapv3.NeverDerefAliases, enough,
		int(a.o.Timeout.Seconds()), false, expand(a.o.Filter, user, ""), a.o.attributes(secrets), nil))
	switch {
	case ldapv3.IsErrorWithCode(errors.Unwrap(err), ldapv3.LDAPResultSizeLimitExceeded), err == nil && len(entries) > 1:
		return nil, fmt.Errorf("%w: more than one entry matches", aaa.ErrRejected)
	case errors.Is(err, aaa.ErrUnavailable):
		return nil, err
	case errors.Is(err, errAbsent):
		return nil, fmt.Errorf("%w: there is no base %q, or the searching account may not see it", aaa.ErrUnavailable, a.o.Base)
	case err != nil:
		return nil, fmt.Errorf("%w: search: %w", aaa.ErrUnavailable, err)
	case len(entries) == 0:
		return nil, aaa.ErrUnknown
	}
	return entries[0], nil
}

// verify checks the credential against the entry, and gives the proof DIGEST-MD5 wants.
func (a *Authenticator) verify(ctx context.Context, e *ldapv3.Entry, credential aaa.Credential) (proof string, err error) {
	ok := false
	switch c := credential.(type) {
	case aaa.Password:
		return "", a.dir.bind(ctx, e.DN, c.Password)
	case aaa.Digest:
		for _, ha1 := range a.ha1s(e, c) {
			if proof, ok = c.Verify(ha1); ok {
				return proof, nil
			}
		}
	case aaa.Cram:
		for _, password := range a.passwords(e) {
			ok = ok || c.Verify(aaa.NewCramKey(password))
		}
	}
	if !ok {
		return "", fmt.Errorf("%w: wrong response, or the entry has nothing to verify %s with", aaa.ErrRejected, credential.Mechanism())
	}
	return "", nil
}

// passwords returns the clear passwords of an entry; hashed ones are of no use here.
func (a *Authenticator) passwords(e *ldapv3.Entry) []string {
	if !a.o.ReadSecrets {
		return nil
	}
	var out []string
	for _, value := range all(e, a.o.Map.Password) {
		if value != "" && value[0] == '{' {
			scheme, rest, _ := strings.Cut(value[1:], "}")
			if !strings.EqualFold(scheme, "CLEARTEXT") && !strings.EqualFold(scheme, "CLEAR") && !strings.EqualFold(scheme, "PLAIN") {
				continue
			}
			value = rest
		}
		if value != "" {
			out = append(out, value)
		}
	}
	return out
}

// ha1s returns what a response can be verified with.
func (a *Authenticator) ha1s(e *ldapv3.Entry, c aaa.Digest) []aaa.HA1 {
	var out []aaa.HA1
	for _, password := range a.passwords(e) {
		out = append(out, aaa.NewHA1(c.Username, c.Realm, password), aaa.NewRawHA1(c.Username, c.Realm, password))
	}
	if !a.o.ReadSecrets {
		return out
	}
	for _, value := range all(e, a.o.Map.HA1) {
		i := strings.LastIndexByte(value, ' ')
		if i < 0 || value[:i] != c.Realm {
			continue
		}
		if raw, err := hex.DecodeString(value[i+1:]); err == nil && len(raw) == len(aaa.HA1{}) {
			out = append(out, aaa.HA1(raw))
		}
	}
	return out
}

// entitled applies GroupDN.
func (a *Authenticator) entitled(ctx context.Context, e *ldapv3.Entry, user string) error {
	if a.o.GroupDN == "" {
		return nil
	}
	if a.o.GroupFilter == "" {
		if slices.ContainsFunc(e.GetEqualFoldAttributeValues("memberOf"), func(dn string) bool { return sameDN(dn, a.o.GroupDN) }) {
			return nil
		}
		return fmt.Errorf("%w: not a member of %q", aaa.ErrRejected, a.o.GroupDN)
	}
	matches := func(filter string) (bool, error) {
		entries, err := a.dir.search(ctx, ldapv3.NewSearchRequest(a.o.GroupDN, ldapv3.ScopeBaseObject, ldapv3.NeverDerefAliases, 1,
			int(a.o.Timeout.Seconds()), false, filter, []string{"1.1"}, nil))
		if errors.Is(err, errAbsent) {
			err = nil
		}
		return len(entries) > 0, err
	}
	if member, err := matches(expand(a.o.GroupFilter, user, e.DN)); member || err != nil {
		return err
	}
	// A group that is not to be seen has no members either, which is no fault of theirs.
	if there, err := matches("(objectClass=*)"); !there && err == nil {
		return fmt.Errorf("%w: there is no group %q, or the searching account may not see it", aaa.ErrUnavailable, a.o.GroupDN)
	} else if err != nil {
		return err
	}
	return fmt.Errorf("%w: not a member of %q", aaa.ErrRejected, a.o.GroupDN)
}

func sameDN(a, b string) bool {
	x, errX := ldapv3.ParseDN(a)
	y, errY := ldapv3.ParseDN(b)
	return errX == nil && errY == nil && x.EqualFold(y)
}

// subscriber reads the entry and, before it, the profile it names. What cannot be read is an error: a prefix passed over
// would be the wrong prefix.
func (a *Authenticator) subscriber(ctx context.Context, e *ldapv3.Entry, user string) (aaa.Subscriber, error) {
	var g grant
	if dn := first(e, a.o.Map.Profile); dn != "" {
		entries, err := a.dir.search(ctx, ldapv3.NewSearchRequest(dn, ldapv3.ScopeBaseObject, ldapv3.NeverDerefAliases, 1,
			int(a.o.Timeout.Seconds()), false, "(objectClass=*)", a.o.attributes(false), nil))
		if err != nil && !errors.Is(err, errAbsent) {
			return aaa.Subscriber{}, fmt.Errorf("profile %q: %w", dn, err)
		}
		if len(entries) == 0 {
			return aaa.Subscriber{}, fmt.Errorf("%w: there is no profile %q", aaa.ErrUnavailable, dn)
		}
		g.read(entries[0], a.o.Map)
	}
	g.read(e, a.o.Map)
	if err := errors.Join(g.errs...); err != nil {
		return aaa.Subscriber{}, fmt.Errorf("%w: entry %q: %w", aaa.ErrUnavailable, e.DN, err)
	}
	if rate, ok := a.o.Plans.Rate(g.s.Filter); ok && g.s.Rate == (aaa.Rate{}) {
		g.s.Rate = rate
	}
	g.s.Name, g.s.Backend, g.s.Authentic = user, "ldap", aaa.AuthenticRemote
	if name := first(e, a.o.Map.Name); name != "" {
		g.s.Name = name
	}
	return g.s, nil
}
