// SPDX-License-Identifier: GPL-2.0-or-later

package aaatest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"ddtb/aaa"
)

// Suite is what every Authenticator with accounts passes.
type Suite struct {
	Realm string // of DIGEST-MD5
	// Open makes a backend that has these accounts, and no others.
	Open func(t *testing.T, accounts ...Account) aaa.Authenticator
	// Unknown is what the backend answers for a name it does not know: ErrUnknown, or ErrRejected where the protocol
	// behind it does not tell one from the other.
	Unknown error
}

const suitePassword = "correct horse battery"

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	backend := s.Open(t, s.accounts()...)
	mechanisms := backend.Mechanisms()
	if len(mechanisms) == 0 {
		t.Fatal("no mechanism")
	}
	for _, m := range mechanisms {
		t.Run(string(m), func(t *testing.T) { s.testMechanism(t, backend, m) })
	}
	t.Run("Attributes", func(t *testing.T) { s.testAttributes(t, backend) })
	t.Run("Anonymous", func(t *testing.T) { s.refused(t, backend, Login(aaa.MechanismAnonymous, "", "", ""), nil) })
	if slices.Contains(mechanisms, aaa.MechanismPlain) {
		t.Run("EmptyPassword", func(t *testing.T) {
			s.refused(t, backend, Login(aaa.MechanismPlain, "alice", s.Realm, ""), aaa.ErrRejected)
			s.refused(t, backend, Login(aaa.MechanismPlain, "", s.Realm, ""), nil)
		})
	}
	if slices.Contains(mechanisms, aaa.MechanismDigestMD5) {
		t.Run("Digest", func(t *testing.T) { s.testDigest(t, backend) })
		t.Run("DigestCharset", func(t *testing.T) { s.testDigestCharset(t, backend) })
		t.Run("DigestCut", func(t *testing.T) { s.testDigestCut(t) })
	}
	t.Run("Canceled", func(t *testing.T) { s.testCanceled(t, backend) })
	t.Run("Concurrent", func(t *testing.T) { s.testConcurrent(t, backend) })
}

func (Suite) accounts() []Account {
	return []Account{
		{Name: "alice", Password: suitePassword},
		{Name: "bob", Password: "another password", Subscriber: aaa.Subscriber{Pool: "office"}},
		{Name: "carol", Password: suitePassword, Disabled: true},
		{Name: "jörg", Password: "gemüse"},
		{Name: "ПЁТР", Password: "пароль"},
	}
}

// login must succeed.
func (s Suite) login(t *testing.T, backend aaa.Authenticator, login aaa.Login) aaa.Subscriber {
	t.Helper()
	subscriber, err := backend.Authenticate(t.Context(), login)
	if err != nil {
		t.Fatalf("%v: %v", login.Credential, err)
	}
	return subscriber
}

// refused must fail with want, any error if that is nil, and without a word of the password.
func (s Suite) refused(t *testing.T, backend aaa.Authenticator, login aaa.Login, want error) {
	t.Helper()
	subscriber, err := backend.Authenticate(t.Context(), login)
	if err == nil || want != nil && !errors.Is(err, want) {
		t.Fatalf("%v: subscriber %q, error %v; want %v", login.Credential, subscriber.Name, err, want)
	}
	if p, ok := login.Credential.(aaa.Password); ok && p.Password != "" && strings.Contains(err.Error(), p.Password) {
		t.Errorf("the error holds the password: %v", err)
	}
}

func (s Suite) testMechanism(t *testing.T, backend aaa.Authenticator, m aaa.Mechanism) {
	for _, a := range s.accounts() {
		login := Login(m, a.Name, s.Realm, a.Password)
		if a.Disabled {
			s.refused(t, backend, login, aaa.ErrRejected)
			continue
		}
		got := s.login(t, backend, login)
		if got.Name != a.Name || got.Backend == "" || got.Authentic == 0 || got.Anonymous {
			t.Errorf("%v: %+v", login.Credential, got)
		}
		if d, ok := login.Credential.(aaa.Digest); ok {
			if want, _ := d.Verify(aaa.NewHA1(a.Name, s.Realm, a.Password)); got.ResponseAuth != want {
				t.Errorf("%v: rspauth %q, want %q", login.Credential, got.ResponseAuth, want)
			}
		} else if got.ResponseAuth != "" {
			t.Errorf("%v: rspauth %q", login.Credential, got.ResponseAuth)
		}
	}
	s.refused(t, backend, Login(m, "alice", s.Realm, "not this one"), aaa.ErrRejected)
	s.refused(t, backend, Login(m, "alice", s.Realm, suitePassword+" "), aaa.ErrRejected)
	s.refused(t, backend, Login(m, "ALICE", s.Realm, suitePassword), s.Unknown)
	s.refused(t, backend, Login(m, "nobody", s.Realm, suitePassword), s.Unknown)
	s.refused(t, backend, Login(m, "alice\x00", s.Realm, suitePassword), s.Unknown)
	s.refused(t, backend, Login(m, strings.Repeat("a", 5000), s.Realm, suitePassword), s.Unknown)
}

func (s Suite) testAttributes(t *testing.T, backend aaa.Authenticator) {
	m := backend.Mechanisms()[0]
	if got := s.login(t, backend, Login(m, "bob", s.Realm, "another password")); got.Pool != "office" {
		t.Errorf("pool %q", got.Pool)
	}
	if got := s.login(t, backend, Login(m, "alice", s.Realm, suitePassword)); got.Pool != "" || got.Prefix.IsValid() || got.SessionLimit != 0 {
		t.Errorf("without attributes: %+v", got)
	}
}

