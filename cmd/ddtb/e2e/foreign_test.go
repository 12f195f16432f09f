// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// Clients by other authors get through: what they once sent to another server, byte by byte, gets them a tunnel here
// that carries packets. (The response of DIGEST-MD5 belongs to one challenge: those recordings are replayed by the
// protocol's own tests, with the challenge of then.)
func TestRootForeignClients(t *testing.T) {
	isp := serve(t, nil)
	for _, c := range []struct{ recording, user, password string }{
		{"udp-anonymous-host.hex", "", ""},
		{"udp-plain.hex", "alice", "s3cret pw"},
		{"tcp-plain.hex", "alice", "s3cretpw"},
		{"udp-anonymous-java.hex", "", ""},
	} {
		t.Run(strings.TrimSuffix(c.recording, ".hex"), func(t *testing.T) {
			if c.user != "" {
				must(t, isp.AddUser(c.user, c.password))
				defer func() { _, err := isp.Ctl("user", "del", c.user); must(t, err) }()
			}
			messages := readDialogue(t, c.recording)
			socket, tunnel := foreign(t, isp.Open, messages)
			if session := only(t, isp); session.Endpoint != tunnel.endpoint || session.User != c.user && c.user != "" {
				t.Errorf("session %+v, the client was told %+v", session, tunnel)
			}
			data := socket
			if messages[0].network == "tcp" {
				data = dial(t, isp.Open, "ip4:41", ServerIPv4.String())
			}
			must(t, ping(data, tunnel.endpoint, tunnel.server))
			must(t, ping(data, tunnel.endpoint, BeyondIPv6))
			_, err := isp.Ctl("session", "kick", only(t, isp).ID)
			must(t, err)
			must(t, isp.Empty())
		})
	}
}

// foreign replays a recording from a host over a socket that stays open for the test.
func foreign(t *testing.T, host *Host, messages []message) (net.Conn, told) {
	t.Helper()
	socket := dial(t, host, messages[0].network, netip.AddrPortFrom(ServerIPv4, 3653).String())
	tunnel, err := replay(socket, messages)
	must(t, err)
	if !tunnel.endpoint.IsValid() || !tunnel.server.IsValid() {
		t.Fatalf("the server told %+v", tunnel)
	}
	return socket, tunnel
}

// dial opens a socket on a host for the length of a test.
func dial(t *testing.T, host *Host, network, address string) (conn net.Conn) {
	t.Helper()
	must(t, host.Do(func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ping sends an echo request through a tunnel, once a second, until it is answered.
func ping(socket net.Conn, source, destination netip.Addr) error {
	data := []byte("sixteen octets..")
	buffer := make([]byte, 2048)
	const sequence = 1
	for range int(patience / time.Second) {
		if _, err := socket.Write(echoRequest(source, destination, sequence, data)); err != nil {
			return err
		}
		if err := socket.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		for {
			n, err := socket.Read(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			if isEchoReply(inner(buffer[:n]), source, destination, sequence, data) {
				return nil
			}
		}
	}
	return fmt.Errorf("no answer from %s to %s", destination, source)
}

// inner is the IPv6 packet in what was read from a tunnel's socket: a raw socket gives the IPv4 header too.
func inner(packet []byte) []byte {
	if len(packet) > 0 && packet[0]>>4 == 4 {
		return packet[min(len(packet), int(packet[0]&0xf)*4):]
	}
	return packet
}
