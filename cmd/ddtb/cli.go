// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ddtb/cmd/ddtb/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1  // while running; or the host lacks something, for check
	exitUsage  = 2  // the command line makes no sense
	exitConfig = 78 // the configuration is wrong (EX_CONFIG of sysexits.h)
)

const defaultFile = "/etc/ddtb/ddtb.toml"

// program is what the command line stands for.
type program struct {
	version   string
	reference string
	host      host
	serve     func(options options, h host, version string) error // runs until it is told to stop
}

// options are the flags of the daemon itself.
type options struct {
	file  string
	level string // "" is the configuration's
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// configError is a configuration that cannot be used.
type configError struct{ error }

// run executes one command line and gives its exit code.
func run(args []string, out, errs io.Writer, p program) int {
	root := newRoot(p)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	command, err := root.ExecuteC()
	var usage usageError
	var wrong configError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(errs, "ddtb: %v\nTry: %s --help\n", err, command.CommandPath())
		return exitUsage
	case errors.As(err, &wrong):
		fmt.Fprintln(errs, err)
		return exitConfig
	default:
		fmt.Fprintln(errs, "ddtb:", err)
		return exitFailed
	}
}

// newRoot builds the command line.
func newRoot(p program) *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "ddtb",
		Short: "IPv6 tunnel server for TSP clients",
		Long: `ddtb lets TSP clients (RFC 5572) log in over UDP or TCP port 3653 and gives each an IPv6 tunnel, which the kernel forwards.
Without a command it serves until SIGTERM; the tunnels stay in force then (server.keep_tunnels) for the next ddtb.

Signals: SIGTERM and SIGINT stop it, a second one at once; SIGHUP reads the configuration again (keys marked [reload] in
"ddtb reference"; the others are named in the log).

A first configuration needs server.ipv6, server.resolvers and one [[pool]]; "ddtb check" says what is missing,
"ddtb reference" explains every key, and ddtbctl manages accounts and shows sessions.

Exit status: 0 stopped as asked; 1 failed; 2 wrong command line; 78 wrong configuration.`,
		Version:       p.version,
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(*cobra.Command, []string) error { return p.serve(o, p.host, p.version) },
	}
	root.SetVersionTemplate("ddtb {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVarP(&o.file, "config", "c", defaultFile, "the configuration `file`")
	root.Flags().StringVar(&o.level, "log-level", "", "debug, info, warn or error: this `level` until the configuration is read again")
	root.AddCommand(checkCommand(p, &o), removeCommand(p, &o), referenceCommand(p), versionCommand(p))
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// noArguments refuses words that are no command.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s %s: no such command", c.CommandPath(), args[0])}
	}
	return nil
}

func referenceCommand(p program) *cobra.Command {
	return &cobra.Command{
		Use:   "reference",
		Short: "Print the manual of the configuration: every key, its default and why",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(c.OutOrStdout(), p.reference)
			return err
		},
	}
}

func versionCommand(p program) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "ddtb", p.version)
			return err
		},
	}
}

// load reads a configuration and completes it by the host. Its error is a configError.
func load(file string, h host) (config.Config, error) {
	c, err := config.Load(file)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: no configuration there; `ddtb reference` explains how to write one", err)
	}
	if err != nil {
		return c, configError{err}
	}
	if err := h.complete(&c); err != nil {
		return c, configError{fmt.Errorf("%s: %w", file, err)}
	}
	return c, nil
}
