// SPDX-License-Identifier: GPL-2.0-or-later

// Command tspc gives a Linux machine IPv6 through a tunnel broker (RFC 5572): it logs in, sets interface, addresses and
// routes, and keeps the tunnel up until it is told to stop.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// version is set by the linker.
var version = "unknown"

// Exit codes.
const (
	exitFailed = 1 // no tunnel, or the machine could not be put back as it was
	exitUsage  = 2 // flags or configuration
)

// usageError is an error of options or configuration.
type usageError struct{ error }

// Unwrap gives the error itself.
func (e usageError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := command(os.Stdout, os.Stderr, os.Getenv).ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "tspc: %v\n", err)
	if usage := new(usageError); errors.As(err, usage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}