func (s Suite) testDigest(t *testing.T, backend aaa.Authenticator) {
	change := func(fn func(*aaa.Digest), rehash bool) aaa.Login {
		login := Login(aaa.MechanismDigestMD5, "alice", s.Realm, suitePassword)
		d := login.Credential.(aaa.Digest)
		fn(&d)
		if rehash {
			d.Response = d.Respond(aaa.NewHA1(d.Username, d.Realm, suitePassword))
		}
		login.Credential = d
		return login
	}
	for name, fn := range map[string]func(*aaa.Digest){
		"nonce":       func(d *aaa.Digest) { d.Nonce += "x" },
		"cnonce":      func(d *aaa.Digest) { d.CNonce += "x" },
		"uri":         func(d *aaa.Digest) { d.URI += "x" },
		"nc":          func(d *aaa.Digest) { d.NC = "00000002" },
		"short":       func(d *aaa.Digest) { d.Response = d.Response[:30] },
		"empty":       func(d *aaa.Digest) { d.Response = "" },
		"not hex":     func(d *aaa.Digest) { d.Response = strings.Repeat("g", 32) },
		"authzid":     func(d *aaa.Digest) { d.AuthzID = "alice" },
		"other realm": func(d *aaa.Digest) { d.Realm += ".example" },
	} {
		t.Run(name, func(t *testing.T) { s.refused(t, backend, change(fn, false), aaa.ErrRejected) })
	}
	for name, fn := range map[string]func(*aaa.Digest){
		"hashed with another realm": func(d *aaa.Digest) { d.Realm += ".example" },
		"acting for another":        func(d *aaa.Digest) { d.AuthzID = "bob" },
		"qop auth-int":              func(d *aaa.Digest) { d.QOP = "auth-int" },
	} {
		t.Run(name, func(t *testing.T) { s.refused(t, backend, change(fn, true), aaa.ErrRejected) })
	}
	s.login(t, backend, change(func(d *aaa.Digest) { d.AuthzID = "alice" }, true))
	s.login(t, backend, change(func(d *aaa.Digest) { d.CNonce, d.URI = "1234567", "tsp/"+s.Realm+":3653" }, true))
	s.login(t, backend, change(func(d *aaa.Digest) { d.Response = strings.ToUpper(d.Response) }, false))
}

// The same account by clients that write names in ISO 8859-1, in UTF-8 hashed as RFC 2831 says, and in UTF-8 hashed as
// it is (section 2.1.2).
func (s Suite) testDigestCharset(t *testing.T, backend aaa.Authenticator) {
	const name, password = "jörg", "gemüse"
	latin1 := func(s string) string {
		return string([]byte(strings.NewReplacer("ö", "\xf6", "ü", "\xfc").Replace(s)))
	}
	login := Login(aaa.MechanismDigestMD5, name, s.Realm, password)
	d := login.Credential.(aaa.Digest)
	for _, tc := range []struct {
		name     string
		username string
		utf8     bool
		ha1      aaa.HA1
	}{
		{"ISO 8859-1", latin1(name), false, aaa.NewRawHA1(latin1(name), s.Realm, latin1(password))},
		{"UTF-8 by the rule", name, true, aaa.NewHA1(name, s.Realm, password)},
		{"UTF-8 as it is", name, true, aaa.NewRawHA1(name, s.Realm, password)},
	} {
		d.Username, d.UTF8 = tc.username, tc.utf8
		d.Response = d.Respond(tc.ha1)
		login.Credential = d
		if got := s.login(t, backend, login); got.Name != name {
			t.Errorf("%s: name %q", tc.name, got.Name)
		}
	}
}

// Some clients at VERSION 2.0.0 take for H(A1) the MD5 of the raw hash up to its first NUL (client fact 15). With the NUL
// in front anybody could make that, so it is refused wherever the NUL is.
func (s Suite) testDigestCut(t *testing.T) {
	for i := range 10_000 {
		password := fmt.Sprint("password", i)
		ha1 := aaa.NewHA1("alice", s.Realm, password)
		cut := slices.Index(ha1[:], 0)
		if cut < 0 || i < 5000 && cut != 0 {
			continue // the worst case is looked for first
		}
		login := Login(aaa.MechanismDigestMD5, "alice", s.Realm, password)
		d := login.Credential.(aaa.Digest)
		backend := s.Open(t, Account{Name: "alice", Password: password})
		s.login(t, backend, login)
		d.Response = respondCut(d, ha1[:cut])
		login.Credential = d
		s.refused(t, backend, login, aaa.ErrRejected)
		return
	}
	t.Fatal("no hash with a NUL found")
}

func (s Suite) testCanceled(t *testing.T, backend aaa.Authenticator) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, m := range backend.Mechanisms() {
		if _, err := backend.Authenticate(ctx, Login(m, "alice", s.Realm, suitePassword)); !errors.Is(err, aaa.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", m, err)
		}
	}
}

func (s Suite) testConcurrent(t *testing.T, backend aaa.Authenticator) {
	mechanisms := backend.Mechanisms()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			m := mechanisms[i%len(mechanisms)]
			login := Login(m, "alice", s.Realm, suitePassword)
			login.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 4000)
			if got, err := backend.Authenticate(t.Context(), login); err != nil || got.Name != "alice" {
				t.Errorf("%s: %q, %v", m, got.Name, err)
			}
			login = Login(m, "bob", s.Realm, suitePassword)
			if got, err := backend.Authenticate(t.Context(), login); err == nil {
				t.Errorf("%s: a wrong password let %q in", m, got.Name)
			}
		})
	}
	wg.Wait()
}
