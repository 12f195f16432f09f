// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

// accountFlags say what an account may have.
type accountFlags struct {
	pool, endpoint, prefix, note string
	sessions                     int
	noPrefix, noDigest, cram     bool
}

func (f *accountFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.pool, "pool", "", "the `pool` of the user's addresses; the daemon's first one if not given")
	c.Flags().IntVar(&f.sessions, "sessions", 0, "`number` of sessions at a time; session.limit of ddtb.toml if 0")
	c.Flags().StringVar(&f.endpoint, "endpoint", "", "the user's own endpoint `address`, out of a pool")
	c.Flags().StringVar(&f.prefix, "prefix", "", "the user's own `prefix`, from inside or outside the pools")
	c.Flags().StringVar(&f.note, "note", "", "a `text` for operators")
	c.Flags().BoolVar(&f.noPrefix, "no-prefix", false, "delegate no prefix")
	c.Flags().BoolVar(&f.noDigest, "no-digest", false, "keep nothing for DIGEST-MD5: log in with PLAIN only")
	c.Flags().BoolVar(&f.cram, "cram", false, "keep the key of CRAM-MD5, where aaa.local.cram of ddtb.toml offers it")
}

// addresses reads what has a form; what is empty gives the zero value.
func (f *accountFlags) addresses() (endpoint netip.Addr, prefix netip.Prefix, err error) {
	if f.endpoint != "" {
		if endpoint, err = netip.ParseAddr(f.endpoint); err != nil {
			return endpoint, prefix, usageError{fmt.Errorf("--endpoint: %q is not an IPv6 address", f.endpoint)}
		}
	}
	if f.prefix != "" {
		if prefix, err = netip.ParsePrefix(f.prefix); err != nil {
			return endpoint, prefix, usageError{fmt.Errorf("--prefix: %q is not a prefix such as 2001:db8:1234::/48", f.prefix)}
		}
	}
	if f.sessions < 0 {
		return endpoint, prefix, usageError{fmt.Errorf("--sessions: %d: 0 or more is expected", f.sessions)}
	}
	return endpoint, prefix, nil
}

// newUser makes an account of the flags, without a password.
func (f *accountFlags) newUser(name, expires string) (control.NewUser, error) {
	user := control.NewUser{
		Name: name, Digest: !f.noDigest, Cram: f.cram, Note: f.note, Pool: f.pool, Sessions: f.sessions, NoPrefix: f.noPrefix,
	}
	endpoint, prefix, err := f.addresses()
	if err != nil {
		return user, err
	}
	if endpoint.IsValid() {
		user.Endpoint = &endpoint
	}
	if prefix.IsValid() {
		user.Prefix = &prefix
	}
	if expires != "" {
		at, err := parseDate(expires)
		if err != nil {
			return user, err
		}
		user.Expires = &at
	}
	return user, nil
}

// parseDate reads a day, which begins at midnight here, or a moment of RFC 3339.
func parseDate(text string) (time.Time, error) {
	if day, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return day, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, usageError{fmt.Errorf("--expires: %q is neither a day such as 2027-12-31 nor a moment such as 2027-12-31T12:00:00Z", text)}
	}
	return at, nil
}

// change makes a change of those flags that were given.
func (f *accountFlags) change(given func(flag string) bool) (control.UserChange, error) {
	endpoint, prefix, err := f.addresses()
	digest := !f.noDigest
	return control.UserChange{
		Pool: pick(given("pool"), &f.pool), Sessions: pick(given("sessions"), &f.sessions), Note: pick(given("note"), &f.note),
		Endpoint: pick(given("endpoint"), &endpoint), Prefix: pick(given("prefix"), &prefix),
		NoPrefix: pick(given("no-prefix"), &f.noPrefix), Digest: pick(given("no-digest"), &digest), Cram: pick(given("cram"), &f.cram),
	}, err
}

// pick gives value if it was given, else nil.
func pick[T any](given bool, value *T) *T {
	if !given {
		return nil
	}
	return value
}
