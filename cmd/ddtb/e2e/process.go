// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program that runs on a Host. Its standard output and error are kept, in the order they came.
type Process struct {
	Name string

	cmd    *exec.Cmd
	output *output
	ended  chan struct{}
	err    error // set when ended is closed
}

// output collects what a process says and wakes who waits for it.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{} // closed and made anew at each write
}

func newOutput() *output { return &output{grown: make(chan struct{})} }

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.grown)
	o.grown = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) read() (text string, grown <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.grown
}

// Start runs a program on the host until Stop, Kill or its own end.
func (h *Host) Start(name string, args ...string) (*Process, error) {
	process := &Process{
		Name:   h.Name + " " + filepath.Base(name),
		cmd:    exec.Command(name, args...),
		output: newOutput(),
		ended:  make(chan struct{}),
	}
	process.cmd.Stdout, process.cmd.Stderr = process.output, process.output
	if err := h.start(process.cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", process.Name, err)
	}
	go func() {
		process.err = process.cmd.Wait()
		close(process.ended)
	}()
	return process, nil
}

// Run runs a program on the host to its end and gives its output, also when it failed; the error then has the last
// lines of it. The program is killed when ctx ends.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	process, err := h.Start(name, args...)
	if err != nil {
		return "", err
	}
	err = process.Wait(ctx)
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", process.Name, strings.Join(args, " "), err, lastLines(process.Output(), 5))
	}
	return process.Output(), err
}

// ID is the number of the process.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Output is what the process said so far.
func (p *Process) Output() string {
	text, _ := p.output.read()
	return text
}

// Wait waits for the end; when ctx ends before, the process is killed. The error is that of exec.Cmd.Wait.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	}
}

// Says waits until what the process said so far matches, and gives the submatches. It fails when the process ends
// without having said it, or timeout passes.
func (p *Process) Says(pattern string, timeout time.Duration) ([]string, error) {
	expression, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	for {
		over := p.Ended()
		text, grown := p.output.read()
		if match := expression.FindStringSubmatch(text); match != nil {
			return match, nil
		}
		if over {
			return nil, fmt.Errorf("%s %w without saying %q; it said: %s", p.Name, errEnded, pattern, lastLines(text, 10))
		}
		select {
		case <-grown:
		case <-p.ended:
		case <-late.C:
			return nil, fmt.Errorf("%s did not say %q within %s; it said: %s", p.Name, pattern, timeout, lastLines(text, 10))
		}
	}
}

// Ended says whether the process is over.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the process.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("%s: %s: %w", p.Name, signal, err)
	}
	return nil
}

// Freeze stops the process where it is, as if its computer slept.
func (p *Process) Freeze() error { return p.Signal(unix.SIGSTOP) }

// Kill ends the process as a crash would and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it fails only when the process is over already
	<-p.ended
}

// Stop asks the process to end (SIGTERM) and waits for it. An exit status other than 0 is an error, as is not ending
// within timeout.
func (p *Process) Stop(timeout time.Duration) error {
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: stop: %w", p.Name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(timeout):
		p.Kill()
		return fmt.Errorf("%s did not end within %s; it said: %s", p.Name, timeout, lastLines(p.Output(), 10))
	}
	if p.err != nil {
		return fmt.Errorf("%s ended: %w; it said: %s", p.Name, p.err, lastLines(p.Output(), 10))
	}
	return nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "\n\t" + strings.Join(lines[max(0, len(lines)-n):], "\n\t")
}
