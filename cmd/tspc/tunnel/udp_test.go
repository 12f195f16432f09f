// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import (
	"bytes"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// sized makes packets of the given payload sizes, each with its own content.
func sized(sizes ...int) [][]byte {
	packets := make([][]byte, len(sizes))
	for i, n := range sizes {
		packets[i] = packet("2001:db8::1", "2001:db8::2", n)
		for j := range n {
			packets[i][ipv6HeaderLen+j] = byte(i + j)
		}
	}
	return packets
}

func repeat(size, n int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

func TestRunOf(t *testing.T) {
	for _, test := range []struct {
		name  string
		sizes []int
		want  int
	}{
		{"one", []int{100}, 1},
		{"equal", []int{100, 100, 100}, 3},
		{"shorter at the end", []int{100, 100, 50}, 3},
		{"nothing behind a shorter one", []int{100, 50, 50}, 2},
		{"longer begins anew", []int{100, 101}, 1},
		{"segments at most", repeat(100, 200), maxSegments},
		{"octets at most", repeat(1400, 60), maxRun / 1440},
	} {
		if got := runOf(sized(test.sizes...)); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// pair gives a UDP tunnel and the socket of its server on loopback.
func pair(t *testing.T) (*UDP, *net.UDPConn) {
	t.Helper()
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	conn, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	u, err := NewUDP(conn)
	if err != nil {
		t.Fatal(err)
	}
	return u, server
}

func TestUDPSendsEachPacketInADatagram(t *testing.T) {
	for _, test := range []struct {
		name    string
		segment bool
	}{{"segmented by the kernel", true}, {"one by one", false}} {
		t.Run(test.name, func(t *testing.T) {
			u, server := pair(t)
			u.segment.Store(test.segment && u.segment.Load())
			packets := sized(1240, 1240, 1240, 700, 8, 8, 1240, 0)
			if err := u.Send(packets); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 2000)
			for i, want := range packets {
				n, err := server.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(buf[:n], want) {
					t.Fatalf("datagram %d: %d octets, want packet of %d", i, n, len(want))
				}
			}
		})
	}
}

func TestUDPReceivesPacketsAndLeavesOutTSP(t *testing.T) {
	u, server := pair(t)
	client := u.conn.LocalAddr().(*net.UDPAddr)
	packets := sized(100, 100, 300, 8)
	tsp := []byte{0xF0, 0, 0, 1, 0, 0, 0, 1, '2', '0', '0'}
	for _, datagram := range [][]byte{tsp, {}, packets[0], packets[1], tsp, packets[2], packets[3]} {
		if _, err := server.WriteToUDP(datagram, client); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, receiveSize)
	var got [][]byte
	for len(got) < len(packets) {
		run, size, err := u.Receive(buf, true)
		if err != nil {
			t.Fatal(err)
		}
		for ; len(run) > 0; run = run[min(size, len(run)):] {
			got = append(got, bytes.Clone(run[:min(size, len(run))]))
		}
	}
	for i := range packets {
		if !bytes.Equal(got[i], packets[i]) {
			t.Errorf("packet %d: %d octets, want %d", i, len(got[i]), len(packets[i]))
		}
	}
	if run, _, err := u.Receive(buf, false); err != nil || len(run) != 0 {
		t.Errorf("nothing is there, yet %d octets, %v", len(run), err)
	}
}

// TestUDPSurvivesRefusal: while the server restarts its kernel answers with port unreachable.
func TestUDPSurvivesRefusal(t *testing.T) {
	u, server := pair(t)
	address := server.LocalAddr().(*net.UDPAddr)
	server.Close()
	if err := u.Send(sized(8)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, receiveSize)
	if _, _, err := u.Receive(buf, true); !Passing(err) {
		t.Fatalf("%v, want a passing error", err)
	}
	server, err := net.ListenUDP("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := u.Send(sized(8)); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(buf); err != nil || n != ipv6HeaderLen+8 {
		t.Fatalf("%d octets, %v", n, err)
	}
}

func TestUDPStop(t *testing.T) {
	u, server := pair(t)
	ended := make(chan error, 1)
	go func() {
		_, _, err := u.Receive(make([]byte, receiveSize), true)
		ended <- err
	}()
	u.Stop()
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) || Passing(err) {
		t.Fatalf("%v, want a deadline that is not passing", err)
	}
	if err := u.Send(sized(8)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Send after Stop: %v", err)
	}
	// The socket is still good for the next dialogue.
	if err := u.conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := u.conn.Write([]byte("again")); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 10)); err != nil || n != 5 {
		t.Fatalf("%d octets, %v", n, err)
	}
}
