// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"ddtb/aaa"
)

// Mechanisms implements aaa.Authenticator.
func (s *Store) Mechanisms() []aaa.Mechanism { return s.offers }

func (o Options) mechanisms() []aaa.Mechanism {
	var out []aaa.Mechanism
	if !o.NoDigest {
		out = append(out, aaa.MechanismDigestMD5)
	}
	if o.Cram {
		out = append(out, aaa.MechanismCramMD5)
	}
	return append(out, aaa.MechanismPlain)
}

// Authenticate implements aaa.Authenticator. Whatever a login fails of, the answer takes as long; see Limits.
func (s *Store) Authenticate(ctx context.Context, login aaa.Login) (aaa.Subscriber, error) {
	name := aaa.Name(login.Credential)
	subscriber, err := s.authenticate(ctx, name, login)
	if err != nil {
		return aaa.Subscriber{}, fmt.Errorf("local account %q: %w", name, err)
	}
	return subscriber, nil
}

func (s *Store) authenticate(ctx context.Context, name string, login aaa.Login) (aaa.Subscriber, error) {
	start := s.opts.Clock()
	if err := ctx.Err(); err != nil {
		return aaa.Subscriber{}, fmt.Errorf("%w: %w", aaa.ErrUnavailable, err)
	}
	if m := login.Credential.Mechanism(); !slices.Contains(s.Mechanisms(), m) {
		return aaa.Subscriber{}, fmt.Errorf("%s is not offered: %w", m, aaa.ErrRejected)
	}
	r, known := s.lookup(name)
	if !known && s.opts.Chained {
		return aaa.Subscriber{}, aaa.ErrUnknown
	}
	attempt := s.guard.attempt(name, login.Client.Addr(), login.Credential.Mechanism() != aaa.MechanismPlain)
	switch s.guard.admit(attempt) {
	case admitted:
	case refused:
		return aaa.Subscriber{}, aaa.ErrThrottled
	case slowed:
		if err := s.wait(ctx, s.guard.limits.Slow); err != nil {
			s.guard.aborted(attempt)
			return aaa.Subscriber{}, err
		}
	}
	if !known {
		r = s.decoy
	}
	proof, err := s.verify(ctx, r, login.Credential)
	if err == nil {
		err = usable(r.Account, s.opts.Clock())
	}
	if !known && errors.Is(err, aaa.ErrRejected) {
		err = aaa.ErrUnknown
	}
	switch {
	case err == nil:
		s.guard.succeeded(attempt)
		subscriber := r.subscriber(s.opts.Clock())
		subscriber.ResponseAuth = proof
		return subscriber, nil
	case errors.Is(err, aaa.ErrUnavailable):
		s.guard.aborted(attempt)
		return aaa.Subscriber{}, err
	}
	s.guard.failed(attempt)
	if waitErr := s.wait(ctx, s.guard.limits.Failure-s.opts.Clock().Sub(start)); waitErr != nil {
		return aaa.Subscriber{}, waitErr
	}
	return aaa.Subscriber{}, err
}

// verify checks a credential against an account's hashes. proof is the rspauth of a Digest.
func (s *Store) verify(ctx context.Context, r record, credential aaa.Credential) (proof string, err error) {
	switch c := credential.(type) {
	case aaa.Password:
		return "", s.verifyPassword(ctx, r, aaa.ToUTF8(c.Password))
	case aaa.Digest:
		return s.verifyDigest(r, c)
	case aaa.Cram:
		if !r.is(hasCram) {
			return "", fmt.Errorf("no key of CRAM-MD5 is kept: %w", aaa.ErrRejected)
		}
		if !c.Verify(r.cram) {
			return "", fmt.Errorf("wrong password: %w", aaa.ErrRejected)
		}
		return "", nil
	}
	return "", fmt.Errorf("%s: %w", credential.Mechanism(), aaa.ErrRejected)
}

// verifyPassword compares with what costs nothing first, see the package comment.
func (s *Store) verifyPassword(ctx context.Context, r record, password string) error {
	if ValidPassword(password) != nil {
		password = "" // no account has it, and it costs what any wrong one costs
	}
	if r.is(hasHA1) {
		ha1 := aaa.NewHA1(r.Name, r.realm, password)
		if subtle.ConstantTimeCompare(ha1[:], r.ha1[:]) == 1 && password != "" {
			return nil
		}
	} else if s.cache.has(r.Name, r.argon2, password) {
		return nil
	}
	ok, err := s.hasher.verify(ctx, password, r.argon2)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("wrong password: %w", aaa.ErrRejected)
	}
	if !r.is(hasHA1) {
		s.cache.remember(r.Name, r.argon2, password)
	}
	return nil
}

func (s *Store) verifyDigest(r record, c aaa.Digest) (proof string, err error) {
	switch {
	case c.Realm != s.opts.Realm && aaa.ToUTF8(c.Realm) != s.opts.Realm:
		return "", fmt.Errorf("realm %q, %q expected: %w", c.Realm, s.opts.Realm, aaa.ErrRejected)
	case c.AuthzID != "" && c.AuthzID != c.Username:
		return "", fmt.Errorf("acting for %q: %w", c.AuthzID, aaa.ErrRejected)
	case !r.is(hasHA1) || r.realm != s.opts.Realm:
		return "", fmt.Errorf("no digest hash of realm %q is kept: %w", s.opts.Realm, aaa.ErrRejected)
	}
	proof, ok := c.Verify(r.ha1)
	if !ok && r.is(hasRaw) {
		proof, ok = c.Verify(r.raw)
	}
	if !ok {
		return "", fmt.Errorf("wrong password: %w", aaa.ErrRejected)
	}
	return proof, nil
}

// usable refuses an account that may not log in now.
func usable(a Account, now time.Time) error {
	switch {
	case a.Disabled:
		return fmt.Errorf("disabled: %w", aaa.ErrRejected)
	case !a.Expires.IsZero() && !a.Expires.After(now):
		return fmt.Errorf("expired %v: %w", a.Expires, aaa.ErrRejected)
	}
	return nil
}
