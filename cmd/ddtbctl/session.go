// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

func (t *tool) sessionCommand() *cobra.Command {
	return group(&cobra.Command{Use: "session", Short: "Sessions, each a subscriber's tunnel"},
		t.sessionListCommand(), t.sessionShowCommand(), t.sessionKickCommand(), t.sessionWatchCommand())
}

// filterFlags are the flags that choose sessions.
type filterFlags struct {
	user, address, prefix, client, encap, state string
}

func (f *filterFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.user, "user", "", "only sessions of this `user`")
	c.Flags().StringVar(&f.address, "address", "", "only the session with this inner `address`, its endpoint or within its prefix")
	c.Flags().StringVar(&f.prefix, "prefix", "", "only sessions with an address or prefix within this `prefix`")
	c.Flags().StringVar(&f.client, "client", "", "only sessions from this outer `address`")
	c.Flags().StringVar(&f.encap, "encap", "", "only sessions of this `type`: v6udpv4 or v6v4")
	c.Flags().StringVar(&f.state, "state", "", "only sessions in this `state`: offered, active or ending")
}

// filter reads the flags. A usageError says which of them cannot be read.
func (f *filterFlags) filter() (control.SessionFilter, error) {
	out := control.SessionFilter{User: f.user, Encap: f.encap, State: f.state}
	var err error
	if f.address != "" {
		if out.Address, err = netip.ParseAddr(f.address); err != nil {
			return out, usageError{fmt.Errorf("--address: %q is not an IP address", f.address)}
		}
	}
	if f.prefix != "" {
		if out.Prefix, err = netip.ParsePrefix(f.prefix); err != nil {
			return out, usageError{fmt.Errorf("--prefix: %q is not a prefix such as 2001:db8::/48", f.prefix)}
		}
	}
	if f.client != "" {
		if out.Client, err = netip.ParseAddr(f.client); err != nil {
			return out, usageError{fmt.Errorf("--client: %q is not an IP address", f.client)}
		}
	}
	if err := word("--encap", f.encap, "v6udpv4", "v6v4"); err != nil {
		return out, err
	}
	return out, word("--state", f.state, "offered", "active", "ending")
}

// word demands that an option is empty or one of the words.
func word(option, value string, words ...string) error {
	if value == "" {
		return nil
	}
	for _, w := range words {
		if w == value {
			return nil
		}
	}
	return usageError{fmt.Errorf("%s: %q is none of %v", option, value, words)}
}

func (t *tool) sessionListCommand() *cobra.Command {
	var flags filterFlags
	var all bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List sessions with their counters",
		Long: `List the sessions that match all the given filters, with their counters as of the daemon's last look at the kernel
(session.sweep in ddtb.toml, 10 s by default). SEEN is how long ago the client's last packet came. The list is not sorted.

With --all-nodes: the active sessions of all tunnel servers; those of others as they last wrote them to Redis (fleet.refresh).`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			filter, err := flags.filter()
			if err != nil {
				return err
			}
			filter.All = all
			return t.withClient(func(client *control.Client) error { return t.listSessions(c.Context(), client, filter) })
		},
	}
	flags.add(list)
	list.Flags().BoolVar(&all, "all-nodes", false, "the sessions of all tunnel servers")
	return list
}

func (t *tool) listSessions(ctx context.Context, client *control.Client, filter control.SessionFilter) error {
	titles := []string{"SESSION", "USER", "STATE", "ENDPOINT", "PREFIX", "CLIENT", "TYPE", "AGE", "SEEN", "RX", "TX"}
	if filter.All {
		titles = append(titles, "SERVER")
	}
	out := t.newList(titles...)
	for s, err := range client.Sessions(ctx, filter) {
		if err != nil {
			return out.fail(err)
		}
		row := func() []string { return t.sessionRow(s) }
		if filter.All {
			row = func() []string { return append(t.sessionRow(s), s.Node) }
		}
		if err := out.add(s, row); err != nil {
			return err
		}
	}
	return out.flush()
}

func (t *tool) sessionRow(s control.Session) []string {
	return []string{
		s.ID, s.User, s.State, s.Endpoint.String(), orDash(s.Prefix), address(s.Client), s.Encap,
		t.ago(s.Since), t.ago(s.Seen), octets(s.Traffic.RxOctets), octets(s.Traffic.TxOctets),
	}
}

