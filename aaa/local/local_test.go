// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

func TestManage(t *testing.T) {
	dir := t.TempDir()
	s, c := openStore(t, dir, Options{})
	full := Account{
		Name: "alice", Note: "since 2012", Pool: "home", Endpoint: netip.MustParseAddr("2001:db8::5"),
		Prefix: netip.MustParsePrefix("2001:db8:5::/48"), SessionLimit: 2, SessionTimeout: time.Hour, IdleTimeout: time.Minute,
		Expires: c.Now().Add(24 * time.Hour),
	}
	mustAdd(t, s, "secret", full, Account{Name: "bob"}, Account{Name: "carol", NoPrefix: true, NoDigest: true})
	if err := s.Add(t.Context(), Account{Name: "bob"}, "other"); !errors.Is(err, ErrExists) {
		t.Errorf("%v, want ErrExists", err)
	}
	wantLogin(t, s, plain("bob", "secret"), nil)

	full.Created, full.PasswordSet = c.Now(), c.Now()
	full.Mechanisms = []aaa.Mechanism{aaa.MechanismDigestMD5, aaa.MechanismPlain}
	check := func(want Account) {
		t.Helper()
		got, err := s.Get(want.Name)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
	}
	check(full)
	if got, _ := s.Get("carol"); !slices.Equal(got.Mechanisms, []aaa.Mechanism{aaa.MechanismPlain}) {
		t.Errorf("carol can %v", got.Mechanisms)
	}
	sub, err := s.Authenticate(t.Context(), digest("alice", "secret"))
	if err != nil || sub.Pool != "home" || sub.Endpoint != full.Endpoint || sub.Prefix != full.Prefix || sub.SessionLimit != 2 ||
		sub.SessionTimeout != time.Hour || sub.IdleTimeout != time.Minute {
		t.Errorf("%+v, %v", sub, err)
	}

	c.advance(time.Hour)
	if err := s.SetPassword(t.Context(), "alice", "new secret"); err != nil {
		t.Fatal(err)
	}
	full.PasswordSet = c.Now()
	check(full)
	wantLogin(t, s, digest("alice", "secret"), aaa.ErrRejected)
	wantLogin(t, s, plain("alice", "secret"), aaa.ErrRejected)
	wantLogin(t, s, plain("alice", "new secret"), nil)
	wantLogin(t, s, digest("alice", "new secret"), nil)

	if err := s.Update(t.Context(), "alice", func(a *Account) error { a.NoDigest, a.Pool = true, ""; return nil }); err != nil {
		t.Fatal(err)
	}
	full.NoDigest, full.Pool, full.Mechanisms = true, "", []aaa.Mechanism{aaa.MechanismPlain}
	check(full)
	wantLogin(t, s, digest("alice", "new secret"), aaa.ErrRejected)
	wantLogin(t, s, plain("alice", "new secret"), nil)
	// Wanted again, the hash comes with the next password.
	if err := s.Update(t.Context(), "alice", func(a *Account) error { a.NoDigest = false; return nil }); err != nil {
		t.Fatal(err)
	}
	wantLogin(t, s, digest("alice", "new secret"), aaa.ErrRejected)
	if err := s.SetPassword(t.Context(), "alice", "newest"); err != nil {
		t.Fatal(err)
	}
	wantLogin(t, s, digest("alice", "newest"), nil)

	for range 2 {
		if err := s.Disable(t.Context(), "bob"); err != nil {
			t.Fatal(err)
		}
	}
	wantLogin(t, s, plain("bob", "secret"), aaa.ErrRejected)
	for range 2 {
		if err := s.Enable(t.Context(), "bob"); err != nil {
			t.Fatal(err)
		}
	}
	wantLogin(t, s, plain("bob", "secret"), nil)

	if err := s.Delete(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	wantLogin(t, s, plain("bob", "secret"), aaa.ErrUnknown)
	for what, err := range map[string]error{
		"Delete":      s.Delete(t.Context(), "bob"),
		"Disable":     s.Disable(t.Context(), "bob"),
		"SetPassword": s.SetPassword(t.Context(), "bob", "x"),
		"Update":      s.Update(t.Context(), "bob", func(*Account) error { return nil }),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}
	if s.Len() != 2 {
		t.Errorf("%d accounts, want 2", s.Len())
	}
	before, _ := s.Get("alice")
	closeStore(t, s)
	if err := s.Disable(t.Context(), "alice"); err == nil {
		t.Error("a closed store changed an account")
	}
	if got, err := s.Get("alice"); err != nil || got.Disabled {
		t.Errorf("the refused change was not undone: %+v, %v", got, err)
	}
	s, _ = openStore(t, dir, Options{})
	check(before)
	if s.Len() != 2 {
		t.Errorf("reopened: %d accounts, want 2", s.Len())
	}
}

func TestInvalid(t *testing.T) {
	s, _ := openStore(t, t.TempDir(), Options{})
	mustAdd(t, s, "secret", Account{Name: "good"})
	for what, a := range map[string]Account{
		"no name":          {},
		"long name":        {Name: strings.Repeat("n", MaxName+1)},
		"not UTF-8":        {Name: "j\xf6rg"},
		"blank":            {Name: "a b"},
		"no-break space":   {Name: "a\u00a0b"},
		"newline":          {Name: "a\n"},
		"NUL":              {Name: "a\x00"},
		"zero width":       {Name: "a\u200bb"},
		"right to left":    {Name: "a\u202eb"},
		"replacement":      {Name: "a\ufffd"},
		"long note":        {Name: "a", Note: strings.Repeat("n", MaxNote+1)},
		"long pool":        {Name: "a", Pool: strings.Repeat("n", MaxPool+1)},
		"IPv4 endpoint":    {Name: "a", Endpoint: netip.MustParseAddr("192.0.2.1")},
		"link-local":       {Name: "a", Endpoint: netip.MustParseAddr("fe80::1%eth0")},
		"host bits":        {Name: "a", Prefix: netip.MustParsePrefix("2001:db8::1/64")},
		"IPv4 prefix":      {Name: "a", Prefix: netip.MustParsePrefix("192.0.2.0/24")},
		"multicast prefix": {Name: "a", Prefix: netip.MustParsePrefix("ff00::/48")},
		"prefix and none":  {Name: "a", Prefix: netip.MustParsePrefix("2001:db8::/48"), NoPrefix: true},
		"negative limit":   {Name: "a", SessionLimit: -1},
		"negative timeout": {Name: "a", IdleTimeout: -time.Second},
		"split second":     {Name: "a", SessionTimeout: time.Millisecond},
		"expiry":           {Name: "a", Expires: time.Unix(-5, 0)},
	} {
		if err := s.Add(t.Context(), a, "secret"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
		err := s.Update(t.Context(), "good", func(old *Account) error { *old = a; return nil })
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Update gives %v, want ErrInvalid", what, err)
		}
	}
	for what, password := range map[string]string{
		"empty": "", "long": strings.Repeat("p", MaxPassword+1), "newline": "pass\nword", "not UTF-8": "gem\xfcse",
	} {
		err := s.Add(t.Context(), Account{Name: "a"}, password)
		if !errors.Is(err, ErrInvalid) || password != "" && strings.Contains(err.Error(), password) {
			t.Errorf("%s password: %v, want ErrInvalid", what, err)
		}
		if err := s.SetPassword(t.Context(), "good", password); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s password: %v, want ErrInvalid", what, err)
		}
	}
	for _, name := range []string{"a", "alice@isp.example", "O'Hara", "00:11:22:33:44:55", "user#2", "jörg", "ПЁТР", "李", strings.Repeat("n", MaxName)} {
		mustAdd(t, s, "secret", Account{Name: name})
		wantLogin(t, s, digest(name, "secret"), nil)
	}
	sour := errors.New("sour")
	if err := s.Update(t.Context(), "good", func(a *Account) error { a.Disabled = true; return sour }); !errors.Is(err, sour) {
		t.Errorf("%v, want %v", err, sour)
	}
	wantLogin(t, s, plain("good", "secret"), nil)
}

