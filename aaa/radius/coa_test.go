// SPDX-License-Identifier: GPL-2.0-or-later

package radius_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/radius"
)

// sessions is a DynamicHandler that knows one session.
type sessions struct {
	mu          sync.Mutex
	selectors   []radius.Selector
	changes     []radius.Change
	disconnects int
}

func (s *sessions) find(selector radius.Selector) error {
	s.selectors = append(s.selectors, selector)
	if selector.Session != "s1" && selector.User != "alice" {
		return fmt.Errorf("no session: %w", radius.ErrNoSession)
	}
	return nil
}

func (s *sessions) Disconnect(_ context.Context, selector radius.Selector) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disconnects++
	return s.find(selector)
}

// disconnected is how often Disconnect was called.
func (s *sessions) disconnected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disconnects
}

func (s *sessions) Change(_ context.Context, selector radius.Selector, change radius.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, change)
	return s.find(selector)
}

// listen runs a DynamicServer until the test ends.
func listen(t *testing.T, h radius.DynamicHandler, o radius.DynamicOptions) (address string) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	o.NAS = radius.NAS{Identifier: "ts1", Address: netip.MustParseAddr("192.0.2.1")}
	o.Log = zerolog.Nop()
	if o.Clients == nil {
		o.Clients = []radius.DynamicClient{{Source: netip.MustParsePrefix("127.0.0.0/8"), Secret: []byte("coasecret")}}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- radius.NewDynamicServer(h, o).Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().String()
}

// radclient sends one request; the reply is what it prints.
func radclient(t *testing.T, address, kind, secret, attributes string) string {
	t.Helper()
	cmd := exec.Command("radclient", "-x", "-r", "1", "-t", "0.3", address, kind, secret)
	cmd.Stdin = strings.NewReader(attributes)
	out, _ := cmd.CombinedOutput() // a NAK is an exit status, too
	if cmd.ProcessState == nil {
		t.Fatal("radclient is needed (Debian package freeradius-utils)")
	}
	return string(out)
}

func TestDynamicAuthorization(t *testing.T) {
	tests := []struct {
		name, kind, attributes string
		want                   []string
	}{
		{"disconnect", "disconnect", `Acct-Session-Id = "s1"`, []string{"Disconnect-ACK"}},
		{"signed", "disconnect", "Acct-Session-Id = s1\nMessage-Authenticator = 0x00", []string{"Disconnect-ACK", "Message-Authenticator"}},
		{"by name", "disconnect", `User-Name = "alice", NAS-Identifier = "ts1", NAS-IP-Address = 192.0.2.1`, []string{"Disconnect-ACK"}},
		{"unknown session", "disconnect", `Acct-Session-Id = "s2"`, []string{"Disconnect-NAK", "Session-Context-Not-Found"}},
		{"another NAS", "disconnect", `Acct-Session-Id = "s1", NAS-Identifier = "ts2"`, []string{"Disconnect-NAK", "NAS-Identification-Mismatch"}},
		{"another NAS address", "disconnect", `Acct-Session-Id = "s1", NAS-IP-Address = 192.0.2.2`, []string{"Disconnect-NAK", "NAS-Identification-Mismatch"}},
		{"no session", "disconnect", `NAS-Identifier = "ts1"`, []string{"Disconnect-NAK", "Missing-Attribute"}},
		{"change", "coa", `Acct-Session-Id = "s1", Filter-Id = "10M/2M", Session-Timeout = 60`, []string{"CoA-ACK"}},
		{"nothing to change", "coa", `Acct-Session-Id = "s1"`, []string{"CoA-NAK", "Missing-Attribute"}},
		{"of a plan", "coa", `Acct-Session-Id = "s1", Filter-Id = "gold"`, []string{"CoA-ACK"}},
		{"no plan", "coa", `Acct-Session-Id = "s1", Filter-Id = "golden"`, []string{"CoA-NAK", "Invalid-Attribute-Value"}},
		{"no rate in a vendor's", "coa", `Acct-Session-Id = "s1", Cisco-AVPair = "shell:priv-lvl=15"`, []string{"CoA-NAK", "Invalid-Attribute-Value"}},
		{"another vendor", "coa", `Acct-Session-Id = "s1", Juniper-Local-User-Name = "x"`, []string{"CoA-NAK", "Unsupported-Attribute"}},
		{"what cannot change", "coa", `Acct-Session-Id = "s1", Framed-IPv6-Pool = "x"`, []string{"CoA-NAK", "Unsupported-Attribute"}},
		{"a change in a disconnect", "disconnect", `Acct-Session-Id = "s1", Filter-Id = "10M/2M"`, []string{"Disconnect-NAK", "Unsupported-Attribute"}},
		{"a new login", "coa", `Acct-Session-Id = "s1", Service-Type = Authorize-Only, State = 0x01`, []string{"CoA-NAK", "Unsupported-Service"}},
		{"no address", "disconnect", `Calling-Station-Id = "here"`, []string{"Disconnect-NAK", "Invalid-Attribute-Value"}},
		{"through proxies", "disconnect", `Acct-Session-Id = "s1", Proxy-State = 0x0102, Proxy-State += 0x03`,
			[]string{"Disconnect-ACK", "Proxy-State = 0x0102", "Proxy-State = 0x03"}},
		{"no address through a proxy", "coa", `Calling-Station-Id = "here", Idle-Timeout = 1, Proxy-State = 0x0102`, []string{"CoA-NAK", "Proxy-State = 0x0102"}},
	}
	address := listen(t, &sessions{}, radius.DynamicOptions{Plans: aaa.Plans{"gold": {Down: 1e9}}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := radclient(t, address, tt.kind, "coasecret", tt.attributes)
			for _, want := range tt.want {
				if !strings.Contains(got, "Received") || !strings.Contains(got, want) {
					t.Errorf("no %q in:\n%s", want, got)
				}
			}
		})
	}
}

