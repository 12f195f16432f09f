// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ddtb/aaa"
)

// RFC 9106 has no vector without secret and associated data; this one is of the reference program:
// echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32
const referenceHash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

func testHasher(slots int) *hasher {
	return &hasher{params: quick, random: strings.NewReader(strings.Repeat("randomness", 100)), slots: make(chan struct{}, slots)}
}

func TestArgon2Reference(t *testing.T) {
	h := testHasher(1)
	for password, want := range map[string]bool{"password": true, "passwort": false, "": false} {
		if ok, err := h.verify(t.Context(), password, referenceHash); ok != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", password, ok, err, want)
		}
	}
}

func TestArgon2Text(t *testing.T) {
	h := testHasher(1)
	text, err := h.hash(t.Context(), "secret")
	if err != nil || !strings.HasPrefix(text, "$argon2id$v=19$m=8,t=1,p=1$") {
		t.Fatalf("%s, %v", text, err)
	}
	if ok, err := h.verify(t.Context(), "secret", text); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	again, err := h.hash(t.Context(), "secret")
	if err != nil || again == text {
		t.Errorf("two hashes have one salt: %s, %v", again, err)
	}
	decoy, err := h.decoy()
	if err != nil || len(decoy) != len(text) {
		t.Errorf("decoy %s, %v", decoy, err)
	}
	for _, bad := range []string{
		"", "$", "password", strings.Replace(text, "argon2id", "argon2i", 1), strings.Replace(text, "v=19", "v=16", 1),
		strings.Replace(text, "m=8", "m=7", 1), strings.Replace(text, "m=8", "m=8000000", 1), strings.Replace(text, "t=1", "t=0", 1),
		strings.Replace(text, "t=1", "t=-1", 1), strings.Replace(text, "p=1", "p=0", 1), strings.Replace(text, "m=8,", "", 1),
		text + "$", text[:len(text)-30], text + "!", strings.Replace(text, "t=1", "t=99999999999999999999", 1),
	} {
		if h, err := parseArgon2(bad); err == nil {
			t.Errorf("%q was read as %v", bad, h)
		}
	}
}

func FuzzArgon2(f *testing.F) {
	f.Add(referenceHash)
	f.Add("$argon2id$v=19$m=8,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFhYWFhYQ")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseArgon2(s)
		if err != nil {
			return
		}
		again, err := parseArgon2(h.String())
		if err != nil || again.String() != h.String() || again.Params != h.Params {
			t.Errorf("%q became %q, %v", s, again, err)
		}
	})
}

// No more argon2id at a time than there are slots, and who waits for one can give up.
func TestArgon2Bounded(t *testing.T) {
	h := testHasher(1)
	if err := h.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := h.verify(ctx, "password", referenceHash)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, aaa.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	h.waiting.Store(maxWaiting)
	if _, err := h.verify(t.Context(), "password", referenceHash); !errors.Is(err, aaa.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	h.waiting.Store(0)
	h.leave()
	if ok, err := h.verify(t.Context(), "password", referenceHash); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// With all slots taken, what was verified before or can be verified by HA1 still gets in; the rest waits.
func TestPlainWithoutWaiting(t *testing.T) {
	s, _ := openStore(t, t.TempDir(), Options{Parallel: 1})
	mustAdd(t, s, "secret", Account{Name: "digest"}, Account{Name: "seen", NoDigest: true}, Account{Name: "new", NoDigest: true})
	wantLogin(t, s, plain("seen", "secret"), nil)
	if err := s.hasher.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLogin(t, s, plain("digest", "secret"), nil)
	wantLogin(t, s, plain("seen", "secret"), nil)
	for _, login := range []aaa.Login{plain("new", "secret"), plain("digest", "wrong"), plain("seen", "wrong"), plain("nobody", "secret")} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := s.Authenticate(ctx, login)
			done <- err
		}()
		for s.hasher.waiting.Load() == 0 {
			select {
			case err := <-done:
				t.Fatalf("%v: %v without argon2id", login.Credential, err)
			default:
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, aaa.ErrUnavailable) {
			t.Errorf("%v: %v", login.Credential, err)
		}
	}
	s.hasher.leave()
	if err := s.SetPassword(t.Context(), "seen", "changed"); err != nil {
		t.Fatal(err)
	}
	wantLogin(t, s, plain("seen", "secret"), aaa.ErrRejected)
	wantLogin(t, s, plain("seen", "changed"), nil)
}

// Every failure is answered at the same time after it came.
func TestFailureTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.TempDir(), Options{Realm: testRealm, Argon2: quick, Limits: Limits{Pair: 100, Failure: time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		mustAdd(t, s, "secret", Account{Name: "alice"}, Account{Name: "disabled", Disabled: true}, Account{Name: "argon2", NoDigest: true})
		for _, login := range []aaa.Login{
			plain("alice", "wrong"), plain("argon2", "wrong"), plain("nobody", "secret"), plain("disabled", "secret"), plain("alice", ""),
			digest("alice", "wrong"), digest("argon2", "secret"), digest("nobody", "secret"), digest("disabled", "secret"),
		} {
			start := time.Now()
			if _, err := s.Authenticate(t.Context(), login); err == nil {
				t.Fatalf("%v got in", login.Credential)
			}
			if d := time.Since(start); d != time.Second {
				t.Errorf("%v: answered after %v", login.Credential, d)
			}
		}
		start := time.Now()
		wantLogin(t, s, plain("alice", "secret"), nil)
		if d := time.Since(start); d != 0 {
			t.Errorf("a right login took %v", d)
		}
	})
}

