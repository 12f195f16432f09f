// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/netip"
	"slices"

	"ddtb/aaa"
	"ddtb/aaa/local"
)

// localUsers is the Users over a store of aaa/local.
type localUsers struct{ store *local.Store }

// LocalUsers gives the accounts of a store to a Server.
func LocalUsers(store *local.Store) Users { return localUsers{store} }

// List implements Users.
func (u localUsers) List(ctx context.Context) iter.Seq[User] {
	return func(yield func(User) bool) {
		for account := range u.store.List(local.Filter{}) {
			if ctx.Err() != nil || !yield(userOf(account)) {
				return
			}
		}
	}
}

// Get implements Users.
func (u localUsers) Get(_ context.Context, name string) (User, error) {
	account, err := u.store.Get(name)
	if err != nil {
		return User{}, accountError(err)
	}
	return userOf(account), nil
}

// Add implements Users.
func (u localUsers) Add(ctx context.Context, user NewUser) error {
	account := local.Account{
		Name: user.Name, Note: user.Note, Pool: user.Pool, SessionLimit: user.Sessions, NoPrefix: user.NoPrefix, NoDigest: !user.Digest, Cram: user.Cram,
		Expires: deref(user.Expires), Endpoint: deref(user.Endpoint), Prefix: deref(user.Prefix),
	}
	return accountError(u.store.Add(ctx, account, user.Password))
}

// Change implements Users. The password comes first: if it is refused nothing is changed.
func (u localUsers) Change(ctx context.Context, name string, change UserChange) error {
	if change.Password != nil {
		if err := u.store.SetPassword(ctx, name, *change.Password); err != nil {
			return accountError(err)
		}
		change.Password = nil
	}
	if change == (UserChange{}) {
		return nil
	}
	return accountError(u.store.Update(ctx, name, func(account *local.Account) error {
		assign(&account.Disabled, change.Disabled)
		assign(&account.Note, change.Note)
		assign(&account.Pool, change.Pool)
		assign(&account.SessionLimit, change.Sessions)
		assign(&account.Endpoint, change.Endpoint)
		assign(&account.Prefix, change.Prefix)
		assign(&account.NoPrefix, change.NoPrefix)
		assign(&account.Cram, change.Cram)
		if change.Digest != nil {
			account.NoDigest = !*change.Digest
		}
		return nil
	}))
}

// Delete implements Users.
func (u localUsers) Delete(ctx context.Context, name string) error {
	return accountError(u.store.Delete(ctx, name))
}

// assign puts *from into to, if from is given.
func assign[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func deref[T any](p *T) (out T) {
	assign(&out, p)
	return out
}

func userOf(a local.Account) User {
	user := User{
		Name: a.Name, Disabled: a.Disabled, Digest: slices.Contains(a.Mechanisms, aaa.MechanismDigestMD5), Mechanisms: []string{},
		Created: a.Created.UTC(), Changed: a.PasswordSet.UTC(), Expires: timeOf(a.Expires), Note: a.Note,
		Pool: a.Pool, Sessions: a.SessionLimit, Prefix: prefixOf(a.Prefix), NoPrefix: a.NoPrefix,
	}
	if a.Endpoint != (netip.Addr{}) {
		user.Endpoint = &a.Endpoint
	}
	for _, m := range a.Mechanisms {
		user.Mechanisms = append(user.Mechanisms, string(m))
	}
	return user
}

// accountError tells what the operator did wrong.
func accountError(err error) error {
	for _, known := range []struct {
		err    error
		status int
		hint   string
	}{
		{local.ErrNotFound, http.StatusNotFound, "see the list of users"},
		{local.ErrExists, http.StatusConflict, "to give him another password, change that"},
		{local.ErrInvalid, http.StatusBadRequest, ""},
	} {
		if errors.Is(err, known.err) {
			return &Error{known.status, err.Error(), known.hint}
		}
	}
	return err
}
