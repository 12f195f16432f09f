// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// patience is how long a state is awaited. It is not a measure of anything.
const patience = 60 * time.Second

// lab is a small Internet:
//
//	lan ─── client ─── nat ─── server
//	       lan0  wan  in  out  eth0
//	           10.0.0.2    192.0.2.254   192.0.2.1, .2, .3
//
// client runs the real tspc; in server the test itself is TSP server and tunnel end. nat only routes until masquerade.
type lab struct {
	t      *testing.T
	prefix string // of the namespaces' names
	dir    string
	tspc   string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, prefix: fmt.Sprintf("tc-%d-", os.Getpid()), dir: t.TempDir(), tspc: program}
	for _, name := range []string{"lan", "client", "nat", "server"} {
		l.must("ip", "netns", "add", l.prefix+name)
		t.Cleanup(func() { l.must("ip", "netns", "delete", l.prefix+name) })
		l.in(name, "ip", "link", "set", "lo", "up")
	}
	l.cable("client", "wan", "nat", "in")
	l.cable("nat", "out", "server", "eth0")
	l.cable("client", "lan0", "lan", "eth0")
	l.in("client", "ip", "address", "add", "10.0.0.2/24", "dev", "wan")
	l.in("client", "ip", "route", "add", "default", "via", "10.0.0.1")
	l.in("nat", "ip", "address", "add", "10.0.0.1/24", "dev", "in")
	l.in("nat", "ip", "address", "add", "192.0.2.254/24", "dev", "out")
	l.in("nat", "sysctl", "-qw", "net.ipv4.ip_forward=1")
	for _, address := range []string{"192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"} {
		l.in("server", "ip", "address", "add", address, "dev", "eth0")
	}
	l.in("server", "ip", "route", "add", "10.0.0.0/24", "via", "192.0.2.254")
	return l
}

// programDir holds what build builds, for as long as the tests run.
var programDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tspc-test-")
	if err != nil {
		panic(err)
	}
	programDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build builds tspc once, with the race detector if the tests run under it.
var build = sync.OnceValues(func() (string, error) {
	program := filepath.Join(programDir, "tspc")
	args := []string{"build", "-o", program}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
})

// cable joins two namespaces.
func (l *lab) cable(left, leftName, right, rightName string) {
	l.t.Helper()
	l.must("ip", "link", "add", leftName, "netns", l.prefix+left, "type", "veth", "peer", "name", rightName, "netns", l.prefix+right)
	for _, end := range [][2]string{{left, leftName}, {right, rightName}} {
		l.in(end[0], "sysctl", "-qw", "net.ipv6.conf."+end[1]+".accept_dad=0")
		l.in(end[0], "ip", "link", "set", end[1], "up")
	}
}

// masquerade makes nat a NAT.
func (l *lab) masquerade() {
	l.in("nat", "nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority srcnat; }; "+
		"add rule ip nat post oifname out masquerade")
	l.in("server", "ip", "route", "del", "10.0.0.0/24")
}

func (l *lab) must(name string, args ...string) string {
	l.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// in runs a command in a namespace.
func (l *lab) in(namespace string, command ...string) string {
	l.t.Helper()
	return l.must("ip", append([]string{"netns", "exec", l.prefix + namespace}, command...)...)
}

// await waits until there is no error.
func (l *lab) await(what string, try func() error) {
	l.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	l.t.Fatalf("%s: %v", what, err)
}

// ping waits until an address answers a namespace.
func (l *lab) ping(namespace, address string, options ...string) {
	l.t.Helper()
	args := append([]string{"netns", "exec", l.prefix + namespace, "ping", "-c", "1", "-W", "1"}, options...)
	l.await("ping "+address, func() error {
		out, err := exec.Command("ip", append(args, address)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
}

// snapshot is what of a namespace tspc can change.
func (l *lab) snapshot(namespace string) string {
	l.t.Helper()
	var lines []string
	for _, command := range []string{"ip -o link", "ip -o -6 address", "ip -6 route", "sysctl -a --pattern ipv6.*forwarding$"} {
		for line := range strings.Lines(l.in(namespace, strings.Fields(command)...)) {
			line, _, _ = strings.Cut(line, " expires ")
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// inside runs f with a thread in a namespace: sockets made there stay there.
func (l *lab) inside(namespace string, f func()) {
	l.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		handle, err := netns.GetFromName(l.prefix + namespace)
		if err == nil {
			err = netns.Set(handle)
			_ = handle.Close()
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		l.t.Fatal(err)
	}
}
