// SPDX-License-Identifier: GPL-2.0-or-later

// Package local is the Authenticator with accounts of its own, kept in one journal file and managed while it runs.
package local

import (
	"context"
	"iter"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
)

// Options of a Store. Only Realm is needed.
type Options struct {
	Realm  string           // of DIGEST-MD5; part of every HA1
	Clock  func() time.Time // nil: time.Now
	Logger zerolog.Logger   // tells of a cut journal tail and of compactions

	NoDigest bool // DIGEST-MD5 is not offered, whatever the accounts allow
	Cram     bool // CRAM-MD5 is offered
	Chained  bool // another backend follows: a name unknown here is passed on at once, at no cost
}

// Store holds the accounts. Its methods may be called by many goroutines at once; those that change something return
// when the change is on disk.
type Store struct{}

// Filter chooses accounts for List. The zero Filter chooses all.
type Filter struct {
	Prefix string // names that start so
	After  string // names that sort behind this one, to go on where a List ended
	Limit  int    // at most so many; 0: no limit
}

// Open reads the accounts kept in dir, which is made if it is not there.
func Open(dir string, opts Options) (*Store, error) { return &Store{}, nil }

// Close ends the store.
func (s *Store) Close() error { return nil }

// Add makes an account with a password. ErrExists, ErrInvalid.
func (s *Store) Add(ctx context.Context, account Account, password string) error { return nil }

// SetPassword changes a password, and makes the hashes the account wants. ErrNotFound, ErrInvalid.
func (s *Store) SetPassword(ctx context.Context, name, password string) error { return nil }

// Update lets change alter a copy of the account, and keeps that unless change returns an error, which is then returned.
// The name and what is set by the store cannot be changed. ErrNotFound, ErrInvalid.
func (s *Store) Update(ctx context.Context, name string, change func(*Account) error) error {
	return nil
}

// Disable keeps the account from logging in; again is no error. ErrNotFound.
func (s *Store) Disable(ctx context.Context, name string) error { return nil }

// Enable lets the account log in again; again is no error. ErrNotFound.
func (s *Store) Enable(ctx context.Context, name string) error { return nil }

// Delete removes an account. ErrNotFound.
func (s *Store) Delete(ctx context.Context, name string) error { return nil }

// Get returns an account. ErrNotFound.
func (s *Store) Get(name string) (Account, error) { return Account{}, nil }

// Len is the number of accounts.
func (s *Store) Len() int { return 0 }

// List yields the accounts that filter chooses, sorted by name octet for octet.
func (s *Store) List(filter Filter) iter.Seq[Account] { return func(func(Account) bool) {} }

// Mechanisms implements aaa.Authenticator.
func (s *Store) Mechanisms() []aaa.Mechanism { return nil }

// Authenticate implements aaa.Authenticator.
func (s *Store) Authenticate(ctx context.Context, login aaa.Login) (aaa.Subscriber, error) {
	return aaa.Subscriber{}, aaa.ErrUnavailable
}
