// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ddtb/cmd/ddtb/e2e"
)

// stage is where the scenes play: the hosts, and the paper the audience reads.
type stage struct {
	ctx context.Context
	out io.Writer
	isp *e2e.ISP

	natted, open       *e2e.Subscriber
	nattedIP6, openIP6 address
}

// scene is a numbered part of a play.
type scene struct {
	title string
	play  func() error
}

// scenesOf plays scenes in their order, until one fails.
func (s *stage) scenesOf(scenes []scene) error {
	for n, scene := range scenes {
		fmt.Fprintf(s.out, "\n%d. %s\n\n", n+1, scene.title)
		if err := scene.play(); err != nil {
			return fmt.Errorf("%s: %w", scene.title, err)
		}
	}
	return nil
}

// say explains what is seen.
func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.out, format+"\n", args...)
}

// run shows a command as it is typed on a host, runs it and shows what it prints.
func (s *stage) run(host *e2e.Host, name string, args ...string) error {
	s.prompt(host, name, args...)
	output, err := host.Run(s.ctx, name, args...)
	s.print(output)
	return err
}

// ctl is run for ddtbctl, whose socket is left out of what is shown.
func (s *stage) ctl(args ...string) error { return s.ctlAt(s.isp, args...) }

// ctlAt is ctl for one server of several.
func (s *stage) ctlAt(isp *e2e.ISP, args ...string) error {
	s.prompt(isp.Server, "ddtbctl", args...)
	output, err := isp.Ctl(args...)
	s.print(output)
	return err
}

// file shows a file of a host.
func (s *stage) file(host *e2e.Host, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	s.prompt(host, "cat", name)
	s.print(string(text))
	return nil
}

// stop shows how a process is told to end.
func (s *stage) stop(host *e2e.Host, process *e2e.Process) {
	s.prompt(host, "kill", strconv.Itoa(process.ID()))
}

// prompt shows a command with its host, the way a shell of that host would.
func (s *stage) prompt(host *e2e.Host, name string, args ...string) {
	fmt.Fprintf(s.out, "  %s# %s\n", host.Name, strings.Join(append([]string{filepath.Base(name)}, args...), " "))
}

// print shows a program's output.
func (s *stage) print(output string) {
	for line := range strings.Lines(output) {
		fmt.Fprintf(s.out, "    %s\n", strings.TrimRight(line, "\n"))
	}
	fmt.Fprintln(s.out)
}
