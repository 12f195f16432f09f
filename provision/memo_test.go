// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unique"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// fullEntry has every field set that a memo keeps.
func fullEntry() *entry {
	return &entry{
		name: "alice#2", slot: 3, router: true, client: [4]byte{198, 51, 100, 1}, port: 4000, since: 1772366400123,
		terms: unique.Make(terms{
			backend: "radius", authentic: aaa.AuthenticRADIUS, noPrefix: true, pool: "gold", sessionLimit: 3, encap: datapath.V6UDPV4,
			local: netip.MustParseAddrPort("192.0.2.1:3653"), mtu: 1472, keepalive: 30 * time.Second, lost: 90 * time.Second,
		}),
		limits: unique.Make(limits{
			sessionTimeout: time.Hour, idleTimeout: time.Minute, interim: 5 * time.Minute, rate: aaa.Rate{Up: 2e6, Down: 10e9}, filter: "10M/2M",
			lifetime: 24 * time.Hour, idle: time.Minute, records: 7 * time.Minute,
		}),
		raw: datapath.Counters{RxPackets: 5, RxBytes: 6, TxPackets: 7, TxBytes: 1 << 50},
		extra: &extra{
			class: [][]byte{[]byte("one"), {0, 255}}, cui: []byte("cui"), renewal: &renewal{state: []byte("st"), at: 1772370000123},
			base: datapath.Counters{RxPackets: 1, RxBytes: 1 << 40, TxPackets: 3, TxBytes: 4},
		},
	}
}

func memos() map[string]memo {
	ended := fullEntry()
	ended.raw = datapath.Counters{} // in base by then
	ended.extra.end = &ending{cause: aaa.CauseLostCarrier, at: 1772366500999}
	gone := fullEntry()
	gone.id, gone.tunnelID, gone.raw = sid{1, 2, 3}, 4711, datapath.Counters{}
	gone.extra.end = &ending{cause: aaa.CausePortPreempted, at: 1772366501000}
	guest := fullEntry()
	guest.name, guest.extra = "", nil
	routed := fullEntry()
	with := routed.terms.Value()
	with.routes = datapath.PrefixesOf(netip.MustParsePrefix("2001:db8:2::/48"), netip.MustParsePrefix("2001:db8:1::5/128"))
	routed.terms = unique.Make(with)
	delegated := fullEntry()
	with.further = datapath.PrefixesOf(netip.MustParsePrefix("2001:db8:2::/48"))
	delegated.terms = unique.Make(with)
	return map[string]memo{
		"offered":  {phase: phaseOffered},
		"active":   {phase: phaseActive, entry: fullEntry()},
		"guest":    {phase: phaseActive, entry: guest},
		"routed":   {phase: phaseActive, entry: routed},
		"further":  {phase: phaseActive, entry: delegated},
		"ending":   {phase: phaseEnding, entry: ended},
		"starting": {phase: phaseStarting, entry: fullEntry()},
		"takeover": {phase: phaseStarting, entry: fullEntry(), prev: &past{
			entry: gone, endpoint: netip.MustParseAddr("2001:db8::1"), prefix: netip.MustParsePrefix("2001:db8:1::/48")}},
		"takeover of a host": {phase: phaseStarting, entry: fullEntry(), prev: &past{entry: gone, endpoint: netip.MustParseAddr("2001:db8::1")}},
	}
}

func TestMemoRoundTrip(t *testing.T) {
	for name, m := range memos() {
		b := m.encode()
		got, err := readMemo(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("%s: read %+v, wrote %+v", name, got, m)
		}
		for n := range b {
			if _, err := readMemo(b[:n]); err == nil {
				t.Errorf("%s: %d of %d octets were read", name, n, len(b))
			}
		}
		if _, err := readMemo(append(b, 0)); err == nil {
			t.Errorf("%s: an octet too many was read", name)
		}
	}
}

// The largest session, with the largest one it replaces, fits into a lease.
func TestMemoFitsIntoLease(t *testing.T) {
	s, err := newSettings(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	r := request(strings.Repeat("x", lease.MaxOwner-len("#256")), client(1, 1))
	r.Subscriber.CUI, r.Subscriber.Reauthorize, r.Subscriber.SessionTimeout = make([]byte, 253), make([]byte, 253), 1<<30*time.Second
	r.Subscriber.Filter, r.Subscriber.Rate = strings.Repeat("f", 253), aaa.Rate{Up: 1 << 63, Down: 1 << 63}
	for n := range datapath.MaxRoutes {
		route := netip.MustParsePrefix(fmt.Sprintf("2001:dba:%x::/48", n))
		r.Subscriber.Routes = append(r.Subscriber.Routes, aaa.Route{Prefix: route, Delegated: n%2 == 0})
	}
	for opaque(r.Subscriber)+255 <= maxOpaque {
		r.Subscriber.Class = append(r.Subscriber.Class, make([]byte, 253))
	}
	r.Subscriber.Pool, r.Subscriber.Backend = "main", strings.Repeat("b", 64)
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	e, err := newEntry(s, sid{}, r)
	if err != nil {
		t.Fatal(err)
	}
	e.since = 1 << 50
	e.extra.base = datapath.Counters{RxPackets: 1 << 63, RxBytes: 1 << 63, TxPackets: 1 << 63, TxBytes: 1 << 63}
	e.extra.end = &ending{at: 1 << 50}
	m := memo{phase: phaseStarting, entry: e, prev: &past{entry: e, endpoint: testServer, prefix: netip.PrefixFrom(testServer, 128)}}
	if n := len(m.encode()); n > lease.MaxData {
		t.Errorf("%d octets, a lease keeps %d", n, lease.MaxData)
	}
	if owner := e.owner(); len(owner) > lease.MaxOwner {
		t.Errorf("owner of %d octets", len(owner))
	}
}

func FuzzMemo(f *testing.F) {
	for _, m := range memos() {
		f.Add(m.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMemo(b)
		if err != nil {
			return
		}
		again, err := readMemo(m.encode())
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%+v read again as %+v, %v", m, again, err)
		}
	})
}

// Sessions that began before the version after theirs was installed go on.
func TestMemoOfVersionBefore(t *testing.T) {
	e := fullEntry()
	e.raw = datapath.Counters{}
	b := memo{phase: phaseActive, entry: e}.encode()
	b[0] = memoBefore
	zeros := strings.Index(string(b), "\x00\x00\x00\x00\x02\x03one") // the counters, before two classes
	if zeros < 0 {
		t.Fatal("the counters are not where they were")
	}
	got, err := readMemo(append(b[:zeros:zeros], b[zeros+4:]...))
	if err != nil || !reflect.DeepEqual(got.entry, e) {
		t.Errorf("read %+v, %v; wrote %+v", got.entry, err, e)
	}
}
