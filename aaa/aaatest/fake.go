// SPDX-License-Identifier: GPL-2.0-or-later

// Package aaatest holds what tests of and over aaa share: an Authenticator and an Accountant in memory, logins as clients
// make them, and the suite that every Authenticator passes.
package aaatest

import (
	"context"
	"crypto/subtle"
	"fmt"
	"sync"

	"ddtb/aaa"
)

// Account is a subscriber of Fake and of the suite.
type Account struct {
	Name     string
	Password string
	Disabled bool
	aaa.Subscriber
}

// Fake is an Authenticator in memory that verifies every mechanism with names. The zero value knows nobody.
type Fake struct {
	Realm   string                                 // of DIGEST-MD5
	Backend string                                 // put into Subscriber.Backend; "" stands for "fake"
	Before  func(context.Context, aaa.Login) error // if set: called first, an error is the answer

	mu       sync.Mutex
	accounts map[string]Account
}

// NewFake returns a Fake with accounts.
func NewFake(realm string, accounts ...Account) *Fake {
	f := &Fake{Realm: realm}
	f.Set(accounts...)
	return f
}

// Set adds accounts, or changes those of the same name.
func (f *Fake) Set(accounts ...Account) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.accounts == nil {
		f.accounts = make(map[string]Account)
	}
	for _, a := range accounts {
		f.accounts[a.Name] = a
	}
}

// Mechanisms implements aaa.Authenticator.
func (f *Fake) Mechanisms() []aaa.Mechanism {
	return []aaa.Mechanism{aaa.MechanismDigestMD5, aaa.MechanismCramMD5, aaa.MechanismPlain}
}

// Authenticate implements aaa.Authenticator.
func (f *Fake) Authenticate(ctx context.Context, login aaa.Login) (aaa.Subscriber, error) {
	if f.Before != nil {
		if err := f.Before(ctx, login); err != nil {
			return aaa.Subscriber{}, err
		}
	}
	if ctx.Err() != nil {
		return aaa.Subscriber{}, fmt.Errorf("fake: %w: %w", aaa.ErrUnavailable, ctx.Err())
	}
	name := aaa.Name(login.Credential)
	f.mu.Lock()
	account, ok := f.accounts[name]
	f.mu.Unlock()
	if !ok {
		return aaa.Subscriber{}, fmt.Errorf("fake: %q: %w", name, aaa.ErrUnknown)
	}
	proof, ok := f.verify(account, login.Credential)
	if !ok || account.Disabled {
		return aaa.Subscriber{}, fmt.Errorf("fake: %q: %w", name, aaa.ErrRejected)
	}
	s := account.Subscriber
	s.Name, s.Backend, s.Authentic, s.ResponseAuth = name, f.Backend, aaa.AuthenticLocal, proof
	if s.Backend == "" {
		s.Backend = "fake"
	}
	return s, nil
}

func (f *Fake) verify(account Account, credential aaa.Credential) (proof string, ok bool) {
	switch c := credential.(type) {
	case aaa.Password:
		return "", c.Password != "" && subtle.ConstantTimeCompare([]byte(c.Password), []byte(account.Password)) == 1
	case aaa.Digest:
		if c.Realm != f.Realm || c.AuthzID != "" && c.AuthzID != c.Username {
			return "", false
		}
		if proof, ok = c.Verify(aaa.NewHA1(account.Name, f.Realm, account.Password)); ok {
			return proof, true
		}
		return c.Verify(aaa.NewRawHA1(account.Name, f.Realm, account.Password))
	case aaa.Cram:
		return "", c.Verify(aaa.NewCramKey(account.Password))
	}
	return "", false
}
