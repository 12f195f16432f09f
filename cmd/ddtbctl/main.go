// SPDX-License-Identifier: GPL-2.0-or-later

// Command ddtbctl is the operator's hand on a running ddtb: it speaks to the daemon's control socket. Each file is one noun of
// its command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], terminalOf(os.Stdin, os.Stdout, os.Stderr))
	stop()
	os.Exit(code)
}
