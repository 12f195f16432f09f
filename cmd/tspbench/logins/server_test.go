// SPDX-License-Identifier: GPL-2.0-or-later

package logins

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"ddtb/tsp/sasl"
)

// server is a TSP server that knows one password for everybody and gives each client an address. It answers a message
// that it has answered already as it did before.
type server struct {
	conn     *net.UDPConn
	lose     int    // every so many datagrams one is lost; 0: none
	refuse   string // status that answers create, instead of an offer
	lie      bool   // rspauth is wrong
	password string

	dialogues map[netip.AddrPort]*served
	received  int
}

// served is one dialogue.
type served struct {
	mechanism sasl.Server
	pending   []byte // 200 Success, for the poll
	header    [4]byte
	reply     []byte
}

func startServer(t *testing.T, s *server) netip.AddrPort {
	t.Helper()
	var err error
	if s.conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	s.dialogues = map[netip.AddrPort]*served{}
	done := make(chan struct{})
	t.Cleanup(func() {
		s.conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		buffer := make([]byte, maxDatagram)
		for {
			n, from, err := s.conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			if s.received++; s.lose > 0 && s.received%s.lose == 0 {
				continue
			}
			if reply := s.answer(from, buffer[:n]); reply != nil {
				_, _ = s.conn.WriteToUDPAddrPort(reply, from)
			}
		}
	}()
	return s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func (s *server) answer(from netip.AddrPort, datagram []byte) []byte {
	if len(datagram) < headerLength || datagram[0]>>4 != 0xF {
		return nil
	}
	d := s.dialogues[from]
	text := datagram[headerLength:]
	if d == nil || bytes.HasPrefix(text, []byte("VERSION=")) && d.header != [4]byte(datagram) {
		d = &served{}
		s.dialogues[from] = d
	}
	if d.header != [4]byte(datagram) {
		d.header = [4]byte(datagram)
		d.reply = s.say(from, d, text)
	}
	return append(append([]byte(nil), datagram[:headerLength]...), d.reply...)
}

func (s *server) say(from netip.AddrPort, d *served, text []byte) []byte {
	switch line := string(text); {
	case strings.HasPrefix(line, "VERSION="):
		return []byte("CAPABILITY TUNNEL=V6UDPV4 AUTH=DIGEST-MD5 AUTH=PLAIN\r\n")
	case line == "AUTHENTICATE DIGEST-MD5\r\n":
		d.mechanism, _ = sasl.NewServer(sasl.DigestMD5, "test", rand.Reader)
		challenge, _ := d.mechanism.Start()
		return append(challenge, "\r\n"...)
	case line == "AUTHENTICATE PLAIN\r\n":
		d.mechanism, _ = sasl.NewServer(sasl.Plain, "test", rand.Reader)
		return nil
	case line == "":
		return d.pending
	case strings.Contains(line, `action="create"`):
		if s.refuse != "" {
			return framed(s.refuse + "\r\n")
		}
		return framed("200 Success\r\n" + offer(from))
	case strings.Contains(line, `action="accept"`):
		return nil
	default:
		return s.verify(d, bytes.TrimRight(text, "\r\n"))
	}
}

func (s *server) verify(d *served, token []byte) []byte {
	_, credential, err := d.mechanism.Next(token)
	if plain, ok := credential.(sasl.PlainCredential); ok && err == nil && plain.Password == s.password {
		return []byte("200 Success\r\n")
	}
	digest, ok := credential.(sasl.DigestCredential)
	if err != nil || !ok {
		return []byte("300 Authentication failed\r\n")
	}
	response, rspauth := sasl.NewHA1(digest.User(), digest.Realm, s.password).Proofs(digest)
	if response != digest.Response {
		return []byte("300 Authentication failed\r\n")
	}
	if s.lie {
		rspauth = strings.Repeat("0", len(rspauth))
	}
	d.pending = []byte("200 Success\r\n")
	return append(d.mechanism.Success(rspauth), "\r\n"...)
}

func offer(from netip.AddrPort) string {
	return fmt.Sprintf(`<tunnel action="info" type="v6udpv4" lifetime="60"><server><address type="ipv4">127.0.0.1</address>`+
		`<address type="ipv6">2001:0db8:0000:0000:0000:0000:0000:0001</address></server>`+
		`<client><address type="ipv4">127.0.0.1</address><address type="ipv6">%s</address></client></tunnel>`+"\r\n",
		endpointOf(from).StringExpanded())
}

// endpointOf is the address the server gives to a client: it can be told from it.
func endpointOf(client netip.AddrPort) netip.Addr {
	address := netip.MustParseAddr("2001:db8:1::").As16()
	octets := client.Addr().As4()
	copy(address[10:], octets[:])
	address[14], address[15] = byte(client.Port()>>8), byte(client.Port())
	return netip.AddrFrom16(address)
}

func framed(text string) []byte { return fmt.Appendf(nil, "Content-length: %d\r\n%s", len(text), text) }
