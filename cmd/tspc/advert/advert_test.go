// SPDX-License-Identifier: GPL-2.0-or-later

package advert

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"

	"ddtb/cmd/tspc/netnstest"
)

func content(prefix string) Content {
	return Content{
		Prefix: netip.MustParsePrefix(prefix), MTU: 1280, Router: true,
		Resolvers: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")},
	}
}

func TestMarshal(t *testing.T) {
	now := time.Now()
	last := []old{{netip.MustParsePrefix("2001:db8:9::/64"), now.Add(time.Hour)}}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	down := content("2001:db8:1::/64")
	down.Router, down.Resolvers = false, nil
	const (
		link      = "0101020000000001"
		mtu       = "0501000000000500"
		prefix    = "030440c0" + "00001518" + "00000a8c" + "00000000" + "20010db8000100000000000000000000"
		deprecate = "030440c0" + "00000e10" + "00000000" + "00000000" + "20010db8000900000000000000000000"
		goodbye   = "030440c0" + "00001518" + "00000000" + "00000000" + "20010db8000100000000000000000000"
		resolver  = "20010db8000000000000000000000053"
	)
	for _, test := range []struct {
		name    string
		content Content
		last    []old
		mac     net.HardwareAddr
		final   bool
		want    string
	}{
		{"router", content("2001:db8:1::/64"), nil, mac, false,
			"86000000" + "40000708" + "0000000000000000" + link + mtu + prefix + "1903000000000708" + resolver},
		{"tunnel down", down, nil, mac, false, "86000000" + "40000000" + "0000000000000000" + link + mtu + prefix},
		{"after a change", down, last, nil, false, "86000000" + "40000000" + "0000000000000000" + mtu + prefix + deprecate},
		{"goodbye", content("2001:db8:1::/64"), nil, nil, true,
			"86000000" + "40000000" + "0000000000000000" + mtu + goodbye + "1903000000000000" + resolver},
	} {
		want, err := hex.DecodeString(test.want)
		if err != nil {
			t.Fatal(err)
		}
		if got := marshal(test.content, test.last, test.mac, now, test.final); !bytes.Equal(got, want) {
			t.Errorf("%s:\ngot  %x\nwant %x", test.name, got, want)
		}
	}
}

func TestIsSolicitation(t *testing.T) {
	bare := []byte{133, 0, 0, 0, 0, 0, 0, 0}
	with := func(options ...byte) []byte { return append(slices.Clone(bare), options...) }
	for _, test := range []struct {
		name     string
		message  []byte
		hopLimit int
		want     bool
	}{
		{"bare", bare, 255, true},
		{"source link-layer address", with(1, 1, 2, 0, 0, 0, 0, 1), 255, true},
		{"forwarded", bare, 254, false},
		{"no hop limit known", bare, -1, false},
		{"short", bare[:7], 255, false},
		{"advertisement", append([]byte{134}, bare[1:]...), 255, false},
		{"code", append([]byte{133, 1}, bare[2:]...), 255, false},
		{"option of no length", with(1, 0, 0, 0, 0, 0, 0, 0), 255, false},
		{"option beyond the end", with(1, 2, 0, 0, 0, 0, 0, 0), 255, false},
		{"half an option", with(1), 255, false},
	} {
		if got := isSolicitation(test.message, test.hopLimit); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func FuzzIsSolicitation(f *testing.F) {
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1}, 255)
	f.Fuzz(func(t *testing.T, b []byte, hopLimit int) {
		if isSolicitation(b, hopLimit) && (len(b)%8 != 0 || b[0] != typeSolicitation || hopLimit != 255) {
			t.Fatalf("%x", b)
		}
	})
}

// paper is a Link that writes down what it is to send, and when.
type paper struct {
	mutex     sync.Mutex
	start     time.Time
	sent      []string
	solicited chan struct{}
	closed    chan struct{}
}

func (p *paper) Send(content Content, last []old, final bool) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	line := time.Since(p.start).String() + " " + content.Prefix.String()
	if !content.Router {
		line += " down"
	}
	for _, o := range last {
		line += " not " + o.prefix.String()
	}
	if final {
		line += " goodbye"
	}
	p.sent = append(p.sent, line)
	return nil
}

func (p *paper) Receive() error {
	select {
	case <-p.solicited:
		return nil
	case <-p.closed:
		return io.EOF
	}
}

func (p *paper) Close() error {
	close(p.closed)
	return nil
}

