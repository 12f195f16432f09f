// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ddtb/aaa"
)

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
