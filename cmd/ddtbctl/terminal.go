// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// terminal is where a command reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time
	// secret asks for a line without echo; nil if nobody sits there.
	secret func(prompt string) (string, error)
	// ask asks for a line; nil if nobody sits there.
	ask func(prompt string) (string, error)
}

// terminalOf gives the process's own terminal.
func terminalOf(in, out, errs *os.File) terminal {
	t := terminal{in: in, out: out, err: errs, getenv: os.Getenv, now: time.Now}
	if term.IsTerminal(int(in.Fd())) {
		t.secret = func(prompt string) (string, error) {
			fmt.Fprint(errs, prompt)
			line, err := term.ReadPassword(int(in.Fd()))
			fmt.Fprintln(errs)
			return string(line), err
		}
		t.ask = func(prompt string) (string, error) {
			fmt.Fprint(errs, prompt)
			return firstLine(in)
		}
	}
	return t
}
