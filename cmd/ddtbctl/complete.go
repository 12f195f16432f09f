// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

// maxCompletions bounds what a shell is shown.
const maxCompletions = 200

// names asks the daemon for the words that can stand for an argument.
type names func(ctx context.Context, client *control.Client, begin string) ([]string, error)

// complete makes a shell completion of names for the first count arguments, for all if count is negative. Errors give no words:
// a shell has no place for them.
func (t *tool) complete(ask names, count int) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		if count >= 0 && len(args) >= count {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), 2*time.Second)
		defer cancel()
		client := control.NewClient(t.socket)
		defer client.Close()
		words, err := ask(ctx, client, begin)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

func poolNames(ctx context.Context, client *control.Client, begin string) ([]string, error) {
	pools, err := client.Pools(ctx)
	var words []string
	for _, p := range pools {
		if strings.HasPrefix(p.Name, begin) {
			words = append(words, p.Name)
		}
	}
	return words, err
}

func userNames(ctx context.Context, client *control.Client, begin string) ([]string, error) {
	users, err := client.Users(ctx)
	var words []string
	for _, u := range users {
		if strings.HasPrefix(u.Name, begin) && len(words) < maxCompletions {
			words = append(words, u.Name)
		}
	}
	return words, err
}

// sessionUsers gives the users with sessions.
func sessionUsers(ctx context.Context, client *control.Client, begin string) ([]string, error) {
	var words []string
	seen := map[string]bool{}
	for s, err := range client.Sessions(ctx, control.SessionFilter{}) {
		if err != nil || len(words) == maxCompletions {
			return words, err
		}
		if strings.HasPrefix(s.User, begin) && !seen[s.User] {
			seen[s.User] = true
			words = append(words, s.User)
		}
	}
	return words, nil
}

// done tells that something was done: value as JSON, or a line for people.
func (t *tool) done(value any, format string, args ...any) error {
	if t.json {
		return json.NewEncoder(t.out).Encode(value)
	}
	_, err := fmt.Fprintf(t.out, format+"\n", args...)
	return err
}
