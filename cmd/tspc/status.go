// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ddtb/cmd/tspc/agent"
	"ddtb/cmd/tspc/config"
)

// errNotUp is the failure of `tspc status` when there is no tunnel, so that scripts can ask by the exit code.
var errNotUp = errors.New("the tunnel is not up")

// statusCommand prints what the running tspc last wrote about its tunnel.
func statusCommand(o *options, flags *config.Config, stdout io.Writer) *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the tunnel of a running tspc; fails if it is not up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(o.file)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				c, err = config.Default(), nil // users may ask who cannot read the configuration
			}
			if err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			override(&c, cmd, flags)
			return status(c, asJSON, stdout)
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return command
}

func status(c config.Config, asJSON bool, stdout io.Writer) error {
	b, err := os.ReadFile(statusFile(c))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no tspc is running for interface %s: %w", c.Interface, err)
	}
	if err != nil {
		return err
	}
	var last record
	if err := json.Unmarshal(b, &last); err != nil {
		return fmt.Errorf("status file %s: %w", statusFile(c), err)
	}
	if asJSON {
		_, err = stdout.Write(b)
	} else {
		err = printStatus(last, stdout)
	}
	if err == nil && last.Event != agent.Up {
		return errNotUp
	}
	return err
}

// printStatus prints a record for people.
func printStatus(r record, stdout io.Writer) error {
	lines := []struct{ name, value string }{
		{"interface", r.Interface},
		{"state", fmt.Sprintf("%s since %s", r.Event, r.Time.Format(time.DateTime))},
		{"server", r.Server}, {"endpoint", r.Endpoint}, {"type", r.Type},
	}
	if r.Address.IsValid() {
		lines = append(lines, struct{ name, value string }{"address", r.Address.String()})
	}
	if r.Prefix.IsValid() {
		lines = append(lines, struct{ name, value string }{"prefix", r.Prefix.String()})
	}
	if r.MTU != 0 {
		lines = append(lines, struct{ name, value string }{"mtu", fmt.Sprint(r.MTU)})
	}
	lines = append(lines, struct{ name, value string }{"error", r.Error})
	for _, line := range lines {
		if line.value == "" {
			continue
		}
		if _, err := fmt.Fprintf(stdout, "%-10s %s\n", line.name, line.value); err != nil {
			return err
		}
	}
	return nil
}
