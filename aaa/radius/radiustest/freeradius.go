// SPDX-License-Identifier: GPL-2.0-or-later

// Package radiustest runs a real FreeRADIUS 3 on loopback, set up from contrib/freeradius as its README says, for the tests of
// every room that speaks RADIUS. Process knows nothing of tests: the benchmarks run one, too.
package radiustest

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Secret is the one the server shares with 127.0.0.0/8.
const Secret = "testing123"

// Server is a Process that fails the test where a Process gives an error.
type Server struct {
	*Process
	tb testing.TB
}

// Start runs a server whose users file is users, until the test ends. A missing FreeRADIUS fails the test.
func Start(tb testing.TB, users string) *Server {
	tb.Helper()
	return start(tb, users, Here)
}

// StartBy is Start where processes, the server's and those that ask it, are started by launch: in a namespace of their own, say.
func StartBy(tb testing.TB, users string, launch func(*exec.Cmd) error) *Server {
	tb.Helper()
	return start(tb, users, func(cmd *exec.Cmd) (func() error, error) { return cmd.Wait, launch(cmd) })
}

func start(tb testing.TB, users string, launch Launch) *Server {
	tb.Helper()
	_, self, _, _ := runtime.Caller(0)
	contrib := filepath.Join(filepath.Dir(self), "../../../contrib/freeradius")
	process, err := New(Options{Dir: tb.TempDir(), Contrib: contrib, Users: users, Launch: launch})
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{Process: process, tb: tb}
	s.Run()
	tb.Cleanup(s.Stop)
	return s
}

// Run starts the server (again, after Stop) and returns when it answers.
func (s *Server) Run() {
	s.tb.Helper()
	if err := s.Process.Run(); err != nil {
		s.tb.Fatal(err)
	}
}

// Records reads what accounting the server has taken so far, in order.
func (s *Server) Records() []Record {
	s.tb.Helper()
	records, err := s.Process.Records()
	if err != nil {
		s.tb.Fatal(err)
	}
	return records
}
