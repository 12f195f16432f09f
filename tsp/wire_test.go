// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/tsptest"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// wire is a client by hand: it sends and sees octets.
type wire struct {
	t        testing.TB
	conn     net.Conn
	sequence uint32 // of the last datagram
	stamp    uint32
}

// dial opens a socket to a server; a datagram one starts at the sequence all clients start at.
func dial(t testing.TB, network string, server netip.AddrPort) *wire {
	t.Helper()
	conn, err := net.Dial(network, server.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, conn: conn, sequence: 0xef, stamp: 1000}
}

// lockedBuffer is written by many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// sockets opens a UDP socket on loopback.
func sockets(t testing.TB) []*net.UDPConn {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return []*net.UDPConn{socket}
}

// serve starts a server over a backend in memory.
func serve(t testing.TB, config tsp.ServerConfig) (*tsptest.Server, *tsptest.Backend) {
	t.Helper()
	backend, ok := config.Backend.(*tsptest.Backend)
	if !ok {
		backend = tsptest.NewBackend()
		config.Backend = backend
	}
	return tsptest.NewServer(t, config), backend
}

// send sends one datagram.
func (w *wire) send(sequence, stamp uint32, data string) {
	w.t.Helper()
	b := binary.BigEndian.AppendUint32(nil, 0xf0000000|sequence)
	w.raw(string(append(binary.BigEndian.AppendUint32(b, stamp), data...)))
}

// raw sends octets as they are.
func (w *wire) raw(data string) {
	w.t.Helper()
	if _, err := w.conn.Write([]byte(data)); err != nil {
		w.t.Fatal(err)
	}
}

// receive takes one datagram.
func (w *wire) receive() (sequence, stamp uint32, data string) {
	w.t.Helper()
	b := w.read()
	if len(b) < 8 || b[0]>>4 != 15 {
		w.t.Fatalf("no TSP: %q", b)
	}
	return binary.BigEndian.Uint32([]byte(b)) &^ 0xf0000000, binary.BigEndian.Uint32([]byte(b[4:])), b[8:]
}

// read takes what one recv() gives, "" at the end of a stream.
func (w *wire) read() string {
	w.t.Helper()
	b := make([]byte, 65536)
	n, err := w.conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatal("no answer")
	}
	return string(b[:n])
}

// ask sends the next message and takes the answer, which has to be headed alike.
func (w *wire) ask(data string) string {
	w.t.Helper()
	w.sequence++
	w.stamp += 7
	return w.repeat(w.sequence, w.stamp, data)
}

// repeat sends a message and takes the answer.
func (w *wire) repeat(sequence, stamp uint32, data string) string {
	w.t.Helper()
	w.send(sequence, stamp, data)
	gotSequence, gotStamp, answer := w.receive()
	if gotSequence != sequence || gotStamp != stamp {
		w.t.Fatalf("answer to %x %d is headed %x %d: %q", sequence, stamp, gotSequence, gotStamp, answer)
	}
	return answer
}

// silence checks that a datagram is not answered: the next thing heard is the answer to another.
func (w *wire) silence(send func()) {
	w.t.Helper()
	send()
	if answer := w.repeat(0x7777777, w.stamp, "ECHO REQUEST"); answer != "200 Success\r\n" {
		w.t.Fatalf("%q in place of the echo", answer)
	}
}

// expect asks and compares.
func (w *wire) expect(ask, want string) {
	w.t.Helper()
	if got := w.ask(ask); got != want {
		w.t.Fatalf("%q is answered with %q, want %q", ask, got, want)
	}
}

// frame puts Content-length before a body.
func frame(body string) string { return fmt.Sprintf("Content-length: %d\r\n%s", len(body), body) }

const (
	success = "200 Success\r\n"
	accept  = "<tunnel action=\"accept\"></tunnel>\r\n"
)

// create is a request as clients send it.
func create(kind, stated string) string {
	return frame("<tunnel action=\"create\" type=\"" + kind + "\" proxy=\"no\">\r\n <client>\r\n  <address type=\"ipv4\">" + stated + "</address>\r\n" +
		"  <keepalive interval=\"30\">\r\n    <address type=\"ipv6\">::</address>\r\n  </keepalive>\r\n </client>\r\n</tunnel>\r\n")
}

// framed takes a framed answer apart and checks its length to the octet.
func framed(t testing.TB, answer string) (status, xml string) {
	t.Helper()
	head, body, found := strings.Cut(answer, "\r\n")
	n, ok := strings.CutPrefix(head, "Content-length: ")
	if length, err := strconv.Atoi(n); !found || !ok || err != nil || length != len(body) {
		t.Fatalf("%q in front of %d octets", head, len(body))
	}
	status, xml, _ = strings.Cut(body, "\r\n")
	return status + "\r\n", xml
}

// login logs in without a name.
func (w *wire) login() {
	w.t.Helper()
	if answer := w.ask("VERSION=2.0.2\r\n"); !strings.HasPrefix(answer, "CAPABILITY ") {
		w.t.Fatalf("%q", answer)
	}
	w.expect("AUTHENTICATE ANONYMOUS\r\n\x00", success)
}