func TestPairLimit(t *testing.T) {
	s, c := openStore(t, t.TempDir(), Options{Limits: Limits{Pair: 3, Every: time.Minute}})
	mustAdd(t, s, "secret", Account{Name: "alice"}, Account{Name: "bob"})
	bad, good := digest("alice", "wrong"), digest("alice", "secret")
	for range 10 {
		wantLogin(t, s, from(good, "192.0.2.1"), nil) // right ones do not count
	}
	for range 3 {
		wantLogin(t, s, from(bad, "192.0.2.1"), aaa.ErrRejected)
	}
	wantLogin(t, s, from(bad, "192.0.2.1"), aaa.ErrThrottled)
	wantLogin(t, s, from(good, "192.0.2.1"), aaa.ErrThrottled) // not verified
	wantLogin(t, s, from(digest("bob", "secret"), "192.0.2.1"), nil)
	wantLogin(t, s, from(good, "192.0.2.2"), nil) // nobody is locked out elsewhere
	c.advance(time.Minute)
	wantLogin(t, s, from(bad, "192.0.2.1"), aaa.ErrRejected)
	wantLogin(t, s, from(good, "192.0.2.1"), aaa.ErrThrottled)
	c.advance(time.Minute)
	wantLogin(t, s, from(good, "192.0.2.1"), nil)
	// An IPv6 source is its /64, and an IPv4 one the same in either form.
	for _, addr := range []string{"2001:db8::1", "2001:db8::2", "2001:db8::3:4:5:6"} {
		wantLogin(t, s, from(bad, addr), aaa.ErrRejected)
	}
	wantLogin(t, s, from(good, "2001:db8::7"), aaa.ErrThrottled)
	wantLogin(t, s, from(good, "2001:db8:0:1::7"), nil)
	for range 3 {
		wantLogin(t, s, from(bad, "192.0.2.3"), aaa.ErrRejected)
	}
	wantLogin(t, s, from(good, "::ffff:192.0.2.3"), aaa.ErrThrottled)
}

// Guesses side by side are no more than guesses one by one.
func TestPairLimitParallel(t *testing.T) {
	s, _ := openStore(t, t.TempDir(), Options{Limits: Limits{Pair: 5, Source: 1000}})
	mustAdd(t, s, "secret", Account{Name: "alice"})
	results := make(chan error)
	for range 100 {
		go func() {
			_, err := s.Authenticate(t.Context(), digest("alice", "wrong"))
			results <- err
		}()
	}
	verified := 0
	for range 100 {
		if err := <-results; errors.Is(err, aaa.ErrRejected) {
			verified++
		} else if !errors.Is(err, aaa.ErrThrottled) {
			t.Error(err)
		}
	}
	if verified != 5 {
		t.Errorf("%d guesses were verified, want 5", verified)
	}
}

