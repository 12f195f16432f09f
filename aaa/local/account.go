// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ddtb/aaa"
)

// What an account may hold, in octets.
const (
	MaxName     = 200
	MaxPassword = 256
	MaxPool     = 64
	MaxNote     = 1024
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
	Expires  time.Time // from then on no login, and no session; zero: never. Whole seconds.
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

// ValidName checks a user name: 1 to MaxName octets of UTF-8; letters, marks, digits, punctuation and symbols, so no
// blank, no control and no invisible character. The error is ErrInvalid.
func ValidName(name string) error {
	switch {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("%w: a name of 1 to %d octets is expected, not %d", ErrInvalid, MaxName, len(name))
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: the name %q is not UTF-8", ErrInvalid, name)
	}
	for _, r := range name {
		if r > ' ' && r <= '~' {
			continue // all of ASCII that can be seen
		}
		if !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S) || r == utf8.RuneError {
			return fmt.Errorf("%w: the name %q holds %U; letters, digits, punctuation and symbols are expected", ErrInvalid, name, r)
		}
	}
	return nil
}

// ValidPassword checks a password: 1 to MaxPassword octets of UTF-8 without control characters, none of which a client's
// line could carry. The error is ErrInvalid and does not hold the password.
func ValidPassword(password string) error {
	switch {
	case password == "" || len(password) > MaxPassword:
		return fmt.Errorf("%w: a password of 1 to %d octets is expected, not %d", ErrInvalid, MaxPassword, len(password))
	case !utf8.ValidString(password):
		return fmt.Errorf("%w: the password is not UTF-8", ErrInvalid)
	case strings.ContainsFunc(password, unicode.IsControl):
		return fmt.Errorf("%w: the password holds a control character", ErrInvalid)
	}
	return nil
}

// validate checks all but what the store sets.
func (a Account) validate() error {
	if err := ValidName(a.Name); err != nil {
		return err
	}
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: %q: %s", ErrInvalid, a.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case len(a.Note) > MaxNote || !utf8.ValidString(a.Note):
		return invalid("a note of at most %d octets of UTF-8 is expected", MaxNote)
	case len(a.Pool) > MaxPool || !utf8.ValidString(a.Pool):
		return invalid("a pool name of at most %d octets is expected", MaxPool)
	case a.Endpoint.IsValid() && (!plain6(a.Endpoint) || !a.Endpoint.IsGlobalUnicast()):
		return invalid("endpoint %v: a unicast IPv6 address is expected", a.Endpoint)
	case a.Prefix != netip.Prefix{} && (!plain6(a.Prefix.Addr()) || !a.Prefix.Addr().IsGlobalUnicast() || a.Prefix.Masked() != a.Prefix):
		return invalid("prefix %v: a unicast IPv6 prefix without host bits is expected", a.Prefix)
	case a.Prefix.IsValid() && a.NoPrefix:
		return invalid("a static prefix %v, and no prefix allowed", a.Prefix)
	case a.SessionLimit < 0 || a.SessionLimit > math.MaxInt32:
		return invalid("session limit %d: 0 or more is expected", a.SessionLimit)
	case a.SessionTimeout < 0 || a.IdleTimeout < 0:
		return invalid("session timeout %v, idle timeout %v: 0 or more is expected", a.SessionTimeout, a.IdleTimeout)
	case a.SessionTimeout%time.Second != 0 || a.IdleTimeout%time.Second != 0:
		return invalid("session timeout %v, idle timeout %v: whole seconds are expected", a.SessionTimeout, a.IdleTimeout)
	case !a.Expires.IsZero() && a.Expires.Unix() <= 0:
		return invalid("expiry %v: a time after 1970 is expected", a.Expires)
	}
	return nil
}

func plain6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() && a.Zone() == "" }

// subscriber is what the account may have at a time.
func (a Account) subscriber(now time.Time) aaa.Subscriber {
	s := aaa.Subscriber{
		Name: a.Name, Backend: "local", Authentic: aaa.AuthenticLocal, Pool: a.Pool, Endpoint: a.Endpoint, Prefix: a.Prefix,
		NoPrefix: a.NoPrefix, SessionLimit: a.SessionLimit, SessionTimeout: a.SessionTimeout, IdleTimeout: a.IdleTimeout,
	}
	if !a.Expires.IsZero() {
		left := a.Expires.Sub(now)
		if s.SessionTimeout == 0 || left < s.SessionTimeout {
			s.SessionTimeout = left
		}
	}
	return s
}
