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

func (t *tool) acctCommand() *cobra.Command {
	status := &cobra.Command{
		Use:   "status",
		Short: "Show how many accounting records wait, and whether a server answers",
		Args:  exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withClient(func(client *control.Client) error {
				s, err := client.Accounting(c.Context())
				if err != nil {
					return err
				}
				return t.describe(s, acctLines(s))
			})
		},
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the accounting records that were set aside since the server refuses them",
		Args:  exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withClient(func(client *control.Client) error {
				records, err := client.Parked(c.Context())
				if err != nil {
					return err
				}
				out := t.newList("RECORD", "STATUS", "USER", "SESSION", "HAPPENED", "WHY")
				for _, r := range records {
					if err := out.add(r, func() []string { return t.acctRow(r) }); err != nil {
						return err
					}
				}
				return out.flush()
			})
		},
	}
	retry := t.acctVerb("retry", "Have records that were set aside delivered again", "sent again", (*control.Client).RetryRecord)
	drop := t.acctVerb("drop", "Throw records that were set aside away: they are never billed", "thrown away", (*control.Client).DropRecord)
	return group(&cobra.Command{Use: "acct", Short: "Accounting records on their way to billing"}, status, list, retry, drop)
}

func acctLines(s control.AccountingStatus) []line {
	server := "answers"
	if !s.Up {
		server = "no server answers; records are kept and sent later"
	}
	parked := grouped(s.Parked)
	if s.Parked > 0 {
		parked += `, see "ddtbctl acct list"`
	}
	return []line{
		{"server", server},
		{"waiting", grouped(s.Pending)},
		{"set aside", parked},
		{"on disk", octets(uint64(max(0, s.Bytes)))},
	}
}

func (t *tool) acctRow(r control.AccountingRecord) []string {
	why := r.Why
	if why == "" {
		why = "-"
	}
	return []string{strconv.FormatUint(r.ID, 10), r.Status, r.User, r.Session, t.ago(r.Time), why}
}

// acctVerb is a command that does something to each record named.
func (t *tool) acctVerb(name, short, done string, do func(*control.Client, context.Context, uint64) error) *cobra.Command {
	return &cobra.Command{
		Use:               name + " RECORD...",
		Short:             short,
		Long:              short + `. A record is named by its number in "ddtbctl acct list".`,
		ValidArgsFunction: t.complete(parkedRecords, -1),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("no record given, expected one or more numbers")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var ids []uint64
			for _, text := range args {
				id, err := strconv.ParseUint(text, 10, 64)
				if err != nil {
					return usageError{fmt.Errorf("record %q: a number is expected", text)}
				}
				ids = append(ids, id)
			}
			return t.withClient(func(client *control.Client) error {
				for _, id := range ids {
					if err := do(client, c.Context(), id); err != nil {
						return err
					}
					if err := t.done(map[string]any{"record": id, "done": done}, "record %d %s", id, done); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func parkedRecords(ctx context.Context, client *control.Client, begin string) ([]string, error) {
	records, err := client.Parked(ctx)
	var words []string
	for _, r := range records {
		if id := strconv.FormatUint(r.ID, 10); strings.HasPrefix(id, begin) && len(words) < maxCompletions {
			words = append(words, id)
		}
	}
	return words, err
}
