// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

func (t *tool) userCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "user",
		Short: "Local accounts of subscribers",
		Long: `Local accounts of subscribers (backend "local"). The running daemon keeps them: a change takes effect at once, and
nothing can be changed while it is down.

A password is never given on the command line, where others could see it. It is asked for on the terminal, read as one
line from standard input (--password-stdin) or a file (--password-file), or made up and printed once (--generate).`,
	}, t.userAddCommand(), t.userSetCommand(), t.userPasswdCommand(), t.userListCommand(), t.userShowCommand(),
		t.userSwitchCommand("disable", "Keep a user from logging in", true),
		t.userSwitchCommand("enable", "Let a user log in again", false),
		t.userDelCommand())
}

func (t *tool) userAddCommand() *cobra.Command {
	var password passwordFlags
	var account accountFlags
	var expires string
	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Make an account",
		Long: `Make an account. Without --no-digest, what DIGEST-MD5 needs is kept beside the argon2id hash of the password, so that
every TSP client can log in without sending it in clear.`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			user, err := account.newUser(args[0], expires)
			if err != nil {
				return err
			}
			secret, generated, err := password.ask(t, args[0])
			if err != nil {
				return err
			}
			user.Password = secret
			return t.withUsers(func(client *control.Client) error {
				if err := client.AddUser(c.Context(), user); err != nil {
					return err
				}
				return t.tellPassword(args[0], "added", secret, generated)
			})
		},
	}
	password.add(add)
	account.add(add)
	add.Flags().StringVar(&expires, "expires", "", "no login from this `date` on, 2027-12-31 or 2027-12-31T12:00:00Z")
	return add
}

func (t *tool) userSetCommand() *cobra.Command {
	var account accountFlags
	set := &cobra.Command{
		Use:   "set NAME",
		Short: "Change what an account may have",
		Long: `Change what an account may have: only what is given, from the next login on. An empty --pool, --endpoint, --prefix or
--note takes it away; --no-prefix=false and --no-digest=false turn back. What --no-digest=false and --cram allow comes into being with
the next password.`,
		Args:              exactly(1),
		ValidArgsFunction: t.complete(userNames, 1),
		RunE: func(c *cobra.Command, args []string) error {
			change, err := account.change(c.Flags().Changed)
			if err != nil {
				return err
			}
			if change == (control.UserChange{}) {
				return usageError{errors.New("nothing to change: a flag is expected")}
			}
			return t.withUsers(func(client *control.Client) error {
				if err := client.ChangeUser(c.Context(), args[0], change); err != nil {
					return err
				}
				return t.done(map[string]any{"user": args[0], "done": "changed"}, "changed %s", args[0])
			})
		},
	}
	account.add(set)
	return set
}

func (t *tool) userPasswdCommand() *cobra.Command {
	var password passwordFlags
	passwd := &cobra.Command{
		Use:               "passwd NAME",
		Short:             "Change a password",
		Long:              "Change the password of an account. Sessions under way go on.",
		Args:              exactly(1),
		ValidArgsFunction: t.complete(userNames, 1),
		RunE: func(c *cobra.Command, args []string) error {
			secret, generated, err := password.ask(t, args[0])
			if err != nil {
				return err
			}
			return t.withUsers(func(client *control.Client) error {
				if err := client.ChangeUser(c.Context(), args[0], control.UserChange{Password: &secret}); err != nil {
					return err
				}
				return t.tellPassword(args[0], "changed", secret, generated)
			})
		},
	}
	password.add(passwd)
	return passwd
}

func (t *tool) userListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the accounts",
		Args:  exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withUsers(func(client *control.Client) error {
				users, err := client.Users(c.Context())
				if err != nil {
					return err
				}
				out := t.newList("USER", "STATE", "LOGIN", "POOL", "SESSIONS", "ENDPOINT", "PREFIX", "PASSWORD SET", "NOTE")
				for _, u := range users {
					if err := out.add(u, func() []string { return t.userRow(u) }); err != nil {
						return err
					}
				}
				return out.flush()
			})
		},
	}
}