// A wrong password can come from anybody who forges the subscriber's address: it keeps no one out who answers a challenge from there.
func TestForgedPasswords(t *testing.T) {
	s, _ := openStore(t, t.TempDir(), Options{Limits: Limits{Pair: 3, Source: 6}})
	mustAdd(t, s, "secret", Account{Name: "alice"}, Account{Name: "bob"})
	for range 3 {
		wantLogin(t, s, plain("alice", "wrong"), aaa.ErrRejected)
		wantLogin(t, s, plain("mallory", "wrong"), aaa.ErrUnknown)
	}
	wantLogin(t, s, plain("alice", "secret"), aaa.ErrThrottled)
	wantLogin(t, s, plain("bob", "secret"), aaa.ErrThrottled)
	wantLogin(t, s, digest("alice", "secret"), nil)
	wantLogin(t, s, digest("bob", "secret"), nil)
}

func TestSourceLimit(t *testing.T) {
	s, c := openStore(t, t.TempDir(), Options{Limits: Limits{Source: 10, SourceEvery: time.Second}})
	mustAdd(t, s, "secret", Account{Name: "alice"}, Account{Name: "bob"})
	wantLogin(t, s, digest("alice", "secret"), nil)
	for i := range 10 {
		wantLogin(t, s, digest(fmt.Sprint("guess", i), "secret"), aaa.ErrUnknown)
	}
	wantLogin(t, s, digest("guess", "secret"), aaa.ErrThrottled)
	wantLogin(t, s, digest("bob", "secret"), aaa.ErrThrottled)
	wantLogin(t, s, digest("alice", "secret"), nil) // she logged in from here before
	wantLogin(t, s, from(digest("bob", "secret"), "192.0.2.77"), nil)
	c.advance(time.Second)
	wantLogin(t, s, digest("bob", "secret"), nil)
}

// Guessed at from everywhere, an account is slowed, not locked, and not at all where it was at home.
func TestAccountLimit(t *testing.T) {
	s, c := openStore(t, t.TempDir(), Options{Limits: Limits{Account: 10, AccountEvery: time.Minute, Slow: 3 * time.Second}})
	mustAdd(t, s, "secret", Account{Name: "alice"}, Account{Name: "bob"})
	wantLogin(t, s, from(digest("alice", "secret"), "198.51.100.1"), nil)
	for i := range 30 {
		wantLogin(t, s, from(digest("alice", "wrong"), fmt.Sprint("192.0.2.", i)), aaa.ErrRejected)
	}
	slow := func(login aaa.Login) bool {
		t.Helper()
		c.waited = nil
		wantLogin(t, s, login, nil)
		return len(c.waited) == 1 && c.waited[0] == 3*time.Second
	}
	if slow(from(digest("alice", "secret"), "198.51.100.1")) {
		t.Error("slowed where she logged in before")
	}
	if !slow(from(digest("alice", "secret"), "198.51.100.2")) {
		t.Error("not slowed at a new place")
	}
	if slow(from(digest("alice", "secret"), "198.51.100.2")) {
		t.Error("slowed where she logged in just now")
	}
	if slow(from(digest("bob", "secret"), "198.51.100.3")) {
		t.Error("bob is slowed for alice")
	}
	c.advance(time.Hour)
	if slow(from(digest("alice", "secret"), "198.51.100.4")) {
		t.Error("slowed for ever")
	}
}

// In front of another backend an unknown name costs and counts nothing.
func TestChained(t *testing.T) {
	s, c := openStore(t, t.TempDir(), Options{Chained: true, Parallel: 1, Limits: Limits{Pair: 1, Source: 1, Account: 1}})
	mustAdd(t, s, "secret", Account{Name: "alice"})
	if err := s.hasher.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		wantLogin(t, s, plain("nobody", "secret"), aaa.ErrUnknown)
	}
	if len(c.waited) != 0 {
		t.Errorf("waited %v", c.waited)
	}
	wantLogin(t, s, plain("alice", "secret"), nil)
}

func TestRecent(t *testing.T) {
	r := recent[int, int]{limit: 10}
	for i := range 1000 {
		r.put(i, i)
		for j := max(0, i-9); j <= i; j++ {
			if v, ok := r.get(j); !ok || v != j {
				t.Fatalf("after %d: %d is forgotten", i, j)
			}
		}
		if n := len(r.young) + len(r.old); n > 20 {
			t.Fatalf("%d keys are remembered", n)
		}
	}
	r.put(999, -1)
	if v, _ := r.get(999); v != -1 {
		t.Errorf("the newer value is %d", v)
	}
}
