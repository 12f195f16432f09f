// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

// buried is what has been done, as --json shows it.
type buried struct {
	Server   string `json:"server"`
	Ended    int    `json:"ended"`    // sessions
	Released int    `json:"released"` // leases
}

func (t *tool) serverBuryCommand() *cobra.Command {
	var yes bool
	var request control.BurialRequest
	var address string
	bury := &cobra.Command{
		Use:   "bury SERVER",
		Short: "End what a tunnel server has left that will not come back",
		Long: `End the sessions that a tunnel server has left which is gone for good, since its host is lost: each gets its Stop record, sent by
this server in the name of the other one, and gives its address and prefix back. They rest and then go to others, so nothing may
forward for them any more: switch the host off first. The counters are those that the last Interim-Update told, or later ones.

It is refused while the server is heard of, for some seconds after, and while another server does it. A server that only restarts
needs it not: it goes on with its sessions. After an error the same command does what is left.

RADIUS knows the sessions by the names that the other server gave itself. If aaa.radius.nas_identifier or nas_address was set in
its ddtb.toml, give the same here; else its name is given, and the address that each tunnel ended at.`,
		Args:              exactly(1),
		ValidArgsFunction: t.complete(goneNames, 1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if address != "" {
				if request.NASAddress, err = netip.ParseAddr(address); err != nil {
					return usageError{fmt.Errorf("--nas-address: %w", err)}
				}
			}
			return t.withClient(func(client *control.Client) error {
				left, err := client.Left(c.Context(), args[0])
				if err != nil {
					return err
				}
				if left.LeftReleases > 0 && !yes {
					if err := t.agree(args[0], left); err != nil {
						return err
					}
				}
				done := buried{Server: args[0]}
				if err := bury(c.Context(), client, request, &done); err != nil {
					return err
				}
				return t.done(done, "%s: %s sessions ended, %s leases given back", done.Server, grouped(done.Ended), grouped(done.Released))
			})
		},
	}
	flags := bury.Flags()
	flags.BoolVar(&yes, "yes", false, "do not ask")
	flags.StringVar(&request.NASIdentifier, "nas-identifier", "", "what the server called itself in RADIUS")
	flags.StringVar(&address, "nas-address", "", "the address it gave itself in RADIUS")
	return bury
}

// agree tells what is going to be done, and asks whether it is wanted.
func (t *tool) agree(server string, left control.Burial) error {
	if t.ask == nil {
		return usageError{errors.New("no terminal to ask for consent: use --yes")}
	}
	fmt.Fprintf(t.err, `%s has left %s sessions without Stop record and %s leases. The Stop records are sent now, in its name; addresses and
prefixes rest for lease.quarantine and go to others then. Its host must be off for good.
`, server, grouped(left.Left), grouped(left.LeftReleases))
	answer, err := t.ask("Type the server's name to go on: ")
	if err == nil && strings.TrimSpace(answer) != server {
		err = errors.New("that is not its name; nothing was done")
	}
	return err
}

// bury asks until nothing is left. Each answer is of some thousand sessions.
func bury(ctx context.Context, client *control.Client, request control.BurialRequest, done *buried) error {
	for {
		part, err := client.Bury(ctx, done.Server, request)
		if err != nil {
			return fmt.Errorf("after %d sessions: %w", done.Ended, err)
		}
		done.Ended, done.Released = done.Ended+part.Ended, done.Released+part.Released
		if part.LeftReleases == 0 {
			return nil
		}
		if part.Released == 0 {
			return fmt.Errorf("after %d sessions: %d leases are left and none could be given back", done.Ended, part.LeftReleases)
		}
	}
}

func goneNames(ctx context.Context, client *control.Client, begin string) ([]string, error) {
	nodes, err := client.Nodes(ctx)
	var words []string
	for _, n := range nodes {
		if n.State == "gone" && strings.HasPrefix(n.Name, begin) {
			words = append(words, n.Name)
		}
	}
	return words, err
}
