// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"ddtb/aaa/local"
	"ddtb/cmd/tspbench/logins"
)

// account is the n-th subscriber's.
func account(n int) logins.Account {
	return logins.Account{User: fmt.Sprintf("subscriber%07d", n), Password: fmt.Sprintf("secret%07d", n)}
}

// cheapArgon2 keeps the making of many accounts from taking an hour. The logins measured use DIGEST-MD5, which has no
// part in it.
var cheapArgon2 = local.Params{Memory: 8, Time: 1, Threads: 1}

// makeAccounts fills a daemon's account store before the daemon runs.
func makeAccounts(ctx context.Context, folder string, n int) (err error) {
	store, err := local.Open(folder, local.Options{Realm: realm, Logger: zerolog.Nop(), Argon2: cheapArgon2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(1024) // so many wait for the disk at once
	for i := range n {
		group.Go(func() error {
			a := account(i)
			return store.Add(ctx, local.Account{Name: a.User}, a.Password)
		})
	}
	return group.Wait()
}

// readAccounts reads a file of "name:password" lines.
func readAccounts(path string) ([]logins.Account, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var accounts []logins.Account
	for lines := bufio.NewScanner(file); lines.Scan(); {
		user, password, found := strings.Cut(lines.Text(), ":")
		if !found {
			return nil, fmt.Errorf("%s:%d: want name:password", path, len(accounts)+1)
		}
		accounts = append(accounts, logins.Account{User: user, Password: password})
	}
	if len(accounts) == 0 {
		return nil, fmt.Errorf("%s: no accounts", path)
	}
	return accounts, nil
}
