// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

func (t *tool) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the daemon at a glance",
		Long:  "Show the daemon at a glance: readiness, datapath, sessions, logins, traffic.\nExit status 1 if it runs but is not ready.",
		Args:  exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withClient(func(client *control.Client) error {
				status, err := client.Status(c.Context())
				if err != nil {
					return err
				}
				if err := t.describe(status, t.statusLines(status)); err != nil {
					return err
				}
				if !status.Ready {
					return fmt.Errorf("%s is not ready", status.Node)
				}
				return nil
			})
		},
	}
}

func (t *tool) statusLines(s control.Status) []line {
	state := "ready"
	if !s.Ready {
		state = "not ready"
	}
	total := 0
	var kinds []string
	for _, encap := range slices.Sorted(maps.Keys(s.Sessions)) {
		total += s.Sessions[encap]
		kinds = append(kinds, grouped(s.Sessions[encap])+" "+encap)
	}
	active := grouped(total) + " active"
	if len(kinds) > 0 {
		active += " (" + strings.Join(kinds, ", ") + ")"
	}
	sweep := ""
	if !s.Sweep.Last.IsZero() {
		sweep = fmt.Sprintf("%s ago, took %s", t.ago(s.Sweep.Last), time.Duration(s.Sweep.Took).Round(100*time.Microsecond))
		if s.Sweep.Error != "" {
			sweep += ", failed: " + s.Sweep.Error
		}
	}
	return []line{
		{"node", s.Node},
		{"state", fmt.Sprintf("%s, ddtb %s, up %s", state, s.Version, span(time.Duration(s.Uptime)))},
		{"server", s.Server.String()},
		{"datapath", s.Datapath},
		{"sessions", fmt.Sprintf("%s, %s offered, %s ending, at most %s", active, grouped(s.Offered), grouped(s.Ending), grouped(s.MaxSession))},
		{"logins", fmt.Sprintf("%s, %s refused", grouped(s.Logins), grouped(s.Refused))},
		{"traffic", strings.NewReplacer("the client", "clients", "to it", "to them").Replace(traffic(s.Traffic))},
		{"last sweep", sweep},
	}
}
