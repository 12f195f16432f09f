// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"ddtb/cmd/ddtb/config"
)

// newLogger makes the daemon's logger: lines for people on a terminal, JSON elsewhere, or as the configuration says.
// The level is the process's and can be changed by setLevel. flush writes what still waits, before the process ends.
func newLogger(out *os.File, c config.Log) (log zerolog.Logger, flush func()) {
	buffer := &lines{out: out}
	var writer io.Writer = buffer
	if c.Format == "human" || c.Format == "auto" && term.IsTerminal(int(out.Fd())) {
		writer = zerolog.ConsoleWriter{Out: out, TimeFormat: time.DateTime, NoColor: !term.IsTerminal(int(out.Fd()))}
	}
	return zerolog.New(writer).With().Timestamp().Logger(), buffer.flush
}

// setLevel puts a level in force at once, for all loggers of the process.
func setLevel(name string) error {
	level, err := zerolog.ParseLevel(name)
	if err != nil || name == "" {
		return fmt.Errorf("log level %q: expected debug, info, warn or error", name)
	}
	zerolog.SetGlobalLevel(level)
	return nil
}