// TestDynamicAuthorizationProhibited: a client that may only do the one is told so when it wants the other.
func TestDynamicAuthorizationProhibited(t *testing.T) {
	for kind, client := range map[string]radius.DynamicClient{"disconnect": {NoDisconnect: true}, "coa": {NoChange: true}} {
		client.Source, client.Secret = netip.MustParsePrefix("127.0.0.1/32"), []byte("coasecret")
		address := listen(t, &sessions{}, radius.DynamicOptions{Clients: []radius.DynamicClient{client}})
		for _, other := range []string{"disconnect", "coa"} {
			attributes := `Acct-Session-Id = "s1"`
			if other == "coa" {
				attributes += ", Idle-Timeout = 60"
			}
			got := radclient(t, address, other, "coasecret", attributes)
			if refused := strings.Contains(got, "Administratively-Prohibited"); refused != (kind == other) {
				t.Errorf("a client without %s asked for %s: %s", kind, other, got)
			}
		}
	}
}

func TestDynamicAuthorizationIsSilent(t *testing.T) {
	local := []radius.DynamicClient{{Source: netip.MustParsePrefix("127.0.0.0/8"), Secret: []byte("coasecret")}}
	tests := []struct {
		name, secret, attributes string
		o                        radius.DynamicOptions
	}{
		{"wrong secret", "wrong", "", radius.DynamicOptions{}},
		{"unknown source", "coasecret", "", radius.DynamicOptions{Clients: []radius.DynamicClient{{
			Source: netip.MustParsePrefix("192.0.2.0/24"), Secret: []byte("coasecret")}}}},
		{"unsigned", "coasecret", "", radius.DynamicOptions{Sign: true, Clients: local}},
		{"no time", "coasecret", "", radius.DynamicOptions{Window: time.Minute}},
		{"old", "coasecret", "\nEvent-Timestamp = 1000000000", radius.DynamicOptions{Window: time.Minute}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &sessions{}
			got := radclient(t, listen(t, h, tt.o), "disconnect", tt.secret, "Acct-Session-Id = s1"+tt.attributes)
			if strings.Contains(got, "Received") || h.disconnected() != 0 {
				t.Errorf("answered:\n%s", got)
			}
		})
	}
}

func TestDynamicAuthorizationSelects(t *testing.T) {
	h := &sessions{}
	address := listen(t, h, radius.DynamicOptions{})
	radclient(t, address, "coa", "coasecret", `Acct-Session-Id = "s1", User-Name = "alice", NAS-Port = 7, NAS-Port-Id = "tunnel-7",
		Calling-Station-Id = "198.51.100.7:40000", Framed-IPv6-Address = 2001:db8::5, Delegated-IPv6-Prefix = 2001:db8:500::/56,
		Chargeable-User-Identity = "cui", Idle-Timeout = 0, Acct-Interim-Interval = 10, Class = 0x01, WISPr-Bandwidth-Max-Up = 1000,
		Event-Timestamp = 1`)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.selectors) != 1 || len(h.changes) != 1 {
		t.Fatalf("%d selectors, %d changes", len(h.selectors), len(h.changes))
	}
	opts := cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})
	want := radius.Selector{
		Session: "s1", User: "alice", Tunnel: 7, Client: netip.MustParseAddrPort("198.51.100.7:40000"),
		Endpoint: netip.MustParseAddr("2001:db8::5"), Prefix: netip.MustParsePrefix("2001:db8:500::/56"), CUI: "cui",
	}
	if diff := cmp.Diff(want, h.selectors[0], opts); diff != "" {
		t.Error(diff)
	}
	zero, minute := time.Duration(0), time.Minute
	change := radius.Change{Rate: &aaa.Rate{Up: 1000}, IdleTimeout: &zero, InterimInterval: &minute, Class: [][]byte{{1}}}
	if diff := cmp.Diff(change, h.changes[0]); diff != "" {
		t.Error(diff)
	}
}

// TestDynamicAuthorizationDuplicate sends the same datagram twice: it is answered twice and acted on once.
func TestDynamicAuthorizationDuplicate(t *testing.T) {
	h := &sessions{}
	address := listen(t, h, radius.DynamicOptions{})
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := radius.EncodeDisconnect(t, 9, "coasecret", "s1")
	var replies [2]string
	for i := range replies {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		replies[i] = string(buf[:n])
	}
	if replies[0] != replies[1] || h.disconnected() != 1 {
		t.Errorf("acted %d times; the same reply: %v", h.disconnected(), replies[0] == replies[1])
	}
}
