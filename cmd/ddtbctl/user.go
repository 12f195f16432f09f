// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

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
	}, t.userAddCommand(), t.userPasswdCommand(), t.userListCommand(), t.userShowCommand(),
		t.userSwitchCommand("disable", "Keep a user from logging in", true),
		t.userSwitchCommand("enable", "Let a user log in again", false),
		t.userDelCommand())
}

func (t *tool) userAddCommand() *cobra.Command {
	var password passwordFlags
	var user control.NewUser
	var endpoint, prefix string
	var noDigest bool
	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Make an account",
		Long: `Make an account. Without --no-digest, what DIGEST-MD5 needs is kept beside the argon2id hash of the password, so that
every TSP client can log in without sending it in clear.`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := attributes(&user, endpoint, prefix); err != nil {
				return err
			}
			secret, generated, err := password.ask(t, args[0])
			if err != nil {
				return err
			}
			user.Name, user.Password, user.Digest = args[0], secret, !noDigest
			return t.withUsers(func(client *control.Client) error {
				if err := client.AddUser(c.Context(), user); err != nil {
					return err
				}
				return t.tellPassword(args[0], "added", secret, generated)
			})
		},
	}
	password.add(add)
	add.Flags().StringVar(&user.Pool, "pool", "", "the `pool` his addresses come from; the daemon's first one if not given")
	add.Flags().IntVar(&user.Sessions, "sessions", 0, "`number` of sessions at a time; session.limit of ddtb.toml if 0")
	add.Flags().StringVar(&endpoint, "endpoint", "", "his own endpoint `address`, out of the pool")
	add.Flags().StringVar(&prefix, "prefix", "", "his own `prefix`, from inside or outside the pool")
	add.Flags().BoolVar(&noDigest, "no-digest", false, "keep nothing for DIGEST-MD5: he can log in with PLAIN only")
	return add
}

// attributes reads what has a form.
func attributes(user *control.NewUser, endpoint, prefix string) error {
	if endpoint != "" {
		addr, err := netip.ParseAddr(endpoint)
		if err != nil {
			return usageError{fmt.Errorf("--endpoint: %q is not an IPv6 address", endpoint)}
		}
		user.Endpoint = &addr
	}
	if prefix != "" {
		p, err := netip.ParsePrefix(prefix)
		if err != nil {
			return usageError{fmt.Errorf("--prefix: %q is not a prefix such as 2001:db8:1234::/48", prefix)}
		}
		user.Prefix = &p
	}
	if user.Sessions < 0 {
		return usageError{fmt.Errorf("--sessions: %d: 0 or more is expected", user.Sessions)}
	}
	return nil
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
				out := t.newList("USER", "STATE", "LOGIN", "POOL", "SESSIONS", "ENDPOINT", "PREFIX", "CHANGED")
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
	row := []string{u.Name, userState(u), mechanisms(u), "-", "-", orDash(u.Endpoint), orDash(u.Prefix), t.ago(u.Changed)}
	if u.Pool != "" {
		row[3] = u.Pool
	}
	if u.Sessions > 0 {
		row[4] = strconv.Itoa(u.Sessions)
	}
	return row
}

func userState(u control.User) string {
	if u.Disabled {
		return "disabled"
	}
	return "enabled"
}

func mechanisms(u control.User) string {
	if u.Digest {
		return "DIGEST-MD5, PLAIN"
	}
	return "PLAIN"
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
				sessions := "the server's default"
				if u.Sessions > 0 {
					sessions = strconv.Itoa(u.Sessions)
				}
				return t.describe(u, []line{
					{"user", u.Name},
					{"state", userState(u)},
					{"can log in with", mechanisms(u)},
					{"pool", u.Pool},
					{"sessions", sessions},
					{"endpoint", orNothing(u.Endpoint)},
					{"prefix", orNothing(u.Prefix)},
					{"created", t.moment(u.Created)},
					{"changed", t.moment(u.Changed)},
				})
			})
		},
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
