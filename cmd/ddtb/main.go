// SPDX-License-Identifier: GPL-2.0-or-later

// Command ddtb is the tunnel server: it lets TSP clients (RFC 5572) log in and gives each an IPv6 tunnel in the kernel.
//
// This room only wires the others together. drivers.go is the table of what is built in, backend.go is where protocol,
// accounts and tunnels meet, daemon.go the order in which parts start and stop; config holds the configuration.
package main

import (
	"os"

	"ddtb/cmd/ddtb/config"
)

// version is set by the linker.
var version = "unknown"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, program{
		version:   version,
		reference: config.Reference,
		host:      thisHost(),
		serve:     serve,
	}))
}
