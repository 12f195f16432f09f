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
				socket.WriteToUDPAddrPort([]byte(datagram), from)
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
					io.WriteString(w, answer(line))
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
			r.ReadString('\n')
			io.WriteString(w, answer)
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
		r.ReadString('\x00')
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
			r.ReadString('\n')
			io.WriteString(w, offersAll)
			r.ReadString('\n')
			io.WriteString(w, success)
			for line := ""; !strings.Contains(line, "</tunnel>"); {
				var err error
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			io.WriteString(w, frame(offer))
			r.ReadString('\n')
			r.ReadString('\n')
			if silent {
				r.ReadString('\x00')
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
	conn.Login(ctxOf(t))
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

// TestProbe: the brokers that answer, the nearest first. They listen on the port of the protocol, which is taken at addresses out of
// 127.0.0.0/8 that nobody else uses.
func TestProbe(t *testing.T) {
	delays := map[string]time.Duration{"127.31.36.1": 60 * time.Millisecond, "127.31.36.2": 0, "127.31.36.3": 30 * time.Millisecond}
	for address, delay := range delays {
		socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(address), Port: tsp.Port})
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		go func() {
			b := make([]byte, 100)
			for {
				n, from, err := socket.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				if string(b[8:n]) != "ECHO REQUEST" {
					t.Errorf("%q", b[8:n])
				}
				answer := append(slices.Clone(b[:8]), "200 Success\r\n"...)
				time.AfterFunc(delay, func() { socket.WriteToUDPAddrPort(answer, from) })
			}
		}()
	}
	var brokers []tsp.Broker
	for _, address := range []string{"127.31.36.1", "127.31.36.9", "127.31.36.2", "127.31.36.3"} { // nobody is at .9
		brokers = append(brokers, tsp.Broker{Addr: netip.MustParseAddr(address)})
	}
	client := tsp.Client{MinRTO: patience}
	got := client.Probe(ctxOf(t), append(brokers, tsp.Broker{Name: "no such name"}))
	if want := []tsp.Broker{brokers[2], brokers[3], brokers[0]}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if name := (tsp.Broker{Name: "b.example"}).String(); name != "b.example" {
		t.Error(name)
	}
}