func TestList(t *testing.T) {
	s, _ := openStore(t, t.TempDir(), Options{})
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf("%c%02d", 'a'+i%3, i))
	}
	for _, name := range all {
		mustAdd(t, s, "secret", Account{Name: name})
	}
	slices.Sort(all)
	some := func(keep func(string) bool) []string {
		return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return !keep(n) })
	}
	for _, tc := range []struct {
		filter Filter
		want   []string
	}{
		{Filter{}, all},
		{Filter{Prefix: "b"}, some(func(n string) bool { return n[0] == 'b' })},
		{Filter{Prefix: "b1"}, some(func(n string) bool { return strings.HasPrefix(n, "b1") })},
		{Filter{Limit: 5}, all[:5]},
		{Filter{After: all[4], Limit: 5}, all[5:10]},
		{Filter{After: all[39]}, nil},
		{Filter{Prefix: "c", After: "b"}, some(func(n string) bool { return n[0] == 'c' })},
		{Filter{Prefix: "none"}, nil},
	} {
		var got []string
		for a := range s.List(tc.filter) {
			got = append(got, a.Name)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%+v: %s", tc.filter, diff)
		}
	}
	for range s.List(Filter{}) {
		break // to stop early is allowed
	}
}

// Many changes at once share the disk, and each is there afterwards.
func TestConcurrentChanges(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir, Options{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			name := fmt.Sprint("user", i)
			if err := s.Add(t.Context(), Account{Name: name}, "secret"); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := s.Disable(t.Context(), name); err != nil {
					t.Error(err)
				}
			}
			if i%5 == 0 {
				if err := s.Delete(t.Context(), name); err != nil {
					t.Error(err)
				}
			}
			if err := s.journal.Compact(); err != nil {
				t.Error(err)
			}
		})
	}
	// All of them fight for one name; one wins.
	won := 0
	var mu sync.Mutex
	for range 20 {
		wg.Go(func() {
			err := s.Add(t.Context(), Account{Name: "one"}, "secret")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d added the same name", won)
	}
	want := slices.Collect(s.List(Filter{}))
	closeStore(t, s)
	s, _ = openStore(t, dir, Options{})
	if diff := cmp.Diff(want, slices.Collect(s.List(Filter{})), cmp.Comparer(func(a, b Account) bool {
		return a.Name == b.Name && a.Disabled == b.Disabled && slices.Equal(a.Mechanisms, b.Mechanisms)
	})); diff != "" || len(want) != 81 {
		t.Errorf("%d accounts; %s", len(want), diff)
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
