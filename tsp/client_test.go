// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

// scripted is a server by hand. What its script noted may be read once it was stopped.
type scripted struct {
	netip.AddrPort
	stop func()
}

// script answers over UDP: it gets each datagram, header and data apart, and sends what the function returns, each a whole datagram.
func script(t *testing.T, answer func(header, data string) []string) scripted {
	t.Helper()
	socket := sockets(t)[0]
	return scripted{socket.LocalAddr().(*net.UDPAddr).AddrPort(), inBackground(t, socket, func() {
		b := make([]byte, 65536)
		for {
			n, from, err := socket.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, datagram := range answer(string(b[:8]), string(b[8:n])) {
				_, _ = socket.WriteToUDPAddrPort([]byte(datagram), from)
			}
		}
	})}
}

// inBackground runs a loop until what it reads from is closed by the returned function, or at the end of the test.
func inBackground(t *testing.T, source io.Closer, loop func()) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		loop()
	}()
	stop = func() { source.Close(); <-done }
	t.Cleanup(stop)
	return stop
}

// say is a script that always answers, by what the data begins with.
func say(t *testing.T, answers map[string]string) scripted {
	return script(t, func(header, data string) []string {
		for begin, answer := range answers {
			if begin != "" && strings.HasPrefix(data, begin) || begin == data {
				return []string{header + answer}
			}
		}
		return nil
	})
}

// stream answers over TCP, one connection after the other, each of which it closes in the end.
func stream(t *testing.T, talk func(r *bufio.Reader, w io.Writer)) scripted {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return scripted{listener.Addr().(*net.TCPAddr).AddrPort(), inBackground(t, listener, func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			talk(bufio.NewReader(conn), conn)
			conn.Close()
		}
	})}
}

const offersAll = "CAPABILITY TUNNEL=V6V4 TUNNEL=V6UDPV4 AUTH=ANONYMOUS AUTH=PLAIN AUTH=DIGEST-MD5\r\n"

var quick = tsp.Client{User: "alice", Password: "pw", MinRTO: 20 * time.Millisecond, MaxRTO: 40 * time.Millisecond, Tries: 4}

// TestRetransmission: a message goes out again with the same sequence and a new timestamp until it is answered; what belongs to another message, or to the
// tunnel, is not an answer.
func TestRetransmission(t *testing.T) {
	var headers []string
	server := script(t, func(header, data string) []string {
		headers = append(headers, header)
		if len(headers) < 3 {
			return []string{"\xf0\x00\x00\x00" + header[4:] + "302 x\r\n", "`" + strings.Repeat("\x00", 47), "", "\xff"}
		}
		return []string{header + offersAll}
	})
	conn, err := quick.Dial(ctxOf(t), "udp4", server.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server.stop()
	if len(headers) != 3 || headers[0][:4] != headers[1][:4] || headers[1][4:] == headers[2][4:] {
		t.Errorf("headers %q", headers)
	}
}

func TestSequencesAreNotGuessed(t *testing.T) {
	seen := map[string]bool{}
	server := script(t, func(header, data string) []string {
		seen[header[:4]] = true
		return []string{header + offersAll}
	})
	for range 5 {
		conn, err := quick.Dial(ctxOf(t), "udp4", server.String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	server.stop()
	if len(seen) != 5 {
		t.Errorf("first sequences %v", seen)
	}
}

func TestDeadServer(t *testing.T) {
	var tries int
	silent := script(t, func(string, string) []string { tries++; return nil })
	_, err := quick.Dial(ctxOf(t), "udp4", silent.String())
	silent.stop()
	if !errors.Is(err, tsp.ErrTimeout) || tries != 4 {
		t.Errorf("%v after %d tries", err, tries)
	}
	silent = script(t, func(string, string) []string { return nil })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := quick.Dial(ctx, "udp4", silent.String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(5*time.Millisecond, cancel)
	if _, err := quick.Dial(ctx, "udp4", silent.String()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := quick.Dial(ctxOf(t), "tcp4", silent.String()); err == nil || errors.Is(err, tsp.ErrTimeout) {
		t.Errorf("%v", err)
	}
	// Nobody is there at all: both ways say so at once.
	if _, err := quick.Dial(ctxOf(t), "", "127.0.0.1:1"); err == nil || strings.Count(err.Error(), "refused") != 2 {
		t.Errorf("%v", err)
	}
}

// TestCancel: every step ends with its context, however long the server takes.
func TestCancel(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	backend := tsptest.NewBackend()
	backend.Fail = func(ctx context.Context, _, _ string) error { return g.wait(ctx) }
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	client := tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}, MinRTO: 3 * time.Second, Tries: 1}
	for _, network := range []string{"udp4", "tcp4"} {
		conn, err := client.Dial(ctxOf(t), network, server.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		before := g.count()
		go func() {
			for end := time.Now().Add(patience); g.count() == before && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			cancel()
		}()
		if err := conn.Login(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", network, err)
		}
		conn.Close()
	}
}

func TestServerNames(t *testing.T) {
	for _, name := range []string{"", ":3653", "host:", "host:0", "host:x", "host:65536", "[::1", "a:b:c"} {
		if _, err := quick.Dial(ctxOf(t), "udp", name); err == nil || !strings.Contains(err.Error(), "server ") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := quick.Dial(ctxOf(t), "sctp", "127.0.0.1"); err == nil || !strings.Contains(err.Error(), "network") {
		t.Error(err)
	}
	if _, err := quick.Dial(ctxOf(t), "udp6", "127.0.0.1"); err == nil {
		t.Error("IPv4 by IPv6")
	}
	server, _ := serve(t, tsp.ServerConfig{})
	for _, name := range []string{fmt.Sprintf("localhost:%d", server.Addr.Port()), server.Addr.String()} {
		conn, err := quick.Dial(ctxOf(t), "udp4", name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
}

// TestVersionFallback: 302 leads to the next older version, on a new connection over TCP; the last 302 is the answer.
func TestVersionFallback(t *testing.T) {
	knows := func(known string, seen *[]string) func(string) string {
		return func(line string) string {
			*seen = append(*seen, strings.TrimSpace(line))
			if strings.TrimSpace(line) == "VERSION="+known {
				return offersAll
			}
			return "302 Unsupported client version\r\n"
		}
	}
	all := []string{"VERSION=2.0.2", "VERSION=2.0.1", "VERSION=2.0.0"}
	for _, known := range []string{"2.0.0", "1.0.0"} {
		for _, network := range []string{"udp4", "tcp4"} {
			var seen []string
			answer := knows(known, &seen)
			var server scripted
			if network == "udp4" {
				server = script(t, func(header, data string) []string { return []string{header + answer(data)} })
			} else {
				server = stream(t, func(r *bufio.Reader, w io.Writer) {
					line, _ := r.ReadString('\n')
					_, _ = io.WriteString(w, answer(line))
				})
			}
			conn, err := quick.Dial(ctxOf(t), network, server.String())
			server.stop()
			if !slices.Equal(seen, all) {
				t.Errorf("%s: told %q", network, seen)
			}
			if known == "2.0.0" {
				if err != nil || conn.Peer().Version != "2.0.0" {
					t.Errorf("%s: %v", network, err)
				}
				continue
			}
			status := new(tsp.StatusError)
			if !errors.As(err, &status) || status.Code != tsp.StatusBadVersion {
				t.Errorf("%s: %v", network, err)
			}
		}
	}
}
