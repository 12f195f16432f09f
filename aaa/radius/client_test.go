// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"ddtb/aaa"
)

var testSecret = []byte("testing123")

// fake is a RADIUS server on loopback that answers every request by reply.
type fake struct {
	conn  *net.UDPConn
	asked atomic.Int32
}

// newFake starts a server. reply returns the datagrams to send, in order.
func newFake(t *testing.T, reply func(n int, request []byte) [][]byte) *fake {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, maxLen)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			for _, b := range reply(int(f.asked.Add(1)), append([]byte(nil), buf[:n]...)) {
				_, _ = conn.WriteToUDPAddrPort(b, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return f
}

// answer makes an Access-Accept to request, signed if told so.
func answer(t *testing.T, request []byte, signed bool) []byte {
	t.Helper()
	q, err := radius.Parse(request, testSecret)
	if err != nil {
		t.Error(err)
		return nil
	}
	r := q.Response(radius.CodeAccessAccept)
	if !signed {
		b, err := r.Encode()
		if err != nil {
			t.Error(err)
		}
		return b
	}
	r.Add(attrMessageAuthenticator, make(radius.Attribute, 16))
	b, err := r.MarshalBinary()
	if err != nil {
		t.Error(err)
	}
	newSigner(testSecret).sign(b, q.Authenticator[:])
	p, err := radius.Parse(b, testSecret)
	if err != nil {
		t.Error(err)
	}
	p.Authenticator = q.Authenticator
	if b, err = p.Encode(); err != nil {
		t.Error(err)
	}
	return b
}

func client(t *testing.T, o Options) *Client {
	t.Helper()
	setDefault(&o.Retransmit, 20*time.Millisecond)
	setDefault(&o.Timeout, 10*time.Second)
	for i := range o.Servers {
		o.Servers[i].Secret = testSecret
	}
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func ask(c *Client) (*Reply, error) {
	return c.Exchange(context.Background(), radius.CodeAccessRequest, func(p *radius.Packet) error {
		return rfc2865.UserName_SetString(p, "alice")
	})
}

func TestExchangeBeginsWithMessageAuthenticator(t *testing.T) {
	f := newFake(t, func(_ int, q []byte) [][]byte {
		if q[headerLen] != attrMessageAuthenticator {
			t.Error("the first attribute is not Message-Authenticator")
		}
		if !newSigner(testSecret).valid(q, q[4:headerLen], headerLen) {
			t.Error("Message-Authenticator is wrong")
		}
		return [][]byte{answer(t, q, true)}
	})
	if _, err := ask(client(t, Options{Servers: []Server{{Address: f.conn.LocalAddr().String()}}})); err != nil {
		t.Fatal(err)
	}
}

func TestExchangeIgnoresForgeries(t *testing.T) {
	f := newFake(t, func(_ int, q []byte) [][]byte {
		good := answer(t, q, true)
		wrongAuth := append([]byte(nil), good...)
		wrongAuth[5] ^= 1
		otherCode := append([]byte(nil), good...)
		otherCode[0] = byte(radius.CodeAccountingResponse)
		otherID := append([]byte(nil), good...)
		otherID[1]++
		return [][]byte{nil, {1}, good[:19], wrongAuth, otherCode, otherID, append(good[:len(good):len(good)], "padding"...)}
	})
	r, err := ask(client(t, Options{Servers: []Server{{Address: f.conn.LocalAddr().String(), MessageAuthenticator: Require}}}))
	if err != nil || r.Packet.Code != radius.CodeAccessAccept {
		t.Fatalf("got %v, %v", r, err)
	}
	if f.asked.Load() != 1 {
		t.Errorf("asked %d times: a forgery ended the wait", f.asked.Load())
	}
}

func TestMessageAuthenticatorPolicy(t *testing.T) {
	tests := []struct {
		name   string
		policy Policy
		signed []bool // each reply in turn
		ok     []bool
	}{
		{"auto accepts a server that never signs", Auto, []bool{false, false}, []bool{true, true}},
		{"auto latches", Auto, []bool{false, true, false}, []bool{true, true, false}},
		{"require", Require, []bool{false, true}, []bool{false, true}},
		{"accept", Accept, []bool{true, false}, []bool{true, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var signed atomic.Bool
			f := newFake(t, func(_ int, q []byte) [][]byte { return [][]byte{answer(t, q, signed.Load())} })
			c := client(t, Options{Timeout: 200 * time.Millisecond, Servers: []Server{{
				Address: f.conn.LocalAddr().String(), MessageAuthenticator: tt.policy}}})
			for i := range tt.signed {
				signed.Store(tt.signed[i])
				_, err := ask(c)
				if (err == nil) != tt.ok[i] {
					t.Fatalf("reply %d: %v", i, err)
				}
				if err != nil && (!errors.Is(err, ErrReply) || !errors.Is(err, errNoMA)) {
					t.Errorf("reply %d: %v, want what was wrong with it", i, err)
				}
			}
		})
	}
}

func TestExchangeSendsTheSameOctetsAgain(t *testing.T) {
	var first []byte
	f := newFake(t, func(n int, q []byte) [][]byte {
		if n == 1 {
			first = q
			return nil
		}
		if string(q) != string(first) {
			t.Error("a retransmission differs from the request")
		}
		return [][]byte{answer(t, q, true)}
	})
	if _, err := ask(client(t, Options{Servers: []Server{{Address: f.conn.LocalAddr().String()}}})); err != nil {
		t.Fatal(err)
	}
}

func TestExchangeFailsOver(t *testing.T) {
	silent := newFake(t, func(int, []byte) [][]byte { return nil })
	good := newFake(t, func(_ int, q []byte) [][]byte { return [][]byte{answer(t, q, true)} })
	c := client(t, Options{Dead: Dead{After: 1, Time: time.Hour}, Servers: []Server{
		{Name: "backup", Address: good.conn.LocalAddr().String(), Priority: 2},
		{Name: "first", Address: silent.conn.LocalAddr().String(), Priority: 1},
	}})
	for range 3 {
		r, err := ask(c)
		if err != nil || r.Server != "backup" {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	if n := silent.asked.Load(); n != 2 {
		t.Errorf("the silent server got %d datagrams, want 2: a dead server is left alone", n)
	}
}

// TestQueueLeavesTheDead: who waits for a place at a server goes on to the next as soon as the first is found dead.
func TestQueueLeavesTheDead(t *testing.T) {
	silent := newFake(t, func(int, []byte) [][]byte { return nil })
	good := newFake(t, func(_ int, q []byte) [][]byte { return [][]byte{answer(t, q, true)} })
	c := client(t, Options{Servers: []Server{
		{Name: "silent", Address: silent.conn.LocalAddr().String(), Priority: 1, InFlight: 2},
		{Name: "good", Address: good.conn.LocalAddr().String(), Priority: 2},
	}})
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if reply, err := ask(c); err != nil || reply.Server != "good" {
				t.Errorf("%+v, %v", reply, err)
			}
		})
	}
	wg.Wait()
	if n := silent.asked.Load(); n > 12 {
		t.Errorf("a silent server was sent %d datagrams, two for each of a few logins expected", n)
	}
}

func TestProbeRevives(t *testing.T) {
	var up atomic.Bool
	f := newFake(t, func(_ int, q []byte) [][]byte {
		if !up.Load() {
			return nil
		}
		return [][]byte{answer(t, q, true)}
	})
	c := client(t, Options{Timeout: 150 * time.Millisecond, Dead: Dead{After: 1, Time: time.Hour, Probe: 20 * time.Millisecond},
		Servers: []Server{{Address: f.conn.LocalAddr().String()}}})
	if _, err := ask(c); !errors.Is(err, aaa.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if !c.servers[0].dead(time.Now()) {
		t.Fatal("a silent server is not dead")
	}
	up.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	deadline := time.Now().Add(10 * time.Second)
	for c.servers[0].dead(time.Now()) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // polls a state
	}
	if c.servers[0].dead(time.Now()) {
		t.Error("Status-Server did not revive the server")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRestartFailsNoLogin takes the only server away (its port is closed, ICMP errors come back) and brings it again.
func TestRestartFailsNoLogin(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := conn.LocalAddr().String()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	c := client(t, Options{Servers: []Server{{Address: address}}})
	got := make(chan error)
	go func() { _, err := ask(c); got <- err }()
	for c.servers[0].sent() == 0 {
		time.Sleep(time.Millisecond) // polls a state
	}
	again, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	go func() {
		buf := make([]byte, maxLen)
		n, from, err := again.ReadFrom(buf)
		if err == nil {
			_, _ = again.WriteTo(answer(t, buf[:n], true), from)
		}
	}()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// TestManyInFlight has more requests at once than one link has identifiers.
func TestManyInFlight(t *testing.T) {
	f := newFake(t, func(_ int, q []byte) [][]byte { return [][]byte{answer(t, q, true)} })
	c := client(t, Options{Retransmit: time.Second, Servers: []Server{{Address: f.conn.LocalAddr().String(), InFlight: 600}}})
	var wg sync.WaitGroup
	for range 5000 {
		wg.Go(func() {
			if _, err := ask(c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(c.servers[0].links); n > 3 {
		t.Errorf("%d links for at most 600 requests in flight", n)
	}
	for _, l := range c.servers[0].links {
		if l.n != identifiers {
			t.Errorf("%d of %d identifiers came back", l.n, identifiers)
		}
	}
}

// TestSilence: whoever asks is told that the time was over, by which ddtb check knows what to advise.
func TestSilence(t *testing.T) {
	f := newFake(t, func(int, []byte) [][]byte { return nil })
	_, err := ask(client(t, Options{Timeout: 300 * time.Millisecond, Servers: []Server{{Address: f.conn.LocalAddr().String()}}}))
	if !errors.Is(err, aaa.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want that no answer came in time", err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	f := newFake(t, func(int, []byte) [][]byte { return nil })
	c := client(t, Options{Timeout: 300 * time.Millisecond, Servers: []Server{{
		Address: f.conn.LocalAddr().String(), InFlight: 1, Queue: 1}}})
	var wg sync.WaitGroup
	var full atomic.Int32
	for range 8 {
		wg.Go(func() {
			if _, err := ask(c); errors.Is(err, errQueue) {
				full.Add(1)
			}
		})
	}
	wg.Wait()
	if full.Load() == 0 {
		t.Error("no request was refused though only two have a place")
	}
}

// TestLongDigest: a field that RADIUS cannot carry is the client's fault, whichever way it was to travel.
func TestLongDigest(t *testing.T) {
	for _, style := range []DigestStyle{StyleSterman, StyleRFC5090} {
		c := client(t, Options{Servers: []Server{{Address: "127.0.0.1:9"}}})
		a, err := NewAuthenticator(c, AuthOptions{NAS: NAS{Identifier: "ts1"}, Digest: DigestSASL, Style: style})
		if err != nil {
			t.Fatal(err)
		}
		digest := aaa.Digest{Username: "alice", Realm: "r", Nonce: "n", CNonce: strings.Repeat("c", 254), NC: "00000001", QOP: "auth", URI: "tsp/r"}
		if _, err := a.Authenticate(t.Context(), aaa.Login{Credential: digest}); !errors.Is(err, aaa.ErrRejected) {
			t.Errorf("%s: %v", style, err)
		}
	}
}

func TestBuilderErrorEndsAtOnce(t *testing.T) {
	f := newFake(t, func(int, []byte) [][]byte { return nil })
	c := client(t, Options{Servers: []Server{{Address: f.conn.LocalAddr().String()}}})
	want := errors.New("password too long")
	_, err := c.Exchange(context.Background(), radius.CodeAccessRequest, func(*radius.Packet) error { return want })
	if !errors.Is(err, want) || errors.Is(err, aaa.ErrUnavailable) || f.asked.Load() != 0 {
		t.Fatalf("got %v after %d datagrams", err, f.asked.Load())
	}
}

func FuzzVerifyReply(f *testing.F) {
	request := make([]byte, headerLen)
	f.Add([]byte{2, 0, 0, 20})
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, err := trim(b)
		if err != nil {
			return
		}
		if _, err := verifyReply(reply, request, testSecret, newSigner(testSecret), true); err == nil {
			t.Fatal("a reply nobody signed was believed")
		}
		if _, err := findMA(reply); err == nil {
			if _, err := radius.Parse(reply, testSecret); err != nil {
				t.Fatalf("findMA walked what Parse refuses: %v", err)
			}
		}
	})
}
