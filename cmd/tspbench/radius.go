// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ddtb/aaa"
	"ddtb/aaa/radius"
	"ddtb/aaa/radius/radiustest"
	"ddtb/cmd/tspbench/lab"
	"ddtb/tsp/sasl"
)

func radiusCommand() *cobra.Command {
	o := fullPlan().radius
	command := subject("radius", "Logins a second with accounts that a FreeRADIUS knows",
		`Starts a FreeRADIUS with the files of contrib/freeradius and with the accounts in an SQL database, as most have them, and the
daemon, and measures complete logins by PLAIN and by DIGEST-MD5, which the server verifies; in turn with them, what the same
server does for a client that asks it for nothing else, by the same transport. The server has a CPU for itself, as it has a
machine of its own elsewhere; the daemon, its subscribers and the other client have the others.`,
		asRoot(func(ctx context.Context, r *report) error { return radiusLogins(ctx, o, r) }))
	o.flags(command)
	return command
}

func radiusLogins(ctx context.Context, o aaaOptions, r *report) error {
	return aaaLogins(ctx, "radius", shareGoal, func(cpus *apart) aaaServer { return &radiusServer{contrib: o.contrib, cpus: cpus} }, o, r)
}

// radiusServer is a FreeRADIUS with the accounts in its database.
type radiusServer struct {
	contrib string
	cpus    *apart
	process *radiustest.Process
	client  *radius.Client
	auth    *radius.Authenticator
}

// start implements subscribers.
func (s *radiusServer) start(space *lab.Space, folder string, accounts int) (config string, err error) {
	s.process, err = radiustest.New(radiustest.Options{
		Dir: folder, Contrib: filepath.Join(s.contrib, "freeradius"), SQL: subscribersTable(accounts), Launch: s.cpus.launcher(space),
	})
	if err != nil {
		return "", err
	}
	if err := s.process.Run(); err != nil {
		return "", err
	}
	secret := filepath.Join(folder, "secret")
	if err := os.WriteFile(secret, []byte(radiustest.Secret), 0o600); err != nil {
		return "", err
	}
	return fmt.Sprintf(`
[aaa]
backends = ["radius"]
[aaa.radius]
digest = "radius-sasl"
[[aaa.radius.server]]
address = %q
secret_file = %q
`, s.process.Auth, secret), nil
}

// stop implements subscribers.
func (s *radiusServer) stop() {
	if s.process != nil {
		s.process.Stop()
	}
}

// open implements aaaServer. The socket that the first request opens is the client's only one: it has room for more requests
// than go out at a time.
func (s *radiusServer) open(space *lab.Space) (err error) {
	s.client, err = radius.NewClient(radius.Options{
		Servers: []radius.Server{{Address: s.process.Auth, Secret: []byte(radiustest.Secret)}},
	})
	if err != nil {
		return err
	}
	s.auth, err = radius.NewAuthenticator(s.client, radius.AuthOptions{
		NAS: radius.NAS{Identifier: "bench"}, Digest: radius.DigestSASL, Style: radius.StyleSterman,
	})
	if err != nil {
		return err
	}
	return space.Do(func() error { return s.ask(context.Background(), 0, sasl.Plain) })
}

// ask implements aaaServer.
func (s *radiusServer) ask(ctx context.Context, n int, mechanism sasl.Mechanism) error {
	_, err := s.auth.Authenticate(ctx, aaa.Login{
		Credential: credential(account(n), mechanism),
		Client:     netip.AddrPortFrom(loginSource(n), firstLoginPort),
		Server:     netip.AddrPortFrom(server4.Addr(), tspPort),
	})
	return err
}

// close implements aaaServer.
func (s *radiusServer) close() {
	ended, end := context.WithCancel(context.Background())
	end()
	_ = s.client.Run(ended) // closes its sockets at once
}

// subscribersTable fills FreeRADIUS's database with accounts, each of them in a group.
func subscribersTable(accounts int) string {
	var checks, groups []string
	for i := range accounts {
		a := account(i)
		checks = append(checks, fmt.Sprintf("('%s','Cleartext-Password',':=','%s')", a.User, a.Password))
		groups = append(groups, fmt.Sprintf("('%s','homes',1)", a.User))
	}
	return "BEGIN;\nINSERT INTO radgroupreply (groupname,attribute,op,value) VALUES ('homes','Acct-Interim-Interval',':=','3600');\n" +
		inserts("radcheck (username,attribute,op,value)", checks) + inserts("radusergroup (username,groupname,priority)", groups) + "COMMIT;\n"
}

// inserts puts rows into a table, many with one statement: FreeRADIUS takes no more than 10 MB of them.
func inserts(table string, rows []string) string {
	var sql strings.Builder
	for some := range slices.Chunk(rows, 500) {
		fmt.Fprintf(&sql, "INSERT INTO %s VALUES %s;\n", table, strings.Join(some, ","))
	}
	return sql.String()
}
