// SPDX-License-Identifier: GPL-2.0-or-later

package aaa

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Chain asks several Authenticators in order. A backend that does not know the subscriber (ErrUnknown) passes him on to
// the next; every other answer, good or bad, is final: a backend that knows him has decided, and one that cannot answer
// might have known him. A backend that cannot verify the login's mechanism is not asked.
//
// The empty Chain knows nobody.
type Chain []Authenticator

// Mechanisms are those that at least one backend verifies, strongest first.
func (c Chain) Mechanisms() []Mechanism {
	var out []Mechanism
	for _, m := range []Mechanism{MechanismDigestMD5, MechanismCramMD5, MechanismPlain, MechanismAnonymous} {
		if slices.ContainsFunc(c, func(a Authenticator) bool { return slices.Contains(a.Mechanisms(), m) }) {
			out = append(out, m)
		}
	}
	return out
}

// Shared are those that every backend with accounts verifies, strongest first: whichever of them knows the subscriber, he
// can log in by what he was offered.
func (c Chain) Shared() []Mechanism {
	accounts := slices.DeleteFunc(slices.Clone(c), func(a Authenticator) bool { return slices.Equal(a.Mechanisms(), Guests{}.Mechanisms()) })
	return slices.DeleteFunc(c.Mechanisms(), func(m Mechanism) bool {
		return m == MechanismAnonymous || slices.ContainsFunc(accounts, func(a Authenticator) bool { return !slices.Contains(a.Mechanisms(), m) })
	})
}

// Authenticate implements Authenticator.
func (c Chain) Authenticate(ctx context.Context, login Login) (Subscriber, error) {
	mechanism := login.Credential.Mechanism()
	var last error
	for _, backend := range c {
		if !slices.Contains(backend.Mechanisms(), mechanism) {
			continue
		}
		subscriber, err := backend.Authenticate(ctx, login)
		if err == nil {
			return subscriber, nil
		}
		if !errors.Is(err, ErrUnknown) {
			return Subscriber{}, err
		}
		last = err
	}
	if last == nil {
		last = fmt.Errorf("no backend verifies %s: %w", mechanism, ErrUnknown)
	}
	return Subscriber{}, last
}

// Reauthorize implements Reauthorizer: it asks the backend that let the subscriber in.
func (c Chain) Reauthorize(ctx context.Context, renewal Renewal) (Subscriber, error) {
	for _, backend := range c {
		asked, ok := backend.(Reauthorizer)
		if !ok {
			continue
		}
		if subscriber, err := asked.Reauthorize(ctx, renewal); !errors.Is(err, ErrUnknown) {
			return subscriber, err
		}
	}
	return Subscriber{}, fmt.Errorf("no backend can be asked again about what %q granted: %w", renewal.Subscriber.Backend, ErrUnknown)
}

// Guests lets Anonymous logins in, and nobody else: everybody is the same Subscriber.
type Guests struct {
	Subscriber Subscriber // what a guest may have; Name and Anonymous are set by Authenticate
}

// Mechanisms implements Authenticator.
func (Guests) Mechanisms() []Mechanism { return []Mechanism{MechanismAnonymous} }

// Authenticate gives the guests' Subscriber, named "anonymous"; ErrUnknown for a login with a name.
func (g Guests) Authenticate(_ context.Context, login Login) (Subscriber, error) {
	if _, ok := login.Credential.(Anonymous); !ok {
		return Subscriber{}, fmt.Errorf("guests: %s: %w", login.Credential.Mechanism(), ErrUnknown)
	}
	s := g.Subscriber
	s.Name, s.Anonymous, s.Backend, s.Authentic = "anonymous", true, "guests", AuthenticLocal
	return s, nil
}
