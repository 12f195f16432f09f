// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var equalMessages = cmp.Options{
	cmp.AllowUnexported(message{}, side{}),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

// fullOffer has everything an offer can have.
var fullOffer = Offer{
	Type: V6UDPV4, Lifetime: 1440 * time.Minute, MTU: 1280,
	ServerIPv4: netip.MustParseAddr("192.0.2.1"), ServerIPv6: netip.MustParseAddr("2001:db8:f00::1"),
	ClientIPv4: netip.MustParseAddr("192.0.2.2"), ClientIPv6: netip.MustParseAddr("2001:db8:f00::2"),
	ClientName: "alice.tunnels.example", Resolvers: []netip.Addr{netip.MustParseAddr("2001:db8:cafe::1")},
	Keepalive: 30 * time.Second, KeepaliveTo: netip.MustParseAddr("2001:db8:f00::1"),
	Prefix: netip.MustParsePrefix("2001:db8:1234::/48"),
	DNS:    []Broker{{Name: "ns1.example.net"}, {Addr: netip.MustParseAddr("192.0.2.53")}, {Addr: netip.MustParseAddr("2001:db8::53")}},
}

const fullOfferXML = `<tunnel action="info" type="v6udpv4" lifetime="1440" mtu="1280">
  <server>
    <address type="ipv4">192.0.2.1</address>
    <address type="ipv6">2001:0db8:0f00:0000:0000:0000:0000:0001</address>
  </server>
  <client>
    <address type="ipv4">192.0.2.2</address>
    <address type="ipv6">2001:0db8:0f00:0000:0000:0000:0000:0002</address>
    <address type="dn">alice.tunnels.example</address>
    <dns_server>
      <address type="ipv6">2001:0db8:cafe:0000:0000:0000:0000:0001</address>
    </dns_server>
    <router>
      <prefix length="48">2001:0db8:1234:0000:0000:0000:0000:0000</prefix>
      <dns_server>
        <address type="dn">ns1.example.net</address>
        <address type="ipv4">192.0.2.53</address>
        <address type="ipv6">2001:0db8:0000:0000:0000:0000:0000:0053</address>
      </dns_server>
    </router>
    <keepalive interval="30">
      <address type="ipv6">2001:0db8:0f00:0000:0000:0000:0000:0001</address>
    </keepalive>
  </client>
</tunnel>
`

func TestOfferText(t *testing.T) {
	m := offerMessage(fullOffer)
	if diff := cmp.Diff(strings.ReplaceAll(fullOfferXML, "\n", "\r\n"), string(m.append(nil))); diff != "" {
		t.Error(diff)
	}
	got, err := parseMessage([]byte(fullOfferXML))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fullOffer, got.offer(), equalMessages); diff != "" {
		t.Error(diff)
	}
	rounded := offerMessage(Offer{Lifetime: 61 * time.Second, Keepalive: 1500 * time.Millisecond, Prefix: netip.MustParsePrefix("2001:db8:1234::1/48")})
	if text := string(rounded.append(nil)); !strings.Contains(text, `lifetime="2"`) || !strings.Contains(text, `interval="2"`) ||
		!strings.Contains(text, ">2001:0db8:1234:0000:0000:0000:0000:0000<") {
		t.Errorf("not rounded up, or a prefix with host bits: %s", text)
	}
}

func TestRequests(t *testing.T) {
	stated := netip.MustParseAddr("192.0.2.2")
	for name, test := range map[string]struct {
		xml    string
		action action
		want   Request
	}{
		"field": {"<tunnel action=\"create\" type=\"v6udpv4\" proxy=\"no\">\r\n <client>\r\n  <address type=\"ipv4\">192.0.2.2</address>\r\n  <keepalive interval=\"30\">\r\n" +
			"    <address type=\"ipv6\">::</address>\r\n  </keepalive>\r\n  <router>\r\n   <prefix length=\"48\"/>\r\n   <dns_server>\r\n     <address type=\"dn\">ns1.example.net</address>\r\n" +
			"   </dns_server>\r\n  </router>\r\n </client>\r\n</tunnel>\r\n",
			actionCreate, Request{Type: V6UDPV4, Stated: stated, Keepalive: 30 * time.Second, Router: true, PrefixLen: 48, DNS: []Broker{{Name: "ns1.example.net"}}}},
		"no interval":   {`<tunnel action="create" type="V6AnyV4"><client><address type="ipv4"> 192.0.2.2 </address><keepalive></keepalive></client></tunnel>`, actionCreate, Request{Type: V6AnyV4, Stated: stated, Keepalive: 30 * time.Second}},
		"too long":      {`<tunnel action="create" type="v6v4"><client><keepalive interval="86401"/></client></tunnel>`, actionCreate, Request{Type: V6V4, Keepalive: 24 * time.Hour}},
		"router alone":  {`<tunnel action="create" type="v6v4"><client><router/></client></tunnel>`, actionCreate, Request{Type: V6V4, Router: true}},
		"empty address": {`<tunnel action="create" type="v6v4"><client><address type="ipv4"></address></client></tunnel>`, actionCreate, Request{Type: V6V4}},
		"accept":        {`<tunnel action="accept"></tunnel>`, actionAccept, Request{}},
		"unknown":       {`<tunnel action="create" type="v6v4" x="y"><z><address type="ipv4">q</address></z><client><as number=""/><address type="x">q</address></client></tunnel>`, actionCreate, Request{Type: V6V4}},
	} {
		m, err := parseMessage([]byte(test.xml))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, m.request(), equalMessages); diff != "" || m.action != test.action {
			t.Errorf("%s: %s %s", name, m.action, diff)
		}
		if name == "unknown" || name == "empty address" {
			continue
		}
		text := (&message{action: m.action, tunnel: m.tunnel, client: m.client}).append(nil)
		again, err := parseMessage(text)
		if err != nil || cmp.Diff(m.request(), again.request(), equalMessages) != "" {
			t.Errorf("%s: %s is another request: %v", name, text, err)
		}
	}
	if got := string((&message{action: actionAccept}).append(nil)); got != "<tunnel action=\"accept\"></tunnel>\r\n" {
		t.Errorf("%q", got) // the RFC's own example counts 35 octets
	}
}