func (t *tool) sessionShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show SESSION",
		Short: "Show a session, or all of a user",
		Long: `Show what there is to know of a session. SESSION is its id, an address of it (the endpoint or one within the
delegated prefix), its prefix, or the name of a user, whose sessions are all shown.`,
		Args:              exactly(1),
		ValidArgsFunction: t.complete(sessionUsers, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withClient(func(client *control.Client) error {
				sessions, err := findSessions(c.Context(), client, args[0])
				if err != nil {
					return err
				}
				for i, s := range sessions {
					if i > 0 && !t.json {
						fmt.Fprintln(t.out)
					}
					if err := t.describe(s, t.sessionLines(s)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// findSessions gives the sessions that a word of the command line names, here or else at another server: at least one, or an
// error.
func findSessions(ctx context.Context, client *control.Client, name string) ([]control.Session, error) {
	filter := control.SessionFilter{User: name}
	if addr, err := netip.ParseAddr(name); err == nil {
		filter = control.SessionFilter{Address: addr}
	} else if prefix, err := netip.ParsePrefix(name); err == nil {
		filter = control.SessionFilter{Prefix: prefix}
	} else {
		s, err := client.Session(ctx, name)
		var refused *control.Error
		if err == nil {
			return []control.Session{s}, nil
		} else if !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
			return nil, err
		}
	}
	found, err := listed(ctx, client, filter)
	if err == nil && len(found) == 0 {
		filter.All = true
		found, err = listed(ctx, client, filter)
	}
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no session %q: expected a session's id, an address or prefix of it, or its user", name)
	}
	return found, nil
}

// listed gives all sessions that match.
func listed(ctx context.Context, client *control.Client, filter control.SessionFilter) ([]control.Session, error) {
	var found []control.Session
	for s, err := range client.Sessions(ctx, filter) {
		if err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	return found, nil
}

func (t *tool) sessionLines(s control.Session) []line {
	user := s.User
	if s.Backend != "" {
		user += ", verified by " + s.Backend
	}
	expires := ""
	if s.Expires != nil {
		expires = t.moment(*s.Expires)
	}
	mtu, keepalive := "", ""
	if s.MTU > 0 { // else it is of another server, and not known here
		mtu, keepalive = strconv.Itoa(s.MTU), span(time.Duration(s.Keepalive))
	}
	return []line{
		{"session", s.ID},
		{"node", s.Node},
		{"user", user},
		{"state", s.State},
		{"endpoint", s.Endpoint.String()},
		{"prefix", orNothing(s.Prefix)},
		{"routes", joined(s.Routes)},
		{"type", s.Encap},
		{"client", address(s.Client)},
		{"server", address(s.Local)},
		{"pool", s.Pool},
		{"tunnel id", strconv.FormatUint(uint64(s.TunnelID), 10)},
		{"mtu", mtu},
		{"keepalive", keepalive},
		{"since", t.moment(s.Since)},
		{"last seen", t.moment(s.Seen)},
		{"ends", expires},
		{"traffic", traffic(s.Traffic)},
	}
}

func (t *tool) sessionKickCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kick SESSION...",
		Short: "End sessions",
		Long: `End sessions: the tunnels stop at once, accounting says Admin-Reset. SESSION is an id, an address, a prefix or a user, as
for show; every session that it names is ended. Nothing keeps the clients from logging in again: to do that, disable
the account first (ddtbctl user disable NAME --kick).`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("which session? An id, an address, a prefix or a user is expected")}
			}
			return nil
		},
		ValidArgsFunction: t.complete(sessionUsers, -1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withClient(func(client *control.Client) error {
				var failed error
				for _, name := range args {
					failed = errors.Join(failed, t.kick(c.Context(), client, name))
				}
				return failed
			})
		},
	}
}

// kick ends the sessions that name stands for, and tells of each.
func (t *tool) kick(ctx context.Context, client *control.Client, name string) error {
	sessions, err := findSessions(ctx, client, name)
	if err != nil {
		return err
	}
	out := t.newList("SESSION", "USER", "ENDPOINT")
	for _, s := range sessions {
		if _, err := client.Kick(ctx, s.ID); err != nil {
			return out.fail(fmt.Errorf("session %s of %s: %w", s.ID, s.User, err))
		}
		if err := out.add(s, func() []string { return []string{s.ID, s.User, s.Endpoint.String()} }); err != nil {
			return err
		}
	}
	return out.flush()
}
