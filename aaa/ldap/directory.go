// SPDX-License-Identifier: GPL-2.0-or-later

package ldap

import (
	"context"
	"errors"
	"fmt"
	"time"

	ldapv3 "github.com/go-ldap/ldap/v3"

	"ddtb/aaa"
)

// directory is an ordered set of servers that hold the same entries.
type directory struct {
	servers []*server
	dead    time.Duration
}

// ask runs op on the first server that can answer. Servers that failed lately come last.
func (d *directory) ask(ctx context.Context, op func(*server) error) error {
	now := time.Now()
	var order, dead []*server
	for _, s := range d.servers {
		if s.deadUntil.Load() > now.UnixNano() {
			dead = append(dead, s)
		} else {
			order = append(order, s)
		}
	}
	var failed []error
	for _, s := range append(order, dead...) {
		err := op(s)
		if !errors.Is(err, errServer) {
			s.deadUntil.Store(0)
			return err
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
		s.deadUntil.Store(time.Now().Add(d.dead).UnixNano())
	}
	return fmt.Errorf("%w: %w", aaa.ErrUnavailable, errors.Join(failed...))
}

// search returns the entries of one search.
func (d *directory) search(ctx context.Context, request *ldapv3.SearchRequest) (entries []*ldapv3.Entry, err error) {
	err = d.ask(ctx, func(s *server) error {
		entries, err = s.search(ctx, request)
		return err
	})
	return entries, err
}

// unverified are answers to a bind that looked at no password: it has to be encrypted, or done elsewhere or otherwise. That is for the
// operator to mend, and no subscriber is to be told that his password is wrong.
var unverified = []uint16{
	ldapv3.LDAPResultAuthMethodNotSupported, ldapv3.LDAPResultStrongAuthRequired, ldapv3.LDAPResultReferral,
	ldapv3.LDAPResultUnavailableCriticalExtension, ldapv3.LDAPResultConfidentialityRequired,
}

// bind verifies a password; aaa.ErrRejected if it is wrong or the directory refuses the account.
func (d *directory) bind(ctx context.Context, dn, password string) error {
	err := d.ask(ctx, func(s *server) error { return s.bind(ctx, dn, password) })
	switch {
	case err == nil || errors.Is(err, aaa.ErrUnavailable):
		return err
	case ldapv3.IsErrorAnyOf(err, unverified...):
		return fmt.Errorf("%w: bind as the subscriber: %w", aaa.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", aaa.ErrRejected, err)
}
