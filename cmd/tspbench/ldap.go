// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	ldapv3 "github.com/go-ldap/ldap/v3"
	"github.com/spf13/cobra"

	"ddtb/aaa/ldap/ldaptest"
	"ddtb/cmd/tspbench/lab"
	"ddtb/tsp/sasl"
)

func ldapCommand() *cobra.Command {
	o := fullPlan().ldap
	command := subject("ldap", "Logins a second with accounts that a directory knows",
		`Starts a slapd with the accounts, and the daemon, and measures complete logins by PLAIN, which the server verifies by a bind,
and by DIGEST-MD5, for which it is asked for the password; in turn with them, how many searches and binds, or searches
alone, the same server does for a client that asks for nothing else. The server has a CPU for itself, as it has a machine of
its own elsewhere; the daemon, its subscribers and the other client have the others.`,
		asRoot(func(ctx context.Context, r *report) error { return ldapLogins(ctx, o, r) }))
	o.flags(command)
	return command
}

// ldapLogins sets no goal for the share: a directory gives entries out of its memory several times as fast as logins go through
// a broker, so that it is not what limits them.
func ldapLogins(ctx context.Context, o aaaOptions, r *report) error {
	return aaaLogins(ctx, "ldap", goal{}, func(cpus *apart) aaaServer { return &ldapServer{contrib: o.contrib, cpus: cpus} }, o, r)
}

// Connections of the bare client: more of them get nothing more out of the server.
const (
	bareSearchers = 8
	bareBinders   = 64
)

const people = "ou=people," + ldaptest.Suffix

// ldapServer is a slapd that knows the accounts.
type ldapServer struct {
	contrib string
	cpus    *apart
	process *ldaptest.Process

	next      atomic.Uint32
	searchers []*ldapv3.Conn
	binders   chan *ldapv3.Conn // idle
}

// start implements subscribers.
func (s *ldapServer) start(space *lab.Space, folder string, accounts int) (config string, err error) {
	s.process, err = ldaptest.New(ldaptest.Options{
		Dir: folder, Contrib: filepath.Join(s.contrib, "ldap"), Launch: s.cpus.launcher(space),
	})
	if err != nil {
		return "", err
	}
	if err := s.process.Run(); err != nil {
		return "", err
	}
	var ldif strings.Builder
	fmt.Fprintf(&ldif, "dn: %s\nobjectClass: organizationalUnit\nou: people\n\n", people)
	for i := range accounts {
		a := account(i)
		fmt.Fprintf(&ldif, "dn: uid=%s,%s\nobjectClass: inetOrgPerson\nuid: %[1]s\ncn: %[1]s\nsn: %[1]s\nuserPassword: %[3]s\n\n", a.User, people, a.Password)
	}
	if err := s.process.Fill(ldif.String()); err != nil {
		return "", err
	}
	secret := filepath.Join(folder, "secret")
	if err := os.WriteFile(secret, []byte(ldaptest.ServicePass), 0o600); err != nil {
		return "", err
	}
	return fmt.Sprintf(`
[aaa]
backends = ["ldap"]
[aaa.ldap]
urls = [%q]
bind_dn = %q
password_file = %q
base = %q
read_secrets = true
`, s.process.URL, ldaptest.DigestDN, secret, people), nil
}

// stop implements subscribers.
func (s *ldapServer) stop() {
	if s.process != nil {
		s.process.Stop()
	}
}

// open implements aaaServer.
func (s *ldapServer) open(space *lab.Space) error {
	s.binders = make(chan *ldapv3.Conn, bareBinders)
	return space.Do(func() error {
		for range bareSearchers {
			conn, err := ldapv3.DialURL(s.process.URL)
			if err != nil {
				return err
			}
			s.searchers = append(s.searchers, conn)
			if err := conn.Bind(ldaptest.DigestDN, ldaptest.ServicePass); err != nil {
				return err
			}
		}
		for range bareBinders {
			conn, err := ldapv3.DialURL(s.process.URL)
			if err != nil {
				return err
			}
			s.binders <- conn
		}
		return nil
	})
}

// ask implements aaaServer.
func (s *ldapServer) ask(_ context.Context, n int, mechanism sasl.Mechanism) error {
	account := account(n)
	conn := s.searchers[s.next.Add(1)%bareSearchers]
	result, err := conn.Search(ldapv3.NewSearchRequest(people, ldapv3.ScopeWholeSubtree, ldapv3.NeverDerefAliases, 2, 0, false,
		"(uid="+ldapv3.EscapeFilter(account.User)+")", []string{"uid", "userPassword"}, nil))
	if err != nil {
		return err
	}
	if len(result.Entries) != 1 || result.Entries[0].GetAttributeValue("userPassword") != account.Password {
		return fmt.Errorf("%s: %d entries, or not his password", account.User, len(result.Entries))
	}
	if mechanism != sasl.Plain {
		return nil
	}
	binder := <-s.binders
	defer func() { s.binders <- binder }()
	return binder.Bind(result.Entries[0].DN, account.Password)
}

// close implements aaaServer.
func (s *ldapServer) close() {
	for _, conn := range s.searchers {
		_ = conn.Close() // the server ends next
	}
	for len(s.binders) > 0 {
		_ = (<-s.binders).Close()
	}
}
