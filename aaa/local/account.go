// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"errors"
	"net/netip"
	"time"

	"ddtb/aaa"
)

// Errors of the calls that manage accounts, wrapped with the account's name.
var (
	ErrExists   = errors.New("account exists")
	ErrNotFound = errors.New("no such account")
	ErrInvalid  = errors.New("invalid account") // says which field and what is expected
)

// Account is a subscriber's account without its secrets. Zero values of the attributes mean "the server's default".
type Account struct {
	Name     string // see ValidName
	Disabled bool
	Expires  time.Time // from then on no login; zero: never
	Note     string    // for the operator, at most MaxNote octets

	Pool           string        // lease pool
	Endpoint       netip.Addr    // static tunnel endpoint address
	Prefix         netip.Prefix  // static delegated prefix
	NoPrefix       bool          // may not have a delegated prefix
	SessionLimit   int           // sessions at a time
	SessionTimeout time.Duration // whole seconds
	IdleTimeout    time.Duration // whole seconds

	// Which hashes are wanted besides argon2id. One no longer wanted is dropped at once; one newly wanted comes into
	// being with the next password.
	NoDigest bool // no HA1, so no DIGEST-MD5
	Cram     bool // the CRAM-MD5 key

	// Set by the store.
	Mechanisms  []aaa.Mechanism // what the account can log in with now
	Created     time.Time
	PasswordSet time.Time
}
