// SPDX-License-Identifier: GPL-2.0-or-later

package mmsg

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// open gives a socket with a Reader and a Writer on it.
func open(t *testing.T, network, address string) (*net.UDPConn, *Reader, *Writer) {
	t.Helper()
	packets, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	conn, ok := packets.(*net.UDPConn)
	if !ok {
		t.Fatalf("a socket of type %T", packets)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(conn, 8, 100)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(conn, 8)
	if err != nil {
		t.Fatal(err)
	}
	return conn, r, w
}

func at(conn *net.UDPConn, addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), netip.MustParseAddrPort(conn.LocalAddr().String()).Port())
}

// read collects n datagrams, copied.
func read(t *testing.T, r *Reader, n int) (messages []Message) {
	t.Helper()
	for len(messages) < n {
		got, err := r.Read()
		if err != nil || len(got) == 0 {
			t.Fatalf("after %d of %d datagrams: %d, %v", len(messages), n, len(got), err)
		}
		for _, m := range got {
			m.Data = bytes.Clone(m.Data)
			messages = append(messages, m)
		}
	}
	return messages
}

// TestThereAndBack sends more datagrams than a batch holds to a server, and its answers back, over each kind of socket.
func TestThereAndBack(t *testing.T) {
	for _, test := range []struct {
		name, network, listen string
		client, to            string // the address the client has, and the one it speaks to
		tells                 bool   // the server's socket tells what that was
	}{
		{"IPv4", "udp4", "127.0.0.1:0", "127.0.0.2", "127.0.0.1", false},
		{"IPv6", "udp6", "[::1]:0", "::1", "::1", false},
		{"IPv4 wildcard", "udp4", "0.0.0.0:0", "127.0.0.2", "127.0.0.7", true},
		{"IPv6 wildcard", "udp6", "[::]:0", "::1", "::1", true},
		{"both, IPv4", "udp", "[::]:0", "127.0.0.2", "127.0.0.7", true},
		{"both, IPv6", "udp", "[::]:0", "::1", "::1", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			serverConn, serverReader, serverWriter := open(t, test.network, test.listen)
			clientConn, clientReader, clientWriter := open(t, "udp", net.JoinHostPort(test.client, "0"))
			const n = 20
			var requests []Message
			for i := range n {
				requests = append(requests, Message{Data: fmt.Appendf(nil, "request %d", i), Remote: at(serverConn, test.to)})
			}
			requests = append(requests, Message{Remote: at(serverConn, test.to)}) // empty: passed over
			if err := clientWriter.Write(requests); err != nil {
				t.Fatal(err)
			}
			var answers []Message
			for i, m := range read(t, serverReader, n) {
				if string(m.Data) != fmt.Sprint("request ", i) || m.Remote.Addr().Unmap() != netip.MustParseAddr(test.client) {
					t.Fatalf("datagram %d: %q from %v", i, m.Data, m.Remote)
				}
				if want := netip.MustParseAddr(test.to); test.tells && m.Local != want || !test.tells && m.Local.IsValid() {
					t.Fatalf("datagram %d came to %v, want %v: %v", i, m.Local, want, test.tells)
				}
				answers = append(answers, Message{Data: fmt.Appendf(nil, "answer %d", i), Remote: m.Remote, Local: m.Local})
			}
			if err := serverWriter.Write(answers); err != nil {
				t.Fatal(err)
			}
			for i, m := range read(t, clientReader, n) {
				if string(m.Data) != fmt.Sprint("answer ", i) || m.Remote != at(serverConn, test.to) {
					t.Fatalf("datagram %d: %q from %v, want %v", i, m.Data, m.Remote, at(serverConn, test.to))
				}
			}
			if clientConn.Close() != nil {
				t.Fatal("not closed")
			}
			if _, err := clientReader.Read(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a closed socket reads %v", err)
			}
			if err := clientWriter.Write(requests); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a closed socket writes %v", err)
			}
		})
	}
}

// TestLostOne: a datagram that cannot be sent does not keep the others from it.
func TestLostOne(t *testing.T) {
	server, reader, _ := open(t, "udp4", "127.0.0.1:0")
	_, _, writer := open(t, "udp4", "127.0.0.1:0")
	to := at(server, "127.0.0.1")
	err := writer.Write([]Message{
		{Data: []byte("one"), Remote: to}, {Data: make([]byte, 1<<16), Remote: to}, {Data: []byte("three"), Remote: to},
	})
	if err == nil {
		t.Error("a datagram of 65536 octets was sent")
	}
	if got := read(t, reader, 2); string(got[0].Data) != "one" || string(got[1].Data) != "three" {
		t.Errorf("got %q and %q", got[0].Data, got[1].Data)
	}
}

// TestConnected: a connected socket needs no address.
func TestConnected(t *testing.T) {
	server, reader, _ := open(t, "udp4", "127.0.0.1:0")
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at(server, "127.0.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	writer, err := NewWriter(conn, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Write([]Message{{Data: []byte("one")}, {Data: make([]byte, 200)}}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, reader, 2); string(got[0].Data) != "one" || len(got[1].Data) != 100 {
		t.Errorf("got %q, and %d octets of a datagram too long", got[0].Data, len(got[1].Data))
	}
}

func TestDeadline(t *testing.T) {
	conn, reader, _ := open(t, "udp4", "127.0.0.1:0")
	if err := conn.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %v", err)
	}
}

func TestBatchBounds(t *testing.T) {
	conn, _, _ := open(t, "udp4", "127.0.0.1:0")
	for _, n := range []int{0, maxBatch + 1} {
		if _, err := NewReader(conn, n, 100); err == nil {
			t.Errorf("a batch of %d", n)
		}
	}
}
