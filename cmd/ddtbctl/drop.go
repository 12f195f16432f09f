// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

func (t *tool) dropCommand() *cobra.Command {
	var filter control.TunnelDropFilter
	var tunnels bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List why packets were dropped, by reason or by tunnel",
		Long: `List why packets were dropped. By itself: one row a reason, since the tunnels' kernel state came up, with the tunnel whose
address the last packet claimed, where it came from and when.

With --tunnels, or any of the filters, of which all must match: one row a tunnel and reason, since the tunnel's last session
began. Packets count that claimed to be from the tunnel or were for it; others, of malformed packets for instance, are only in the list by
reason.`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withClient(func(client *control.Client) error {
				if tunnels || filter != (control.TunnelDropFilter{}) {
					return t.listTunnelDrops(c.Context(), client, filter)
				}
				return t.listDrops(c.Context(), client)
			})
		},
	}
	list.Flags().BoolVar(&tunnels, "tunnels", false, "by tunnel")
	list.Flags().Uint32Var(&filter.Tunnel, "tunnel", 0, "by tunnel, only the one with this `number`")
	list.Flags().StringVar(&filter.User, "user", "", "by tunnel, only those of this `user`'s sessions")
	list.Flags().StringVar(&filter.Reason, "reason", "", "by tunnel, only for this `reason`")
	return group(&cobra.Command{Use: "drop", Short: "Packets that were dropped"}, list)
}

func (t *tool) listDrops(ctx context.Context, client *control.Client) error {
	drops, err := client.Drops(ctx)
	if err != nil {
		return err
	}
	out := t.newList("REASON", "PACKETS", "LAST", "TUNNEL", "FROM", "INNER SOURCE", "SESSION")
	for _, d := range drops {
		if err := out.add(d, func() []string { return t.dropRow(d) }); err != nil {
			return err
		}
	}
	return out.flush()
}

func (t *tool) listTunnelDrops(ctx context.Context, client *control.Client, filter control.TunnelDropFilter) error {
	out := t.newList("TUNNEL", "REASON", "PACKETS", "USER", "ENDPOINT", "SESSION")
	for d, err := range client.TunnelDrops(ctx, filter) {
		if err != nil {
			return out.fail(err)
		}
		if err := out.add(d, func() []string {
			row := []string{
				strconv.FormatUint(uint64(d.Tunnel), 10), d.Reason, grouped(d.Packets), cmp.Or(d.User, "-"), "-", cmp.Or(d.Session, "-"),
			}
			if d.Endpoint.IsValid() {
				row[4] = d.Endpoint.String()
			}
			return row
		}); err != nil {
			return err
		}
	}
	return out.flush()
}

func (t *tool) dropRow(d control.Drop) []string {
	row := []string{d.Reason, grouped(d.Packets), t.ago(d.Last), "-", address(d.Remote), "-", "-"}
	if d.Tunnel != 0 {
		row[3] = strconv.FormatUint(uint64(d.Tunnel), 10)
	}
	if d.Inner.IsValid() {
		row[5] = d.Inner.String()
	}
	if d.Session != "" {
		row[6] = d.Session
	}
	return row
}
