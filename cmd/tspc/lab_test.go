// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
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
	"golang.org/x/sys/unix"

	"ddtb/cmd/tspc/agent"
	"ddtb/tsp"
	"ddtb/tsp/tsptest"
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

// server is a TSP server and the other end of its tunnels, which answers echo requests to any address.
type server struct {
	*tsptest.Backend
	address netip.Addr
	udp     *net.UDPConn
	raw     *net.IPConn
	stop    func()

	mutex   sync.Mutex
	deaf    bool
	senders map[netip.AddrPort]int // inner packets by outer source; port 0 is protocol 41
	inner   map[netip.Addr]int     // inner packets by inner source
	replies []uint16               // identifiers of echo replies
}

// serve starts a server at 192.0.2.n.
func (l *lab) serve(n byte, change func(*tsptest.Backend)) *server {
	l.t.Helper()
	s := &server{
		Backend: tsptest.NewBackend(), address: netip.AddrFrom4([4]byte{192, 0, 2, n}),
		senders: map[netip.AddrPort]int{}, inner: map[netip.Addr]int{},
	}
	s.Offer.ServerIPv4, s.Offer.MTU = s.address, 1400
	s.Prefix = netip.MustParsePrefix("2001:db8:1234::/56")
	if change != nil {
		change(s.Backend)
	}
	config := tsp.ServerConfig{Backend: s.Backend, Inner: s.take, Limits: tsp.Limits{Drain: 10 * time.Millisecond}}
	at := netip.AddrPortFrom(s.address, agent.DefaultPort)
	l.inside("server", func() {
		udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err != nil {
			l.t.Error(err)
			return
		}
		tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
		if err != nil {
			l.t.Error(err)
			return
		}
		s.raw, err = net.ListenIP("ip4:41", &net.IPAddr{IP: s.address.AsSlice()})
		if err != nil {
			l.t.Error(err)
			return
		}
		s.udp, config.UDP, config.TCP = udp, []*net.UDPConn{udp}, []net.Listener{tcp}
	})
	if l.t.Failed() {
		l.t.FailNow()
	}
	running, err := tsp.NewServer(config)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := running.Run(ctx); err != nil {
			l.t.Errorf("server: %v", err)
		}
	})
	all.Go(s.takeRaw)
	s.stop = sync.OnceFunc(func() {
		cancel()
		_ = s.raw.Close()
		all.Wait()
	})
	l.t.Cleanup(s.stop)
	<-running.Ready()
	return s
}

// take takes a packet of a v6udpv4 tunnel.
func (s *server) take(_, remote netip.AddrPort, packet []byte) {
	if answer := s.answer(remote, packet); answer != nil {
		_, _ = s.udp.WriteToUDPAddrPort(answer, remote)
	}
}

// takeRaw takes the packets of v6v4 tunnels.
func (s *server) takeRaw() {
	buf := make([]byte, 2000)
	for {
		n, from, err := s.raw.ReadFromIP(buf)
		if err != nil {
			return
		}
		remote, _ := netip.AddrFromSlice(from.IP)
		if answer := s.answer(netip.AddrPortFrom(remote.Unmap(), 0), buf[:n]); answer != nil {
			_, _ = s.raw.WriteToIP(answer, from)
		}
	}
}

// answer counts an inner packet and answers an echo request.
func (s *server) answer(remote netip.AddrPort, packet []byte) []byte {
	if len(packet) < 48 {
		return nil
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.senders[remote]++
	s.inner[netip.AddrFrom16([16]byte(packet[8:24]))]++
	if packet[6] == unix.IPPROTO_ICMPV6 && packet[40] == 129 {
		s.replies = append(s.replies, uint16(packet[44])<<8|uint16(packet[45]))
	}
	if s.deaf || packet[6] != unix.IPPROTO_ICMPV6 || packet[40] != 128 {
		return nil
	}
	answer := bytes.Clone(packet)
	copy(answer[8:24], packet[24:40])
	copy(answer[24:40], packet[8:24])
	answer[7], answer[40] = 64, 129
	// Addresses change places, which the sum does not see; the type is one more in the upper octet (RFC 1624).
	sum := uint32(^(uint16(packet[42])<<8 | uint16(packet[43]))) + 0x100
	sum = ^(sum&0xFFFF + sum>>16)
	answer[42], answer[43] = byte(sum>>8), byte(sum)
	return answer
}

// listen makes the tunnel end answer or not.
func (s *server) listen(yes bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.deaf = !yes
}

// seen gives the outer and inner sources of packets so far.
func (s *server) seen() (senders []netip.AddrPort, inner []netip.Addr) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for sender := range s.senders {
		senders = append(senders, sender)
	}
	for source := range s.inner {
		inner = append(inner, source)
	}
	return senders, inner
}

// answered gives the identifiers of echo replies so far.
func (s *server) answered() []uint16 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.replies)
}

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
