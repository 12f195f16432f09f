// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
	"ddtb/tsp/tsptest"
)

// TestMechanismChoice: the first wanted that is offered, never one that is not wanted.
func TestMechanismChoice(t *testing.T) {
	for _, test := range []struct {
		wanted  []sasl.Mechanism
		offered string
		want    string // what the client says, "" if nothing
	}{
		{nil, "AUTH=ANONYMOUS AUTH=PLAIN AUTH=DIGEST-MD5", "DIGEST-MD5"},
		{nil, "AUTH=ANONYMOUS AUTH=PLAIN auth=cram-md5", "CRAM-MD5"},
		{nil, "AUTH=ANONYMOUS AUTH=PLAIN AUTH=PASSDSS-3DES-1", "PLAIN"},
		{nil, "AUTH=ANONYMOUS", ""},
		{[]sasl.Mechanism{sasl.DigestMD5}, "AUTH=ANONYMOUS AUTH=PLAIN", ""},
		{[]sasl.Mechanism{sasl.DigestMD5, sasl.CramMD5}, "AUTH=PLAIN AUTH=CRAM-MD5", "CRAM-MD5"},
		{[]sasl.Mechanism{sasl.Anonymous}, "AUTH=ANONYMOUS AUTH=PLAIN", "ANONYMOUS"},
		{[]sasl.Mechanism{}, "AUTH=ANONYMOUS AUTH=PLAIN", ""},
	} {
		var said string
		server := script(t, func(header, data string) []string {
			if mechanism, ok := strings.CutPrefix(data, "AUTHENTICATE "); ok {
				said = strings.TrimSpace(mechanism)
				return []string{header + "300 Authentication failed\r\n"}
			}
			return []string{header + "CAPABILITY TUNNEL=V6V4 " + test.offered + "\r\n"}
		})
		client := quick
		client.Mechanisms = test.wanted
		conn, err := client.Dial(ctxOf(t), "udp4", server.String())
		if err != nil {
			t.Fatal(err)
		}
		err = conn.Login(ctxOf(t))
		conn.Close()
		server.stop()
		if said != test.want || errors.Is(err, tsp.ErrMechanism) != (test.want == "") {
			t.Errorf("%v of %s: said %q, %v", test.wanted, test.offered, said, err)
		}
		status := new(tsp.StatusError)
		if test.want != "" && (!errors.As(err, &status) || status.Code != tsp.StatusAuthFailed) {
			t.Errorf("%v of %s: %v", test.wanted, test.offered, err)
		}
	}
}