func TestBadMessages(t *testing.T) {
	client := func(s string) string {
		return `<tunnel action="create" type="v6v4"><client>` + s + `</client></tunnel>`
	}
	for in, code := range map[string]Code{
		"<tunnel":                                                                            StatusBadRequest,
		"<tunnels></tunnels>":                                                                StatusBadRequest,
		`<tunnel lifetime="-1"/>`:                                                            StatusBadRequest,
		`<tunnel lifetime="99999999999"/>`:                                                   StatusBadRequest,
		`<tunnel mtu="65536"/>`:                                                              StatusBadRequest,
		client(`<keepalive interval="x"/>`):                                                  StatusBadRequest,
		client(`<keepalive interval="1e9"/>`):                                                StatusBadRequest,
		client(`<address type="ipv4">1.2.3</address>`):                                       StatusBadIPv4,
		client(`<address type="ipv4">::1</address>`):                                         StatusBadIPv4,
		client(`<address type="ipv6">1.2.3.4</address>`):                                     StatusBadIPv6,
		client(`<address type="ipv6">::ffff:1.2.3.4</address>`):                              StatusBadIPv6,
		client(`<address type="ipv6">fe80::1%eth0</address>`):                                StatusBadIPv6,
		client(`<address type="dn">a b</address>`):                                           StatusBadRequest,
		client(`<address type="dn">&lt;script&gt;</address>`):                                StatusBadRequest,
		client(`<address type="dn">` + strings.Repeat("a", 254) + `</address>`):              StatusBadRequest,
		client(`<keepalive><address type="ipv6">x</address></keepalive>`):                    StatusBadIPv6,
		client(`<dns_server><address type="ipv6">x</address></dns_server>`):                  StatusBadIPv6,
		client(`<router><prefix length="129"/></router>`):                                    StatusBadRequest,
		client(`<router><prefix length="48">10.0.0.0</prefix></router>`):                     StatusBadIPv6,
		client(`<router><dns_server><address type="ipv4">x</address></dns_server></router>`): StatusBadIPv4,
		`<tunnel><broker><address type="ipv4">x</address></broker></tunnel>`:                 StatusBadIPv4,
	} {
		_, err := parseMessage([]byte(in))
		status := new(StatusError)
		if !errors.As(err, &status) || status.Code != code {
			t.Errorf("%s: %v, want %d", in, err, code)
		}
	}
}

// TestListsAreBounded: what is remembered of a message does not grow with it.
func TestListsAreBounded(t *testing.T) {
	many := strings.Repeat(`<address type="ipv6">2001:db8::1</address>`, 60)
	m, err := parseMessage([]byte(`<tunnel><broker>` + many + `</broker><client><dns_server>` + many[:len(many)/3] + `</dns_server></client></tunnel>`))
	if err != nil || len(m.brokers) != maxBrokers || len(m.client.resolvers) != maxDNS {
		t.Errorf("%d brokers, %d resolvers: %v", len(m.brokers), len(m.client.resolvers), err)
	}
	m, err = parseMessage([]byte(`<tunnel><client><router><dns_server>` + many[:len(many)/3] + `</dns_server></router></client></tunnel>`))
	if err != nil || len(m.client.dns) != maxDNS {
		t.Errorf("%d servers: %v", len(m.client.dns), err)
	}
}

