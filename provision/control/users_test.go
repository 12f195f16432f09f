// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"iter"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/local"
)

// memoryUsers is the twin of LocalUsers: accounts in memory.
type memoryUsers struct {
	mu        sync.Mutex
	users     map[string]User
	passwords map[string]string
}

func newMemoryUsers() *memoryUsers {
	return &memoryUsers{users: make(map[string]User), passwords: make(map[string]string)}
}

func (m *memoryUsers) List(context.Context) iter.Seq[User] {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Values(slices.SortedFunc(maps.Values(m.users), func(a, b User) int { return strings.Compare(a.Name, b.Name) }))
}

func (m *memoryUsers) Get(_ context.Context, name string) (User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	user, ok := m.users[name]
	if !ok {
		return User{}, &Error{http.StatusNotFound, "no such account", ""}
	}
	return user, nil
}

func (m *memoryUsers) Add(_ context.Context, n NewUser) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.users[n.Name]; ok {
		return &Error{http.StatusConflict, "account exists", ""}
	}
	if n.Name == "" || n.Password == "" {
		return &Error{http.StatusBadRequest, "name or password is empty", ""}
	}
	user := User{
		Name: n.Name, Digest: n.Digest, Mechanisms: []string{"PLAIN"}, Created: time.Now().UTC(), Changed: time.Now().UTC(), Expires: n.Expires,
		Note: n.Note, Pool: n.Pool, Sessions: n.Sessions, Endpoint: n.Endpoint, Prefix: n.Prefix, NoPrefix: n.NoPrefix,
	}
	if n.Digest {
		user.Mechanisms = []string{"DIGEST-MD5", "PLAIN"}
	}
	m.users[n.Name], m.passwords[n.Name] = user, n.Password
	return nil
}

func (m *memoryUsers) Change(_ context.Context, name string, change UserChange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	user, ok := m.users[name]
	if !ok {
		return &Error{http.StatusNotFound, "no such account", ""}
	}
	if change.Password != nil {
		if *change.Password == "" {
			return &Error{http.StatusBadRequest, "the password is empty", ""}
		}
		m.passwords[name] = *change.Password
	}
	assign(&user.Disabled, change.Disabled)
	assign(&user.Digest, change.Digest)
	assign(&user.Note, change.Note)
	assign(&user.Pool, change.Pool)
	assign(&user.Sessions, change.Sessions)
	assign(&user.NoPrefix, change.NoPrefix)
	if change.Endpoint != nil {
		if user.Endpoint = change.Endpoint; !change.Endpoint.IsValid() {
			user.Endpoint = nil
		}
	}
	if change.Prefix != nil {
		user.Prefix = prefixOf(*change.Prefix)
	}
	m.users[name] = user
	return nil
}

func (m *memoryUsers) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.users[name]; !ok {
		return &Error{http.StatusNotFound, "no such account", ""}
	}
	delete(m.users, name)
	return nil
}

// verify tells whether a password is an account's.
func (m *memoryUsers) verify(name, password string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.users[name].Disabled && m.passwords[name] == password
}

// TestUsers runs the same dialogue with every Users, over a real socket.
func TestUsers(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		users := newMemoryUsers()
		suite(t, users, users.verify)
	})
	t.Run("local", func(t *testing.T) {
		store, err := local.Open(t.TempDir(), local.Options{Realm: "test", Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		suite(t, LocalUsers(store), func(name, password string) bool {
			_, err := store.Authenticate(t.Context(), aaa.Login{
				Credential: aaa.Password{Username: name, Password: password}, Client: netip.MustParseAddrPort("192.0.2.7:1"),
			})
			return err == nil
		})
	})
}

func suite(t *testing.T, users Users, verify func(name, password string) bool) {
	w := start(t, func(d *Deps) { d.Users = users })
	ctx := t.Context()
	endpoint, prefix := netip.MustParseAddr("2001:db8:f000:1::7"), netip.MustParsePrefix("2001:db8:77::/48")
	alice := NewUser{
		Name: "alice@example.org", Password: "correct horse", Digest: true, Note: "the first", Pool: "main", Sessions: 2,
		Endpoint: &endpoint, Prefix: &prefix,
	}
	if err := w.AddUser(ctx, alice); err != nil {
		t.Fatal(err)
	}
	refused(t, w.AddUser(ctx, alice), http.StatusConflict)
	refused(t, w.AddUser(ctx, NewUser{Password: "x y z w"}), http.StatusBadRequest)
	if err := w.AddUser(ctx, NewUser{Name: "Bob", Password: "battery staple"}); err != nil {
		t.Fatal(err)
	}
	got := must[User](t)(w.User(ctx, alice.Name))
	if got.Name != alice.Name || !got.Digest || got.Disabled || got.Note != "the first" || got.Pool != "main" || got.Sessions != 2 ||
		*got.Endpoint != endpoint || *got.Prefix != prefix || got.Created.IsZero() || !slices.Contains(got.Mechanisms, "PLAIN") {
		t.Errorf("account is %+v", got)
	}
	if all := must[[]User](t)(w.Users(ctx)); len(all) != 2 || all[0].Name != "Bob" || all[0].Digest || all[0].Endpoint != nil {
		t.Errorf("accounts are %+v", all)
	}
	if !verify(alice.Name, alice.Password) {
		t.Error("the password is not right")
	}

	password, yes, none, pool := "another one", true, 0, ""
	var noAddr netip.Addr
	change := UserChange{Password: &password, Pool: &pool, Sessions: &none, Endpoint: &noAddr}
	if err := w.ChangeUser(ctx, alice.Name, change); err != nil {
		t.Fatal(err)
	}
	if got := must[User](t)(w.User(ctx, alice.Name)); got.Pool != "" || got.Sessions != 0 || got.Endpoint != nil || *got.Prefix != prefix {
		t.Errorf("account is %+v", got)
	}
	if verify(alice.Name, alice.Password) || !verify(alice.Name, password) {
		t.Error("the password did not change")
	}
	if err := w.ChangeUser(ctx, alice.Name, UserChange{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	if got := must[User](t)(w.User(ctx, alice.Name)); !got.Disabled || verify(alice.Name, password) {
		t.Error("the account is not disabled")
	}
	empty := ""
	refused(t, w.ChangeUser(ctx, alice.Name, UserChange{Password: &empty}), http.StatusBadRequest)
	if err := w.DeleteUser(ctx, alice.Name); err != nil {
		t.Fatal(err)
	}
	refused(t, w.DeleteUser(ctx, alice.Name), http.StatusNotFound)
	refused(t, w.ChangeUser(ctx, alice.Name, UserChange{Disabled: &yes}), http.StatusNotFound)
	_, err := w.User(ctx, alice.Name)
	refused(t, err, http.StatusNotFound)
}

func TestNoUsers(t *testing.T) {
	w := start(t, func(d *Deps) { d.Users = nil })
	_, err := w.Users(t.Context())
	refused(t, err, http.StatusNotFound)
	refused(t, w.AddUser(t.Context(), NewUser{Name: "a"}), http.StatusNotFound)
}
