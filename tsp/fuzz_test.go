// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"bytes"
	"context"
	"net/netip"
	"testing"

	"ddtb/tsp/sasl"
)

// giving is a Backend and a Session that grants everything.
type giving struct{ Session }

func (giving) Capability(Peer) Capability {
	return Capability{Realm: "r", Tunnels: []TunnelType{V6V4, V6UDPV4}, Mechanisms: []sasl.Mechanism{sasl.Anonymous, sasl.Plain, sasl.DigestMD5, sasl.CramMD5}}
}
func (g giving) Authenticate(context.Context, Peer, sasl.Credential) (Session, string, error) {
	return g, "00000000000000000000000000000000", nil
}
func (giving) Create(_ context.Context, r Request) (Offer, error) {
	o := fullOffer
	o.Type, o.DNS, o.Keepalive = r.Type, r.DNS, r.Keepalive
	return o, nil
}
func (giving) Accept(context.Context) error        { return nil }
func (giving) Reject(context.Context) error        { return nil }
func (giving) Delete(context.Context) error        { return nil }
func (giving) Info(context.Context) (Offer, error) { return fullOffer, nil }

// FuzzDialogue plays messages, put apart by 0xff, to a dialogue. Whatever they are: every answer in the command phase is framed to the octet and begins
// with a status, and nothing panics, which rescue would turn into an error.
func FuzzDialogue(f *testing.F) {
	const create = "Content-length: 103\r\n<tunnel action=\"create\" type=\"v6udpv4\"><client><address type=\"ipv4\">1.2.3.4</address></client></tunnel>"
	f.Add([]byte(create+"\xffContent-length: 35\r\n<tunnel action=\"accept\"></tunnel>\r\n"), byte(0))
	f.Add([]byte("\x00u\x00p\r\n\xff"+create+"\xff"+create), byte(1))
	f.Add([]byte("Y2hhcnNldD11dGYtOA==\r\n"), byte(2))
	f.Add([]byte("dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\r\n\xffContent-length: 31\r\n<tunnel action=\"info\"></tunnel>"), byte(3))
	server, _ := idle(f, Limits{Rate: Unlimited})
	server.backend = giving{}
	f.Fuzz(func(t *testing.T, input []byte, choice byte) {
		mechanisms := giving{}.Capability(Peer{}).Mechanisms
		d := &dialogue{server: server, mechanism: mechanisms[int(choice)%len(mechanisms)],
			peer: Peer{Local: netip.MustParseAddrPort("192.0.2.1:3653"), Remote: netip.MustParseAddrPort("192.0.2.2:1024"), Network: "udp"}}
		if _, err := d.begin("r"); err != nil {
			t.Fatal(err)
		}
		if d.credential != nil {
			d.step(context.Background(), nil)
		}
		for _, message := range bytes.Split(input, []byte{0xff}) {
			if d.phase == phaseOver {
				return
			}
			framed := d.phase == phaseCommand
			answer := d.step(context.Background(), message).first
			if bytes.Contains(answer, []byte("310 ")) {
				t.Fatalf("%q is answered with %q", message, answer)
			}
			if !framed {
				continue
			}
			body, rest, err := parseFrame(answer, maxReply)
			if err != nil || len(rest) > 0 || !bytes.HasPrefix(answer, []byte("Content-length: ")) {
				t.Fatalf("%q is answered with %q: %v", message, answer, err)
			}
			if _, _, rest, err := parseStatus(body); err != nil || len(rest) > 0 && rest[0] != '<' {
				t.Fatalf("%q is answered with %q: %v", message, answer, err)
			}
		}
	})
}

// FuzzDatagram sends one datagram from an address nobody came from before: it gets at most three times as much back, and leaves nothing
// unless it is a valid AUTHENTICATE.
func FuzzDatagram(f *testing.F) {
	for _, datagram := range refused {
		f.Add([]byte(datagram))
	}
	f.Add([]byte("\xf0\x00\x00\xf1\x00\x00\x00\x01AUTHENTICATE DIGEST-MD5\r\n\x00"))
	server, socket := idle(f, Limits{Rate: Unlimited, Dialogues: 1000})
	scratch := make([]byte, 0, 2*maxDatagram)
	n := uint32(0)
	f.Fuzz(func(t *testing.T, datagram []byte) {
		n++
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 1024)
		answer := server.udp.datagram(socket, socket.local, remote, datagram, scratch)
		if len(answer) > 0 && len(answer)+ipUDP > amplification*(len(datagram)+ipUDP) {
			t.Fatalf("%d octets for %d", len(answer), len(datagram))
		}
		if len(answer) > 0 && !bytes.Equal(answer[:headerLen], datagram[:headerLen]) {
			t.Fatalf("%q is answered with %q", datagram, answer)
		}
		if server.udp.dialogues[endpointsOf(socket.local, remote)] != nil && !bytes.EqualFold(datagram[headerLen:][:len(authenticateRequest)], authenticateRequest) {
			t.Fatalf("%q is remembered", datagram)
		}
	})
}