// expect compares what was sent since the last expect.
func (p *paper) expect(t *testing.T, want ...string) {
	t.Helper()
	if sent := p.take(); !slices.Equal(sent, want) {
		t.Fatalf("sent\n\t%s\nwant\n\t%s", strings.Join(sent, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// take gives what was sent since the last take, once the Announcer waits for something.
func (p *paper) take() []string {
	synctest.Wait()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	sent := p.sent
	p.sent = nil
	return sent
}

// on runs a test with an Announcer on paper and a fake clock. chance is always one half.
func on(t *testing.T, test func(t *testing.T, p *paper, a *Announcer)) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{start: time.Now(), solicited: make(chan struct{}), closed: make(chan struct{})}
		a := New(p, func() float64 { return 0.5 }, zerolog.Nop())
		test(t, p, a)
		before := len(p.sent)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if goodbyes := p.sent[before:]; len(goodbyes) != 1 || !strings.HasSuffix(goodbyes[0], " goodbye") {
			t.Errorf("at the end: %v", goodbyes)
		}
	})
}

func TestAnnouncerSchedule(t *testing.T) {
	on(t, func(t *testing.T, p *paper, a *Announcer) {
		time.Sleep(time.Hour)
		p.expect(t)
		a.Set(content("2001:db8:1::/64"))
		p.expect(t, "1h0m0s 2001:db8:1::/64")
		time.Sleep(16 * time.Minute)
		p.expect(t, "1h0m16s 2001:db8:1::/64", "1h0m32s 2001:db8:1::/64", "1h7m12s 2001:db8:1::/64", "1h13m52s 2001:db8:1::/64")
		a.Set(content("2001:db8:1::/64"))
		time.Sleep(time.Minute)
		p.expect(t)
	})
}

func TestAnnouncerAnswersSolicitations(t *testing.T) {
	on(t, func(t *testing.T, p *paper, a *Announcer) {
		p.solicited <- struct{}{} // there is nothing to tell yet
		time.Sleep(time.Minute)
		p.expect(t)
		a.Set(content("2001:db8:1::/64"))
		time.Sleep(time.Minute)
		p.expect(t, "1m0s 2001:db8:1::/64", "1m16s 2001:db8:1::/64", "1m32s 2001:db8:1::/64")
		time.Sleep(time.Minute)
		for range 100 { // a flood gets what one gets
			p.solicited <- struct{}{}
		}
		time.Sleep(time.Second)
		p.expect(t, "3m0.25s 2001:db8:1::/64")
		p.solicited <- struct{}{}
		time.Sleep(time.Minute)
		p.expect(t, "3m3.25s 2001:db8:1::/64")
	})
}

func TestAnnouncerRetiresPrefixes(t *testing.T) {
	on(t, func(t *testing.T, p *paper, a *Announcer) {
		first, second := content("2001:db8:1::/64"), content("2001:db8:2::/64")
		a.Set(first)
		p.expect(t, "0s 2001:db8:1::/64")
		time.Sleep(10 * time.Second)
		first.Router = false
		a.Set(first)
		p.expect(t, "10s 2001:db8:1::/64 down")
		time.Sleep(10 * time.Second)
		a.Set(second)
		p.expect(t, "20s 2001:db8:2::/64 not 2001:db8:1::/64")
		time.Sleep(validLifetime)
		p.take()
		time.Sleep(maxInterval)
		p.expect(t, "1h34m12s 2001:db8:2::/64")
		a.Set(content("2001:db8:1::/64"))
		time.Sleep(minDelay)
		a.Set(content("2001:db8:2::/64"))
		p.take()
		time.Sleep(time.Minute)
		p.expect(t, "1h40m39s 2001:db8:2::/64 not 2001:db8:1::/64", "1h40m55s 2001:db8:2::/64 not 2001:db8:1::/64")
	})
}

// TestRootHostsConfigureThemselves: the kernel at the other end of a cable takes address and route, and forgets them.
func TestRootHostsConfigureThemselves(t *testing.T) {
	netnstest.Enter(t, "lan")
	netnstest.Up(t, "lan", "lan-peer")
	link, err := Open("lan")
	if err != nil {
		t.Fatal(err)
	}
	a := New(link, func() float64 { return 0 }, zerolog.New(zerolog.NewTestWriter(t)))
	a.Set(content("2001:db8:1::/64"))
	await(t, "address and default route", func() bool { return configured(t) == "preferred, routed" })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "no default route and a deprecated address", func() bool { return configured(t) == "deprecated" })
}

// configured describes what the other end of the cable made of the advertisements.
func configured(t *testing.T) string {
	link := netnstest.Link(t, "lan-peer")
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, address := range addresses {
		if netip.MustParsePrefix("2001:db8:1::/64").Contains(netip.MustParseAddr(address.IP.String())) {
			if address.PreferedLft > 0 {
				words = append(words, "preferred")
			} else {
				words = append(words, "deprecated")
			}
		}
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range routes {
		if route.Gw != nil && (route.Dst == nil || route.Dst.IP.IsUnspecified()) {
			words = append(words, "routed")
		}
	}
	return strings.Join(words, ", ")
}

func await(t *testing.T, what string, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !there(); {
		if time.Now().After(deadline) {
			t.Fatalf("no %s: %q", what, configured(t))
		}
		time.Sleep(20 * time.Millisecond)
	}
}
