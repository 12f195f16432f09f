// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1  // the daemon refused, or found nothing
	exitUsage       = 2  // the command line makes no sense
	exitUnavailable = 69 // no daemon answers (EX_UNAVAILABLE of sysexits.h)
)

const defaultSocket = "/run/ddtb/control.sock"

// tool is what all commands share.
type tool struct {
	terminal
	socket string
	json   bool
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// run executes one command line and gives its exit code.
func run(ctx context.Context, args []string, t terminal) int {
	root := newRoot(&tool{terminal: t})
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	return report(t, command, err)
}

// report tells what went wrong and gives the exit code for it.
func report(t terminal, command *cobra.Command, err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(t.err, "ddtbctl: %v\nTry: %s --help\n", err, command.CommandPath())
		return exitUsage
	case unavailable(err):
		fmt.Fprintln(t.err, "ddtbctl:", err)
		return exitUnavailable
	default:
		fmt.Fprintln(t.err, "ddtbctl:", err)
		return exitFailed
	}
}

// unavailable reports whether err means that no daemon answered, rather than that it refused.
func unavailable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// newRoot builds the whole command line.
func newRoot(t *tool) *cobra.Command {
	root := &cobra.Command{
		Use:   "ddtbctl",
		Short: "Operate a running ddtb",
		Long: `ddtbctl operates a running ddtb, the tunnel server, over its control socket.

Exit status: 0 done; 1 the daemon refused or found nothing; 2 wrong command line;
69 no daemon answers.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("ddtbctl {{.Version}}\n")
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	socket := defaultSocket
	if named := t.getenv("DDTB_SOCKET"); named != "" {
		socket = named
	}
	root.PersistentFlags().StringVar(&t.socket, "socket", socket, "the daemon's control `socket`; DDTB_SOCKET sets the default")
	root.PersistentFlags().BoolVar(&t.json, "json", false, "print JSON: one object, or one object a line for lists")
	group(root, t.statusCommand(), t.sessionCommand(), t.userCommand(), t.poolCommand(), t.leaseCommand(), t.serverCommand(), t.acctCommand(), t.dropCommand(), t.configCommand())
	root.InitDefaultCompletionCmd("completion") // now, so that help and manual are whole
	return root
}

// group adds commands below a noun, which alone is a mistake.
func group(parent *cobra.Command, children ...*cobra.Command) *cobra.Command {
	parent.AddCommand(children...)
	parent.Args = cobra.ArbitraryArgs
	parent.RunE = func(c *cobra.Command, args []string) error {
		var verbs []string
		for _, child := range c.Commands() {
			verbs = append(verbs, child.Name())
		}
		expected := strings.Join(verbs, ", ")
		if len(args) > 0 {
			return usageError{fmt.Errorf("%s %s: no such command; expected one of %s", c.CommandPath(), args[0], expected)}
		}
		return usageError{fmt.Errorf("%s what? Expected one of %s", c.CommandPath(), expected)}
	}
	return parent
}

// exactly demands arguments by their names in Use.
func exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%d arguments given, %d expected", len(args), n)}
		}
		return nil
	}
}

// withClient runs f with a client of the daemon, and makes its errors readable.
func (t *tool) withClient(f func(*control.Client) error) error {
	client := control.NewClient(t.socket)
	defer client.Close()
	err := f(client)
	switch {
	case errors.Is(err, os.ErrPermission):
		return unreachable{fmt.Sprintf("no right to use socket %s: be root, or in the group named by control.group in ddtb.toml", t.socket), err}
	case unavailable(err):
		return unreachable{fmt.Sprintf("ddtb is not running? socket %s", t.socket), err}
	default:
		return err
	}
}

// unreachable says in plain words why no daemon answers, and only the system's own word of the cause.
type unreachable struct {
	text string
	err  error
}

func (e unreachable) Error() string {
	var errno syscall.Errno
	if errors.As(e.err, &errno) {
		return e.text + ": " + errno.Error()
	}
	return e.text + ": " + e.err.Error()
}

func (e unreachable) Unwrap() error { return e.err }
