// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

func (t *tool) dropCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List why packets were dropped, with the last offender of each reason",
		Long: `List why packets were dropped since the tunnels' kernel state came up: one row a reason, with the tunnel whose
address the last packet claimed, where it came from and when.`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withClient(func(client *control.Client) error {
				drops, err := client.Drops(c.Context())
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
			})
		},
	}
	return group(&cobra.Command{Use: "drop", Short: "Packets that were dropped"}, list)
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