func (t *tool) userRow(u control.User) []string {
	row := []string{u.Name, t.userState(u), strings.Join(u.Mechanisms, " "), "-", "-", orDash(u.Endpoint), orDash(u.Prefix), t.ago(u.Changed) + " ago", u.Note}
	if u.Pool != "" {
		row[3] = u.Pool
	}
	if u.Sessions > 0 {
		row[4] = strconv.Itoa(u.Sessions)
	}
	return row
}

func (t *tool) userState(u control.User) string {
	switch {
	case u.Disabled:
		return "disabled"
	case u.Expires != nil && !t.now().Before(*u.Expires):
		return "expired"
	default:
		return "enabled"
	}
}

func (t *tool) userShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show NAME",
		Short:             "Show one account",
		Args:              exactly(1),
		ValidArgsFunction: t.complete(userNames, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withUsers(func(client *control.Client) error {
				u, err := client.User(c.Context(), args[0])
				if err != nil {
					return err
				}
				return t.describe(u, t.userLines(u))
			})
		},
	}
}

func (t *tool) userLines(u control.User) []line {
	sessions, prefix, expires := "the server's default", orNothing(u.Prefix), ""
	if u.Sessions > 0 {
		sessions = strconv.Itoa(u.Sessions)
	}
	if u.NoPrefix {
		prefix = "none is delegated"
	}
	if u.Expires != nil {
		expires = t.moment(*u.Expires)
	}
	return []line{
		{"user", u.Name},
		{"note", u.Note},
		{"state", t.userState(u)},
		{"can log in with", strings.Join(u.Mechanisms, " ")},
		{"expires", expires},
		{"pool", u.Pool},
		{"sessions", sessions},
		{"endpoint", orNothing(u.Endpoint)},
		{"prefix", prefix},
		{"created", t.moment(u.Created)},
		{"password set", t.moment(u.Changed)},
	}
}

func (t *tool) userSwitchCommand(name, short string, disable bool) *cobra.Command {
	var kick bool
	c := &cobra.Command{
		Use:               name + " NAME",
		Short:             short,
		Args:              exactly(1),
		ValidArgsFunction: t.complete(userNames, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withUsers(func(client *control.Client) error {
				if err := client.ChangeUser(c.Context(), args[0], control.UserChange{Disabled: &disable}); err != nil {
					return err
				}
				return t.finish(c.Context(), client, args[0], name+"d", kick)
			})
		},
	}
	if disable {
		c.Flags().BoolVar(&kick, "kick", false, "end his sessions too")
	}
	return c
}

func (t *tool) userDelCommand() *cobra.Command {
	var kick bool
	del := &cobra.Command{
		Use:               "del NAME",
		Short:             "Remove an account",
		Long:              "Remove an account. Sessions under way go on, unless --kick ends them.",
		Args:              exactly(1),
		ValidArgsFunction: t.complete(userNames, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withUsers(func(client *control.Client) error {
				if err := client.DeleteUser(c.Context(), args[0]); err != nil {
					return err
				}
				return t.finish(c.Context(), client, args[0], "removed", kick)
			})
		},
	}
	del.Flags().BoolVar(&kick, "kick", false, "end his sessions too")
	return del
}

// finish ends a user's sessions if that was asked for, and tells what was done.
func (t *tool) finish(ctx context.Context, client *control.Client, name, verb string, kick bool) error {
	ended := []string{}
	if kick {
		kicked, err := client.KickUser(ctx, name)
		if err != nil {
			return fmt.Errorf("%s is %s, but his sessions were not ended: %w", name, verb, err)
		}
		ended = append(ended, kicked.Sessions...)
	}
	told := fmt.Sprintf("%s %s", verb, name)
	if kick {
		told += fmt.Sprintf(", %d sessions ended", len(ended))
	}
	return t.done(map[string]any{"user": name, "done": verb, "kicked": ended}, "%s", told)
}

// withUsers is withClient for accounts: it says what an unreachable daemon means for them.
func (t *tool) withUsers(f func(*control.Client) error) error {
	err := t.withClient(f)
	if unavailable(err) {
		return fmt.Errorf("%w\nThe accounts are kept by the running daemon and can be managed only through it: start it first (systemctl start ddtb)", err)
	}
	return err
}
