// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"encoding/json"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

func (t *tool) configCommand() *cobra.Command {
	show := &cobra.Command{
		Use:   "show",
		Short: "Show the configuration in force",
		Long: `Show the configuration in force as TOML, with every default filled in. It can differ from the file where that was
changed since the last restart or reload.`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withClient(func(client *control.Client) error {
				config, err := client.Config(c.Context())
				if err != nil {
					return err
				}
				if t.json {
					return json.NewEncoder(t.out).Encode(config)
				}
				var sections map[string]any
				decoder := json.NewDecoder(bytes.NewReader(config))
				decoder.UseNumber()
				if err := decoder.Decode(&sections); err != nil {
					return err
				}
				return toml.NewEncoder(t.out).Encode(numbers(sections))
			})
		},
	}
	return group(&cobra.Command{Use: "config", Short: "The daemon's configuration"}, show)
}

// numbers turns what JSON calls a number into what TOML calls an integer or a float.
func numbers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			value[key] = numbers(inner)
		}
	case []any:
		for i, inner := range value {
			value[i] = numbers(inner)
		}
	case json.Number:
		if n, err := value.Int64(); err == nil {
			return n
		}
		if f, err := value.Float64(); err == nil {
			return f
		}
	}
	return value
}