func TestBrokers(t *testing.T) {
	brokers := []Broker{{Addr: netip.MustParseAddr("192.0.2.1")}, {Name: "ts1.isp1.com"}, {Addr: netip.MustParseAddr("2001:db8::1")},
		{Addr: netip.MustParseAddr("::ffff:192.0.2.9")}, {Name: `a"<&>'b`}}
	const whole = `<tunnel action="list" type="broker"><broker><address type="ipv4">192.0.2.1</address></broker>` +
		`<broker><address type="dn">ts1.isp1.com</address></broker>` +
		`<broker><address type="ipv6">2001:0db8:0000:0000:0000:0000:0000:0001</address></broker>` +
		`<broker><address type="ipv4">192.0.2.9</address></broker><broker><address type="dn">a&quot;&lt;&amp;&gt;&apos;b</address></broker></tunnel>`
	if b, n := appendBrokers(nil, brokers, 1000); n != 5 || string(b) != whole {
		t.Errorf("%d %s", n, b)
	}
	for room := range len(whole) {
		b, n := appendBrokers([]byte("x"), brokers, room)
		if len(b)-1 > room || n == 5 || n == 0 && string(b) != "x" {
			t.Fatalf("room %d: %d in %q", room, n, b)
		}
		if n > 0 {
			if m, err := parseMessage(b[1:]); err != nil || len(m.brokers) != n {
				t.Fatalf("%s: %d %v", b, len(m.brokers), err)
			}
		}
	}
	if b, n := appendBrokers(nil, make([]Broker, 60), 1<<20); n != maxBrokers {
		t.Errorf("%d brokers in %s", n, b)
	}
}

func TestStatusLines(t *testing.T) {
	for in, want := range map[string]struct {
		code       int
		text, rest string
	}{
		"200 Success\r\n":                 {200, "Success", ""},
		"200 OK\r\n<tunnel":               {200, "OK", "<tunnel"},
		"1302 Unsupported client version": {1302, "Unsupported client version", ""},
		"300\n":                           {300, "", ""},
		"200 Success\r\n\x00":             {200, "Success", "\x00"},
	} {
		code, text, rest, err := parseStatus([]byte(in))
		if err != nil || code != want.code || text != want.text || string(rest) != want.rest {
			t.Errorf("%q: %d %q %q %v", in, code, text, rest, err)
		}
	}
	for _, in := range []string{"", "20 x", "20000 x", "2000 x", "abc x", "-20 x", "+200 x", "200 \x1b[2J", "200 " + strings.Repeat("x", 201), "CAPABILITY X"} {
		if code, text, _, err := parseStatus([]byte(in)); err == nil {
			t.Errorf("%q: %d %q", in, code, text)
		}
	}
}

func TestStatusErrors(t *testing.T) {
	cause := errors.New("cause")
	for _, test := range []struct {
		err      *StatusError
		text     string
		redirect bool
	}{
		{&StatusError{Code: StatusBusy, Err: cause}, "530 Server too busy: cause", false},
		{&StatusError{Code: StatusBadVersion, Text: "Go away", Brokers: []Broker{{Name: "x"}}}, "1302 Go away", false},
		{&StatusError{Code: StatusSuccess, Brokers: []Broker{{Name: "x"}}}, "1200 Success", true},
		{&StatusError{Code: 599}, "599 Status 599", false},
	} {
		if test.err.Error() != test.text || test.err.Redirect() != test.redirect {
			t.Errorf("%v %v", test.err, test.err.Redirect())
		}
	}
	if !errors.Is(&StatusError{Err: cause}, cause) {
		t.Error("cause is lost")
	}
	if !StatusBusy.Temporary() || StatusAuthFailed.Temporary() {
		t.Error("temporary")
	}
	for _, err := range []error{cause, &StatusError{Code: StatusSuccess}} {
		if code, _ := statusOf(err); code != StatusServerError {
			t.Errorf("%v is %d", err, code)
		}
	}
}

// FuzzMessage reads both directions: what is taken is written again and is then the same.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(fullOfferXML))
	f.Add([]byte(`<tunnel action="create" type="v6anyv4" proxy="no"><client><address type="ipv4">192.0.2.2</address><keepalive></keepalive><router><prefix length="48"/></router></client></tunnel>`))
	f.Add([]byte(`<tunnel action="list" type="broker"><broker><address type="dn">a.example</address></broker></tunnel>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			if status := new(StatusError); !errors.As(err, &status) {
				t.Fatalf("%v has no status", err)
			}
			return
		}
		offer, request := offerMessage(m.offer()), requestMessage(m.request())
		for _, m := range []*message{&offer, &request} {
			if !m.known() {
				continue
			}
			again, err := parseMessage(m.append(nil))
			if err != nil {
				t.Fatalf("%s: %v", m.append(nil), err)
			}
			if diff := cmp.Diff(*m, again, equalMessages); diff != "" {
				t.Fatal(diff)
			}
		}
		if list, n := appendBrokers(nil, m.brokers, maxReply); n > 0 {
			if again, err := parseMessage(list); err != nil || cmp.Diff(m.brokers, again.brokers, equalMessages) != "" {
				t.Fatalf("%s: %v", list, err)
			}
		}
	})
}

// known: type and resolvers are such as we would send.
func (m *message) known() bool {
	return m.tunnel == V6V4 || m.tunnel == V6UDPV4
}
