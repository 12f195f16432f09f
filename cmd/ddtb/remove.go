// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"
)

// removeCommand takes out of the kernel what a stopped daemon left there.
func removeCommand(p program, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "remove",
		Short: "Take all tunnels out of the kernel while ddtb is not running",
		Long: `Take out of the kernel what a stopped ddtb left there so that tunnels go on: programs, maps, routes, the device. Use it
before ddtb is uninstalled, or where tunnels have to end although nobody serves them. Leases and accounts stay. It is
refused while a ddtb runs with this configuration.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := load(o.file, p.host)
			if err != nil {
				return err
			}
			if conn, err := net.Dial("unix", conf.Control.Socket); err == nil {
				return errors.Join(fmt.Errorf("a ddtb is running: %s answers; stop it first", conf.Control.Socket), conn.Close())
			}
			ctx, cancel := context.WithTimeout(c.Context(), shutdownTime)
			defer cancel()
			log, flush := newLogger(os.Stderr, conf.Log)
			defer flush()
			return builtIn().datapaths[conf.Datapath.Driver].remove(ctx, datapathConfig(conf), log)
		},
	}
}
