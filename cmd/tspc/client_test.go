// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/cmd/tspc/agent"
	"ddtb/tsp/tsptest"
)

// client is a running tspc.
type client struct {
	l      *lab
	cmd    *exec.Cmd
	events chan record
	mutex  sync.Mutex
	output strings.Builder // log and events
	ended  chan struct{}
	err    error
}

// file writes a configuration.
func (l *lab) file(lines ...string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, "tspc.toml")
	text := fmt.Sprintf("run_dir = %q\nlog_level = \"debug\"\n%s\n", l.runDir(), strings.Join(lines, "\n"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

func (l *lab) runDir() string { return filepath.Join(l.dir, "run") }

// account is the part of a configuration that tsptest's subscriber needs, and a keepalive that does not keep tests
// waiting.
var account = fmt.Sprintf("server = [\"192.0.2.1\"]\nuser = %q\npassword = %q\nkeepalive = \"1s\"\n", tsptest.User, tsptest.Password)

// start starts tspc with a configuration.
func (l *lab) start(lines ...string) *client {
	l.t.Helper()
	return l.startWith(l.file(lines...), "--json")
}

func (l *lab) startWith(file string, options ...string) *client {
	l.t.Helper()
	args := append([]string{"netns", "exec", l.prefix + "client", l.tspc, "-c", file}, options...)
	c := &client{l: l, cmd: exec.Command("ip", args...), events: make(chan record, 1000), ended: make(chan struct{})}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	c.cmd.Stderr = c
	if err := c.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			_, _ = c.Write(append(lines.Bytes(), '\n'))
			var r record
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				r.Error = fmt.Sprintf("not JSON: %v", err)
			}
			c.events <- r
		}
		c.err = c.cmd.Wait()
	}()
	l.t.Cleanup(func() {
		c.kill(unix.SIGKILL)
		<-c.ended
		if l.t.Failed() {
			l.t.Logf("tspc said:\n%s", c.said())
		}
		if strings.Contains(c.said(), tsptest.Password) {
			l.t.Error("the password is in the output")
		}
	})
	return c
}

// Write implements io.Writer for the log.
func (c *client) Write(b []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.output.Write(b)
}

func (c *client) said() string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.output.String()
}

// next waits for an event of a kind and passes over others.
func (c *client) next(kind agent.Kind) record {
	c.l.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case r := <-c.events:
			if r.Event == kind {
				return r
			}
		case <-timeout:
			c.l.t.Fatalf("no event %q", kind)
		}
	}
}

func (c *client) kill(s unix.Signal) { _ = c.cmd.Process.Signal(s) }

// stop ends tspc as systemd does and gives the error of its exit.
func (c *client) stop() error {
	c.l.t.Helper()
	c.kill(unix.SIGTERM)
	return c.wait()
}

func (c *client) wait() error {
	c.l.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.l.t.Fatal("tspc does not end")
	}
	return c.err
}
