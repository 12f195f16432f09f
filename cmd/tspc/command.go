// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"ddtb/cmd/tspc/config"
)

// options are the flags that are not keys of the configuration file.
type options struct {
	file              string
	once, check, json bool
}

// command is the command line.
func command(stdout, stderr io.Writer, getenv func(string) string) *cobra.Command {
	var o options
	var flags config.Config
	root := &cobra.Command{
		Use:           "tspc",
		Short:         "IPv6 through a tunnel broker (TSP, RFC 5572)",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configure(o.file, cmd, flags)
			if err != nil {
				return usageError{err}
			}
			if o.check {
				return check(c, stdout, getenv)
			}
			return run(cmd.Context(), c, o, stdout, stderr, getenv)
		},
	}
	root.SetVersionTemplate("tspc {{.Version}}\n")
	root.InitDefaultVersionFlag()
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVarP(&o.file, "config", "c", config.DefaultFile, "configuration `file`")
	defineFlags(root, &flags)
	root.Flags().BoolVar(&o.once, "once", false, "end when the first tunnel is lost, or none is had, instead of trying again")
	root.Flags().BoolVar(&o.check, "check", false, "check the configuration and end")
	root.Flags().BoolVar(&o.json, "json", false, "print what happens on standard output, one JSON object a line")
	root.AddCommand(statusCommand(&o, &flags, stdout))
	return root
}

// defineFlags defines a flag for each key one may want to override; the password has none, because everybody can read
// command lines.
func defineFlags(command *cobra.Command, c *config.Config) {
	f := command.PersistentFlags()
	f.StringSliceVarP(&c.Server, "server", "s", nil, "tunnel broker, `host[:port]`; several are tried in order")
	f.StringVarP(&c.User, "user", "u", "", "user `name`; without one the tunnel is anonymous")
	f.StringVar(&c.PasswordFile, "password-file", "", "`file` with the password in its first line")
	f.StringVar(&c.Mechanism, "mechanism", "", "any, digest-md5, cram-md5, plain or anonymous")
	f.StringVarP(&c.Tunnel, "tunnel", "t", "", "v6anyv4, v6udpv4 or v6v4")
	f.StringVar(&c.Transport, "transport", "", "of the dialogue: auto, udp or tcp")
	f.DurationVar((*time.Duration)(&c.Keepalive), "keepalive", 0, "interval to ask the server for")
	f.StringVarP(&c.Interface, "interface", "i", "", "`name` of the tunnel interface")
	f.IntVar(&c.MTU, "mtu", 0, "MTU of the tunnel interface instead of the server's")
	f.StringVar(&c.DefaultRoute, "default-route", "", "what is routed into the tunnel: ::/0, 2000::/3 or none")
	f.IntVar(&c.Metric, "metric", 0, "metric of that route")
	f.StringVar(&c.RunDir, "run-dir", "", "`folder` for status, journal and name servers")
	f.StringVar(&c.LogLevel, "log-level", "", "debug, info, warn or error")
	f.StringSliceVar(&c.Router.LAN, "lan", nil, "ask for a prefix and put a subnet of it on this `interface`; several are possible")
	f.IntVar(&c.Router.PrefixLength, "prefix-length", 0, "ask for a prefix of this length")
}

// overrides takes over, by flag, the value of the key it stands for.
var overrides = map[string]func(c, flags *config.Config){
	"server":        func(c, flags *config.Config) { c.Server = flags.Server },
	"user":          func(c, flags *config.Config) { c.User = flags.User },
	"password-file": func(c, flags *config.Config) { c.PasswordFile, c.Password = flags.PasswordFile, "" },
	"mechanism":     func(c, flags *config.Config) { c.Mechanism = flags.Mechanism },
	"tunnel":        func(c, flags *config.Config) { c.Tunnel = flags.Tunnel },
	"transport":     func(c, flags *config.Config) { c.Transport = flags.Transport },
	"keepalive":     func(c, flags *config.Config) { c.Keepalive = flags.Keepalive },
	"interface":     func(c, flags *config.Config) { c.Interface = flags.Interface },
	"mtu":           func(c, flags *config.Config) { c.MTU = flags.MTU },
	"default-route": func(c, flags *config.Config) { c.DefaultRoute = flags.DefaultRoute },
	"metric":        func(c, flags *config.Config) { c.Metric = flags.Metric },
	"run-dir":       func(c, flags *config.Config) { c.RunDir = flags.RunDir },
	"log-level":     func(c, flags *config.Config) { c.LogLevel = flags.LogLevel },
	"lan":           func(c, flags *config.Config) { c.Router.Enable, c.Router.LAN = true, flags.Router.LAN },
	"prefix-length": func(c, flags *config.Config) {
		c.Router.Enable, c.Router.PrefixLength = true, flags.Router.PrefixLength
	},
}

// override puts the flags that were given over c.
func override(c *config.Config, command *cobra.Command, flags *config.Config) {
	for name, take := range overrides {
		if command.Flags().Changed(name) {
			take(c, flags)
		}
	}
}

// configure reads the configuration file and puts the flags that were given over it. The default file may be missing if
// flags name a server.
func configure(file string, command *cobra.Command, flags config.Config) (config.Config, error) {
	c, err := config.Load(file)
	if errors.Is(err, fs.ErrNotExist) && !command.Flags().Changed("config") && command.Flags().Changed("server") {
		c, err = config.Default(), nil
	}
	if err != nil {
		return c, err
	}
	override(&c, command, &flags)
	return c, c.Validate()
}

// check says that the configuration is right; that it is was seen before, but for the password.
func check(c config.Config, stdout io.Writer, getenv func(string) string) error {
	if _, err := c.FindPassword(getenv); err != nil {
		return usageError{err}
	}
	_, err := fmt.Fprintln(stdout, "configuration is good")
	return err
}
