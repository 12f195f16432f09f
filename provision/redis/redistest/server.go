// SPDX-License-Identifier: GPL-2.0-or-later

// Package redistest runs real redis-servers on loopback for the tests of every room that speaks Redis: one alone,
// a master with replicas, Sentinels, a cluster. Each has a port and a directory of its own and ends with the test.
// The program is the redis-server that PATH finds first: a folder with another version, or with a link of that name to valkey-server,
// put before it has all tests run with that one.
package redistest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"ddtb/aaa/aaatest"
	"ddtb/provision/redis"
)

// patience is how long a state is awaited, on a busy machine.
const patience = 30 * time.Second

// Server is a redis-server process.
type Server struct {
	Addr string // host:port, on 127.0.0.1
	Dir  string // where it keeps its data

	tb    testing.TB
	args  []string
	cmd   *exec.Cmd
	ended chan struct{}
	log   *bytes.Buffer
}

// Start runs a server until the test ends. args are settings as on the command line: "--maxmemory", "2mb". Nothing is
// kept on disk unless they say so. A missing redis-server fails the test.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return start(tb, func(port int) []string {
		return append([]string{
			"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0",
			"--repl-diskless-load", "on-empty-db", "--loglevel", "notice",
		}, args...)
	})
}

// start finds a port: another one if somebody took the first one meanwhile.
func start(tb testing.TB, args func(port int) []string) *Server {
	tb.Helper()
	for try := 0; ; try++ {
		port, err := aaatest.FreePort() // low enough that a cluster's bus has room 10000 above
		if err != nil {
			tb.Fatal(err)
		}
		s := &Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), Dir: tb.TempDir(), tb: tb, args: args(int(port))}
		if s.run() {
			tb.Cleanup(s.Kill)
			return s
		}
		if try == 5 || !strings.Contains(s.log.String(), "Address already in use") {
			tb.Fatalf("redis-server does not start:\n%s", s.log)
		}
	}
}

// Run starts the server again after Kill or Stop, on the data it has kept.
func (s *Server) Run() {
	s.tb.Helper()
	if !s.run() {
		s.tb.Fatalf("redis-server %s does not start:\n%s", s.Addr, s.log)
	}
}

// run starts the process and waits until it answers; false if it ended before.
func (s *Server) run() bool {
	s.tb.Helper()
	log := new(bytes.Buffer)
	s.log, s.ended = log, make(chan struct{})
	s.cmd = exec.Command("redis-server", s.args...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.Dir, log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	cmd, ended := s.cmd, s.ended
	go func() { _ = cmd.Wait(); close(ended) }()
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", s.Addr)
		if err == nil {
			_ = conn.Close()
			return s.alive()
		}
		select {
		case <-s.ended:
			return false
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.Kill()
			return false
		}
	}
}

// alive tells whether it is our process that listens, and not another with the same port.
func (s *Server) alive() bool {
	select {
	case <-s.ended:
		return false
	case <-time.After(20 * time.Millisecond):
		return true
	}
}

// Kill ends the server at once: what was not on disk is lost.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the server in order; it saves what it was told to keep.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

func (s *Server) end(sig syscall.Signal) {
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Signal(sig)
	<-s.ended
}

// Pause makes the server hang, until Continue: connections stay, nothing is answered.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Continue ends a Pause.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatal(err)
	}
}

// Replica runs a replica of s and waits until it has all that s has.
func (s *Server) Replica(args ...string) *Server {
	s.tb.Helper()
	host, port, _ := net.SplitHostPort(s.Addr)
	r := Start(s.tb, append([]string{"--replicaof", host + " " + port}, args...)...)
	r.Await("its master's data", func(c *goredis.Client) bool {
		text, err := c.Info(context.Background(), "replication").Result()
		return err == nil && strings.Contains(text, "master_link_status:up")
	})
	s.Await("its replica", func(c *goredis.Client) bool {
		info, err := redis.ReadInfo(context.Background(), c)
		return err == nil && info.Replicas > 0
	})
	return r
}

// Cut makes a replica lose its master: it keeps what it has and gets nothing more.
func (s *Server) Cut() { s.replicaOf("127.0.0.1", "1") }

// Promote makes a replica a master.
func (s *Server) Promote() { s.replicaOf("NO", "ONE") }

func (s *Server) replicaOf(host, port string) {
	s.tb.Helper()
	c := s.Client()
	if err := c.ReplicaOf(context.Background(), host, port).Err(); err != nil {
		s.tb.Fatal(err)
	}
}

// Client returns a client of the library's, closed when the test ends.
func (s *Server) Client() *goredis.Client {
	c := goredis.NewClient(&goredis.Options{Addr: s.Addr, Protocol: 2, DisableIdentity: true})
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Options are those of a redis.Conn to the server.
func (s *Server) Options() redis.Options { return redis.Options{Addresses: []string{s.Addr}} }

// Open makes a connection, closed when the test ends.
func Open(tb testing.TB, o redis.Options) *redis.Conn {
	tb.Helper()
	c, err := redis.Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Await waits until the server is in a state.
func (s *Server) Await(state string, reached func(*goredis.Client) bool) {
	s.tb.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: s.Addr, Protocol: 2, DisableIdentity: true})
	defer c.Close()
	for deadline := time.Now().Add(patience); !reached(c); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.tb.Fatalf("redis-server %s has not reached: %s\n%s", s.Addr, state, s.log)
		}
	}
}
