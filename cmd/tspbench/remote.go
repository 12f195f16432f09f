// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ddtb/cmd/tspbench/logins"
)

// remoteFlags are those of a login at a server that runs already.
type remoteFlags struct {
	server, user, passwordFile, accounts string
	count                                int
	rate                                 float64
	window                               int
}

func (f *remoteFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.server, "server", "", "server to log in at, host or host:port")
	flags.StringVar(&f.user, "user", "", "account at the server")
	flags.StringVar(&f.passwordFile, "password-file", "", "file with its password")
	flags.StringVar(&f.accounts, "accounts", "", "file of name:password lines, used in turn")
	flags.IntVar(&f.count, "count", 100, "logins at the server")
	flags.Float64Var(&f.rate, "rate", 10, "logins a second at the server, at most")
	flags.IntVar(&f.window, "concurrency", 16, "logins at the server at a time")
	command.MarkFlagsMutuallyExclusive("user", "accounts")
	command.MarkFlagsRequiredTogether("user", "password-file")
}

func (f *remoteFlags) options(ctx context.Context) (remoteOptions, error) {
	o := remoteOptions{count: f.count, rate: f.rate, window: f.window}
	if f.count < 1 || f.rate <= 0 || f.window < 1 {
		return o, errors.New("--count, --rate and --concurrency must be more than 0")
	}
	host, port, err := net.SplitHostPort(f.server)
	if err != nil {
		host, port = f.server, strconv.Itoa(tspPort)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return o, fmt.Errorf("--server: port %q", port)
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return o, fmt.Errorf("--server: %w", err)
	}
	o.host, o.server = host, netip.AddrPortFrom(addresses[0].Unmap(), uint16(number))
	if f.accounts != "" {
		o.accounts, err = readAccounts(f.accounts)
		return o, err
	}
	if f.user == "" {
		return o, errors.New("--user with --password-file, or --accounts, is needed with --server")
	}
	password, err := os.ReadFile(f.passwordFile)
	o.accounts = []logins.Account{{User: f.user, Password: strings.TrimRight(string(password), "\r\n")}}
	return o, err
}

// remoteOptions are the settings of the subject "login" against a server that runs already.
type remoteOptions struct {
	server   netip.AddrPort
	host     string // as the subscribers name it
	accounts []logins.Account
	count    int
	rate     float64
	window   int
}

// remoteLogin measures logins at a server somewhere, at a bounded rate. Each login is a client of its own, with a socket
// of its own; the accounts are used in turn, as many at a time as there are at most: a subscriber has one login under way.
func remoteLogin(ctx context.Context, o remoteOptions, r *report) error {
	r.progress("login: %d logins at %s, %g a second at most", o.count, o.server, o.rate)
	result, err := logins.Run(ctx, logins.Config{
		Server: o.server, Host: o.host, Count: o.count, Rate: o.rate, Window: min(o.window, len(o.accounts)), Random: rand.Reader,
		Account: func(n int) logins.Account { return o.accounts[n%len(o.accounts)] },
	})
	switch {
	case err != nil:
		return err
	case len(result.Sessions) == 0:
		return fmt.Errorf("none of %d logins came through: %s", o.count, reasons(result))
	case result.Failed() > 0:
		r.progress("login: %d failed: %s", result.Failed(), reasons(result))
	}
	loginFigures("login.remote", goal{}, result, r)
	r.add("login.remote.failed", float64(result.Failed()), "logins", goal{0, atMost})
	return nil
}
