// SPDX-License-Identifier: GPL-2.0-or-later

// Command tspbench measures ddtb: packets, ping, TCP, logins, accounting, memory, restarts, takeovers. It prints a table for
// people, and for programs a line "result NAME VALUE UNIT" for each figure, both on standard output; progress goes to standard
// error.
//
// Everything runs in network namespaces that vanish with it. A figure below its goal is told as such and is no error;
// something that could not be measured is.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ddtb/cmd/tspbench/lab"
)

// version is set by the build.
var version = "unknown"

func main() {
	debug.SetGCPercent(400) // what runs here is to leave the CPU to what is measured
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tspbench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // nothing is left to be done
	}
}

// root is the command line.
func root() *cobra.Command {
	var cpus int
	command := &cobra.Command{
		Use:               "tspbench",
		Short:             "Measure a tunnel broker: packets, ping, TCP, logins, memory, restarts",
		Version:           version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return lab.UseCPUs(cpus) },
	}
	command.PersistentFlags().IntVar(&cpus, "cpus", 2, "CPUs to use at most, for the generator and what is measured together")
	command.AddCommand(packetsCommand(), pingCommand(), tcpCommand(), loginCommand(), radiusCommand(), ldapCommand(), acctCommand(), deliveryCommand(), memoryCommand(), restartCommand(),
		leaseCommand(), takeoverCommand(), allCommand())
	return command
}

// subject makes the command of one subject.
func subject(use, short, long string, run func(context.Context, *report) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			r := newReport(command.OutOrStdout(), command.ErrOrStderr())
			r.measure(command.Context(), use, run)
			return r.print()
		},
	}
}

// measure runs a subject and records it as failed if it does.
func (r *report) measure(ctx context.Context, name string, run func(context.Context, *report) error) {
	if err := run(ctx, r); err != nil {
		r.fail(name, err)
	}
}

// asRoot makes a subject say that it needs root, before it fails with a less clear reason.
func asRoot(run func(context.Context, *report) error) func(context.Context, *report) error {
	return func(ctx context.Context, r *report) error {
		if os.Geteuid() != 0 {
			return errors.New("root is needed, for network namespaces and eBPF")
		}
		return run(ctx, r)
	}
}

// positive says which of some settings is not more than 0.
func positive(settings map[string]int) error {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if settings[name] < 1 {
			return fmt.Errorf("%s: %d, want 1 or more", name, settings[name])
		}
	}
	return nil
}

// beside is the path of another of our programs, in the folder of this one.
func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}
