// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

func (t *tool) serverCommand() *cobra.Command {
	return group(&cobra.Command{Use: "server", Short: "Tunnel servers: this one, and those it shares Redis with"},
		t.serverListCommand(), t.serverDrainCommand(), t.serverBuryCommand())
}

func (t *tool) serverListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tunnel servers and how loaded they are",
		Long: `List the tunnel servers that this one knows of by Redis, and itself. STATE is serving; broking, if it only sends clients to
others; draining or drained; stopped, if its daemon has ended; or gone, if it has not been heard of for a few seconds. What has
been gone for a day is not listed.`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withClient(func(client *control.Client) error {
				nodes, err := client.Nodes(c.Context())
				if err != nil {
					return err
				}
				out := t.newList("SERVER", "ADDRESS", "STATE", "SESSIONS", "LOAD", "VERSION", "UP", "SEEN")
				for _, n := range nodes {
					if err := out.add(n, func() []string { return t.serverRow(n) }); err != nil {
						return err
					}
				}
				return out.flush()
			})
		},
	}
}

func (t *tool) serverRow(n control.Node) []string {
	row := []string{n.Name, "-", n.State, "-", "-", "-", "-", t.ago(n.Seen)}
	if n.Started == nil {
		return row
	}
	row[1], row[3], row[5], row[6] = n.Address.String(), grouped(n.Sessions), n.Version, t.ago(*n.Started)
	if n.Capacity > 0 {
		row[4] = fmt.Sprintf("%.1f %%", 100*float64(n.Sessions)/float64(n.Capacity))
	}
	return row
}

func (t *tool) serverDrainCommand() *cobra.Command {
	var undo bool
	drain := &cobra.Command{
		Use:   "drain [SERVER]",
		Short: "Empty a tunnel server before maintenance",
		Long: `Make a tunnel server (this one, unless another is named) take no more sessions: new clients are sent to the other servers,
and the sessions there are end one after another (fleet.drain_pace in ddtb.toml). Their clients notice within a keepalive or two,
come back, are sent to another server and get the same addresses there, if it has the same pools. It is refused while no other
server could take them. It lasts until --undo, or until the daemon starts anew.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("%d servers given, one or none expected", len(args))}
			}
			return nil
		},
		ValidArgsFunction: t.complete(serverNames, 1),
		RunE: func(c *cobra.Command, args []string) error {
			name := strings.Join(args, "")
			return t.withClient(func(client *control.Client) error {
				if err := client.Drain(c.Context(), name, !undo); err != nil {
					return err
				}
				if name == "" {
					name = "this server"
				}
				text := "%s is being drained"
				if undo {
					text = "%s serves again"
				}
				return t.done(struct{}{}, text, name)
			})
		},
	}
	drain.Flags().BoolVar(&undo, "undo", false, "let it serve again")
	return drain
}

func serverNames(ctx context.Context, client *control.Client, begin string) ([]string, error) {
	nodes, err := client.Nodes(ctx)
	var words []string
	for _, n := range nodes {
		if strings.HasPrefix(n.Name, begin) {
			words = append(words, n.Name)
		}
	}
	return words, err
}