// TestImpostors: a server that does not know the password cannot pass for one that does.
func TestImpostors(t *testing.T) {
	challenge := "cmVhbG09InIiLG5vbmNlPSJuIixxb3A9ImF1dGgiLGFsZ29yaXRobT1tZDUtc2VzcyxjaGFyc2V0PXV0Zi04\r\n"
	for name, test := range map[string]struct {
		answer string
		want   error
	}{
		"success at once":       {success, sasl.ErrProof},
		"another proof":         {"cnNwYXV0aD1iOWQ2N2I1MDJjNWI2NWRlNzgyNjJmYjJmMjM4NWFjZg==\r\n", sasl.ErrProof},
		"not base64":            {"what?\r\n", sasl.ErrMalformed},
		"the challenge again":   {challenge, sasl.ErrProof},
		"nothing, and for ever": {"", tsp.ErrProtocol},
	} {
		server := script(t, func(header, data string) []string {
			switch {
			case strings.HasPrefix(data, "VERSION"):
				return []string{header + offersAll}
			case strings.HasPrefix(data, "AUTHENTICATE"):
				return []string{header + challenge}
			}
			return []string{header + test.answer}
		})
		conn, err := quick.Dial(ctxOf(t), "udp4", server.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Login(ctxOf(t)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		conn.Close()
	}
	server := say(t, map[string]string{"VERSION": offersAll, "AUTHENTICATE": success}) // no challenge at all
	conn, err := quick.Dial(ctxOf(t), "udp4", server.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Login(ctxOf(t)); !errors.Is(err, sasl.ErrProof) {
		t.Error(err)
	}
}

// TestNonsense: whatever a server says in place of what belongs here is ErrProtocol.
func TestNonsense(t *testing.T) {
	for _, answer := range []string{"hello\r\n", "\x00", success, "1200 Redirection\r\n", "1200 Redirection\r\n<tunnel/>", "1302 x\r\n<broker"} {
		server := say(t, map[string]string{"VERSION": answer})
		if _, err := quick.Dial(ctxOf(t), "udp4", server.String()); !errors.Is(err, tsp.ErrProtocol) {
			t.Errorf("VERSION is answered with %q: %v", answer, err)
		}
		tcp := stream(t, func(r *bufio.Reader, w io.Writer) {
			_, _ = r.ReadString('\n')
			_, _ = io.WriteString(w, answer)
		})
		if _, err := quick.Dial(ctxOf(t), "tcp4", tcp.String()); !errors.Is(err, tsp.ErrProtocol) {
			t.Errorf("TCP, VERSION is answered with %q: %v", answer, err)
		}
	}
	for _, answer := range []string{"hello\r\n", success, frame(success), frame(success + "<tunnel/>"), frame(success + "<tunnel"), frame("200 x"), "Content-length: 99999\r\n",
		frame(success + `<tunnel action="info" type="v6anyv4"></tunnel>`), frame("1200 x\r\n"), "Content-length: 100\r\n" + success} {
		server := say(t, map[string]string{"VERSION": offersAll, "AUTHENTICATE": success, "Content": answer, "": ""})
		client := quick
		client.Mechanisms = []sasl.Mechanism{sasl.Anonymous}
		conn, err := client.Dial(ctxOf(t), "udp4", server.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Login(ctxOf(t)); err != nil {
			t.Fatal(err)
		}
		if offer, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.V6UDPV4}); !errors.Is(err, tsp.ErrProtocol) {
			t.Errorf("create is answered with %q: %+v %v", answer, offer, err)
		}
		conn.Close()
	}
	endless := stream(t, func(r *bufio.Reader, w io.Writer) {
		for range 100 {
			if _, err := io.WriteString(w, strings.Repeat("x", 1024)); err != nil {
				return
			}
		}
		_, _ = r.ReadString('\x00')
	})
	if _, err := quick.Dial(ctxOf(t), "tcp4", endless.String()); !errors.Is(err, tsp.ErrProtocol) {
		t.Errorf("a line without end: %v", err)
	}
}

// TestOtherServers: what servers do that follow the RFC's figures to the letter, or are older than it.
func TestOtherServers(t *testing.T) {
	const offer = success + "<tunnel action=\"info\" type=\"v6v4\" lifetime=\"604800\"><server><address type=\"ipv4\">192.0.2.115</address><address type=\"ipv6\">2001:db8:8000::38b2</address></server>" +
		"<client><address type=\"ipv4\">192.0.2.135</address><address type=\"ipv6\">2001:db8:8000::38b3</address><keepalive interval=\"30\"><address type=\"ipv6\">2001:db8:8000::38b2</address></keepalive></client></tunnel>\r\n"
	client := quick
	client.Mechanisms = []sasl.Mechanism{sasl.Anonymous}
	finish := func(name string, conn *tsp.Conn, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		defer conn.Close()
		if err := conn.Login(ctxOf(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.V6V4}); err != nil || got.ClientIPv6 != netip.MustParseAddr("2001:db8:8000::38b3") || got.Keepalive != 30*time.Second {
			t.Errorf("%s: %+v %v", name, got, err)
		}
		if err := conn.Accept(ctxOf(t)); err != nil {
			t.Errorf("%s: accept: %v", name, err)
		}
	}
	// accept is acknowledged by a bare header, 200 has another text (figure 15).
	server := say(t, map[string]string{"VERSION": offersAll, "AUTHENTICATE": "200 Authentication successful\r\n", "Content-length: 35\r\n": "", "Content-length: 1": frame(strings.Replace(offer, "Success", "OK", 1)), "": ""})
	conn, err := client.Dial(ctxOf(t), "udp4", server.String())
	finish("bare header", conn, err)
	// Over TCP nothing follows accept: the server closes, or keeps silent.
	for _, silent := range []bool{false, true} {
		tcp := stream(t, func(r *bufio.Reader, w io.Writer) {
			_, _ = r.ReadString('\n')
			_, _ = io.WriteString(w, offersAll)
			_, _ = r.ReadString('\n')
			_, _ = io.WriteString(w, success)
			for line := ""; !strings.Contains(line, "</tunnel>"); {
				var err error
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			_, _ = io.WriteString(w, frame(offer))
			_, _ = r.ReadString('\n')
			_, _ = r.ReadString('\n')
			if silent {
				_, _ = r.ReadString('\x00')
			}
		})
		conn, err := client.Dial(ctxOf(t), "tcp4", tcp.String())
		finish(fmt.Sprint("silent is ", silent), conn, err)
	}
	// An error without Content-length.
	server = say(t, map[string]string{"VERSION": offersAll, "AUTHENTICATE": success, "Content": "521 Request already in progress\r\n"})
	conn, err = client.Dial(ctxOf(t), "udp4", server.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Login(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	status := new(tsp.StatusError)
	if _, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.V6V4}); !errors.As(err, &status) || status.Code != tsp.StatusInProgress || !status.Code.Temporary() {
		t.Errorf("%v", err)
	}
}

// TestAnswerOfAccept: the client learns when the tunnel is not there after all.
func TestAnswerOfAccept(t *testing.T) {
	backend := tsptest.NewBackend()
	backend.Fail = func(_ context.Context, call, _ string) error {
		if call == "accept" {
			return &tsp.StatusError{Code: tsp.StatusBusy}
		}
		return nil
	}
	server, _ := serve(t, tsp.ServerConfig{Backend: backend})
	for _, network := range []string{"udp4", "tcp4"} {
		client := tsp.Client{Mechanisms: []sasl.Mechanism{sasl.Anonymous}}
		conn, err := client.Dial(ctxOf(t), network, server.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Login(ctxOf(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Create(ctxOf(t), tsp.Request{Type: tsp.V6V4}); err != nil {
			t.Fatal(err)
		}
		status := new(tsp.StatusError)
		if err := conn.Accept(ctxOf(t)); !errors.As(err, &status) || status.Code != tsp.StatusBusy {
			t.Errorf("%s: %v", network, err)
		}
		if err := conn.Reject(ctxOf(t)); err != nil {
			t.Errorf("%s: %v", network, err)
		}
		conn.Close()
	}
}
