// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
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
	}
	return t
}

// maxLine bounds a password read from standard input, in octets.
const maxLine = 4096

// line reads one line of standard input, without its end.
func (t terminal) line() (string, error) {
	text, err := bufio.NewReader(io.LimitReader(t.in, maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if len(text) == maxLine {
		return "", fmt.Errorf("a line of %d octets or more", maxLine)
	}
	return strings.TrimRight(text, "\r\n"), nil
}
