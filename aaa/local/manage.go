// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"ddtb/aaa"
)

// Filter chooses accounts for List. The zero Filter chooses all.
type Filter struct {
	Prefix string // names that start so
	After  string // names that sort behind this one, to go on where a List ended
	Limit  int    // at most so many; 0: no limit
}

// Add makes an account with a password. ErrExists, ErrInvalid.
func (s *Store) Add(ctx context.Context, account Account, password string) error {
	if err := account.validate(); err != nil {
		return err
	}
	if _, ok := s.lookup(account.Name); ok {
		return fmt.Errorf("%w: %q", ErrExists, account.Name) // before the costly hash; asked again below
	}
	hash, err := s.newHash(ctx, account.Name, password)
	if err != nil {
		return err
	}
	return s.change(account.Name, func(_ record, ok bool) (record, error) {
		if ok {
			return record{}, fmt.Errorf("%w: %q", ErrExists, account.Name)
		}
		r := record{Account: account}
		r.Created = s.opts.Clock()
		s.setPassword(&r, hash, password)
		return r, nil
	})
}

// SetPassword changes a password, and makes the hashes the account wants. ErrNotFound, ErrInvalid.
func (s *Store) SetPassword(ctx context.Context, name, password string) error {
	if _, ok := s.lookup(name); !ok {
		return notFound(name)
	}
	hash, err := s.newHash(ctx, name, password)
	if err != nil {
		return err
	}
	return s.change(name, func(r record, ok bool) (record, error) {
		if !ok {
			return r, notFound(name)
		}
		s.setPassword(&r, hash, password)
		return r, nil
	})
}

// Update lets change alter a copy of the account, and keeps that unless change returns an error, which is then returned.
// The name and what is set by the store cannot be changed. ErrNotFound, ErrInvalid.
func (s *Store) Update(_ context.Context, name string, change func(*Account) error) error {
	return s.change(name, func(r record, ok bool) (record, error) {
		if !ok {
			return r, notFound(name)
		}
		account := r.Account
		if err := change(&account); err != nil {
			return r, err
		}
		account.Created, account.PasswordSet = r.Created, r.PasswordSet
		if account.Name != name {
			return r, fmt.Errorf("%w: %q: an account cannot be renamed: a password's hashes hold the name", ErrInvalid, name)
		}
		r.Account = account
		r.dropUnwanted()
		return r, account.validate()
	})
}

// Disable keeps the account from logging in; again is no error. ErrNotFound.
func (s *Store) Disable(ctx context.Context, name string) error {
	return s.Update(ctx, name, func(a *Account) error { a.Disabled = true; return nil })
}

// Enable lets the account log in again; again is no error. ErrNotFound.
func (s *Store) Enable(ctx context.Context, name string) error {
	return s.Update(ctx, name, func(a *Account) error { a.Disabled = false; return nil })
}

// Delete removes an account. ErrNotFound.
func (s *Store) Delete(_ context.Context, name string) error {
	return s.change(name, func(_ record, ok bool) (record, error) {
		if !ok {
			return record{}, notFound(name)
		}
		return record{}, nil
	})
}

// Get returns an account. ErrNotFound.
func (s *Store) Get(name string) (Account, error) {
	r, ok := s.lookup(name)
	if !ok {
		return Account{}, notFound(name)
	}
	return r.Account, nil
}

// Len is the number of accounts.
func (s *Store) Len() int { return int(s.count.Load()) }

// List yields the accounts that filter chooses, sorted by name octet for octet. Accounts made meanwhile may be missing.
func (s *Store) List(filter Filter) iter.Seq[Account] {
	return func(yield func(Account) bool) {
		var names []string
		for i := range s.shards {
			shard := &s.shards[i]
			shard.mu.RLock()
			for name := range shard.accounts {
				if strings.HasPrefix(name, filter.Prefix) && name > filter.After {
					names = append(names, name)
				}
			}
			shard.mu.RUnlock()
		}
		slices.Sort(names)
		count := 0
		for _, name := range names {
			r, ok := s.lookup(name)
			if !ok {
				continue // deleted meanwhile
			}
			if !yield(r.Account) {
				return
			}
			if count++; count == filter.Limit {
				return
			}
		}
	}
}

// change replaces an account by what fn makes of it; a record without a name deletes it. It returns when that is on disk.
func (s *Store) change(name string, fn func(r record, ok bool) (record, error)) error {
	shard := s.shard(name)
	shard.change.Lock()
	defer shard.change.Unlock()
	s.changing.RLock()
	defer s.changing.RUnlock()
	before, ok := s.lookup(name)
	after, err := fn(before, ok)
	if err != nil {
		return err
	}
	encoded, entry := "", append([]byte{opDelete}, name...)
	if after.Name != "" {
		encoded = after.encode()
		entry = append([]byte{opPut}, encoded...)
	}
	old := s.swap(shard, name, encoded)
	if old == encoded {
		return nil
	}
	if err := s.journal.Append(entry); err != nil {
		s.swap(shard, name, old)
		return fmt.Errorf("account %q: %w", name, err)
	}
	return nil
}

// newHash hashes a new password with argon2id.
func (s *Store) newHash(ctx context.Context, name, password string) (string, error) {
	if err := ValidPassword(password); err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return "", fmt.Errorf("account %q: %w", name, err)
	}
	return hash, nil
}

// setPassword makes a record's hashes of a new password.
func (s *Store) setPassword(r *record, hash, password string) {
	r.argon2, r.PasswordSet, r.has = hash, s.opts.Clock(), 0
	if !r.NoDigest && !s.opts.NoDigest {
		r.realm, r.has = s.opts.Realm, hasHA1
		r.ha1 = aaa.NewHA1(r.Name, r.realm, password)
		r.raw = aaa.NewRawHA1(r.Name, r.realm, password)
		if r.raw != r.ha1 {
			r.has |= hasRaw
		}
	}
	if r.Account.Cram && s.opts.Cram {
		r.cram = aaa.NewCramKey(password)
		r.has |= hasCram
	}
}

// dropUnwanted forgets the hashes that the account does not want any more.
func (r *record) dropUnwanted() {
	if r.NoDigest {
		r.has &^= hasHA1 | hasRaw
	}
	if !r.Account.Cram {
		r.has &^= hasCram
	}
}

func notFound(name string) error { return fmt.Errorf("%w: %q", ErrNotFound, name) }
