// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
)

const testRealm = "isp.example"

// quick makes the tests' hashes: what they cost is not what is tested.
var quick = Params{Memory: 8, Time: 1, Threads: 1}

// clock goes when told; waits of the store move it.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	waited []time.Duration
}

func newClock() *clock { return &clock{now: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// wait takes the place of sleep: it takes no time.
func (c *clock) wait(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waited = append(c.waited, d)
	return ctx.Err()
}

func openStore(t testing.TB, dir string, opts Options) (*Store, *clock) {
	t.Helper()
	c := newClock()
	if opts.Realm == "" {
		opts.Realm = testRealm
	}
	if opts.Argon2 == (Params{}) {
		opts.Argon2 = quick
	}
	opts.Clock = c.Now
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	s.wait = c.wait
	t.Cleanup(func() { _ = s.Close() })
	return s, c
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustAdd(t testing.TB, s *Store, password string, accounts ...Account) {
	t.Helper()
	for _, a := range accounts {
		if err := s.Add(t.Context(), a, password); err != nil {
			t.Fatal(err)
		}
	}
}

func plain(name, password string) aaa.Login {
	return aaatest.Login(aaa.MechanismPlain, name, testRealm, password)
}

func digest(name, password string) aaa.Login {
	return aaatest.Login(aaa.MechanismDigestMD5, name, testRealm, password)
}

// from moves a login to another source.
func from(login aaa.Login, addr string) aaa.Login {
	login.Client = netip.AddrPortFrom(netip.MustParseAddr(addr), 1000)
	return login
}

// wantLogin checks what a login gives; want nil is success.
func wantLogin(t *testing.T, s *Store, login aaa.Login, want error) {
	t.Helper()
	if _, err := s.Authenticate(t.Context(), login); !errors.Is(err, want) || err != nil && want == nil {
		t.Errorf("%v from %v: %v, want %v", login.Credential, login.Client, err, want)
	}
}

func TestSuite(t *testing.T) {
	for name, change := range map[string]func(*Options, *Account){
		"default":   func(*Options, *Account) {},
		"cram":      func(o *Options, a *Account) { o.Cram, a.Cram = true, true },
		"no digest": func(o *Options, _ *Account) { o.NoDigest = true },
	} {
		t.Run(name, func(t *testing.T) {
			aaatest.Suite{
				Realm: testRealm,
				Open: func(t *testing.T, accounts ...aaatest.Account) aaa.Authenticator {
					opts, dir := Options{Limits: Limits{Pair: 1000, Source: 1000, Account: 1000}}, t.TempDir()
					change(&opts, &Account{})
					s, _ := openStore(t, dir, opts)
					for _, a := range accounts {
						account := Account{Name: a.Name, Disabled: a.Disabled, Pool: a.Pool}
						change(&Options{}, &account)
						mustAdd(t, s, a.Password, account)
					}
					// What it verifies with is what it reads from disk.
					closeStore(t, s)
					s, _ = openStore(t, dir, opts)
					return s
				},
				Unknown: aaa.ErrUnknown,
			}.Run(t)
		})
	}
}

// Whoever changes the realm changes what digest hashes are good for; passwords stay good.
func TestOtherRealm(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir, Options{})
	mustAdd(t, s, "secret", Account{Name: "a"}, Account{Name: "b"}, Account{Name: "c", NoDigest: true})
	if err := s.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	var log bytes.Buffer
	const next = "next.example"
	s, _ = openStore(t, dir, Options{Realm: next, Logger: zerolog.New(&log)})
	if !strings.Contains(log.String(), `"accounts":1`) {
		t.Errorf("not told how many accounts have the other realm: %s", log.String())
	}
	wantLogin(t, s, aaatest.Login(aaa.MechanismDigestMD5, "a", next, "secret"), aaa.ErrRejected)
	wantLogin(t, s, aaatest.Login(aaa.MechanismDigestMD5, "a", testRealm, "secret"), aaa.ErrRejected)
	wantLogin(t, s, plain("a", "secret"), nil)
	if err := s.SetPassword(t.Context(), "a", "secret"); err != nil {
		t.Fatal(err)
	}
	wantLogin(t, s, aaatest.Login(aaa.MechanismDigestMD5, "a", next, "secret"), nil)
}

func TestExpires(t *testing.T) {
	s, c := openStore(t, t.TempDir(), Options{})
	mustAdd(t, s, "secret", Account{Name: "a", Expires: c.Now().Add(time.Hour), SessionTimeout: 2 * time.Hour})
	got, err := s.Authenticate(t.Context(), plain("a", "secret"))
	if err != nil || got.SessionTimeout != time.Hour {
		t.Errorf("an hour before: %v, %v", got.SessionTimeout, err)
	}
	c.advance(time.Hour)
	wantLogin(t, s, plain("a", "secret"), aaa.ErrRejected)
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(t.TempDir(), Options{}); err == nil {
		t.Error("no realm, no error")
	}
	if _, err := Open(t.TempDir(), Options{Realm: "r", Argon2: Params{Memory: 1, Time: 1, Threads: 1}}); err == nil {
		t.Error("impossible parameters, no error")
	}
	dir := t.TempDir()
	s, _ := openStore(t, dir, Options{})
	if _, err := Open(dir, Options{Realm: testRealm}); err == nil {
		t.Error("the folder was opened twice")
	}
	closeStore(t, s)
	if err := os.WriteFile(filepath.Join(dir, journalFile), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Realm: testRealm}); err == nil {
		t.Error("something else was opened")
	}
}

// No secret in what is logged or told.
func TestFileHoldsNoPassword(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir, Options{Cram: true})
	mustAdd(t, s, "a very secret password", Account{Name: "alice", Cram: true})
	closeStore(t, s)
	data, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil || bytes.Contains(data, []byte("a very secret password")) || !bytes.Contains(data, []byte("alice")) {
		t.Errorf("the file: %q, %v", data, err)
	}
	if info, err := os.Stat(filepath.Join(dir, journalFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v: others may read the file", info.Mode(), err)
	}
}
