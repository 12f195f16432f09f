// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ddtb/aaa/journal"
	"ddtb/provision/redis/redistest"
)

// copied is a state with a copy, read from path.
func copied(t *testing.T, path, boot string) (served, *sharedPool) {
	t.Helper()
	p := &sharedPool{Pool: worldPools()[0]}
	s := newServed()
	var err error
	if s.copy, err = openCopy(path, boot, []*sharedPool{p}, s, Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.copy.close() })
	return s, p
}

func (c *localCopy) reclose(t *testing.T) {
	t.Helper()
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
}

func someTenure(owner, session string) tenure {
	return tenure{
		owner: owner, session: session, node: "a", data: []byte("memo of " + session), epoch: "7-abc",
		since: time.Unix(1000, 5e6), end: time.Unix(4600, 7),
	}
}

// What the next daemon reads is what the last one served, however it came about, and whether or not it was written anew.
func TestCopy(t *testing.T) {
	for name, compact := range map[string]bool{"appended": false, "written anew": true} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "copy")
			s, p := copied(t, path, "boot")
			static := someTenure("bob", "s2")
			static.foreign, static.forget = netip.MustParsePrefix("2001:db8:f::/48"), true
			renewed := someTenure("carol", "s3")
			renewed.epoch = ""
			s.put(p, 1, someTenure("alice", "s1"))
			s.put(p, 2, static)
			s.put(p, 3, renewed)
			s.put(p, 4, someTenure("dave", "s4"))
			s.put(p, 5, someTenure("erin", "s5"))
			s.put(p, 6, someTenure("dave", "s6")) // the lease of index 4 is given up
			s.drop(p, 5, "s5")
			s.change(p, 1, "s1", func(t *tenure) { t.end = time.Unix(9000, 0) })
			s.change(p, 2, "s2", func(t *tenure) { t.data = []byte("other") })
			s.copy.settle()
			if compact {
				if err := s.copy.journal.Compact(); err != nil {
					t.Fatal(err)
				}
			}
			s.copy.reclose(t)
			again, q := copied(t, path, "boot")
			got := again.copied()
			want := map[indexOf]tenure{}
			for at, t := range s.leases {
				if t.epoch != "" {
					t.epoch = elsewhen
				}
				want[indexOf{q, at.index}] = *t
			}
			byIndex := func(m map[indexOf]tenure) map[uint32]tenure {
				out := map[uint32]tenure{}
				for at, t := range m {
					out[at.index] = t
				}
				return out
			}
			if diff := cmp.Diff(byIndex(want), byIndex(got), cmp.AllowUnexported(tenure{}), cmpopts.EquateComparable(netip.Prefix{})); diff != "" || !again.copy.whole {
				t.Errorf("whole %v, %s", again.copy.whole, diff)
			}
		})
	}
}

// A copy that tells nothing of what the kernel does now is begun anew.
func TestCopyOfNoUse(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string) (boot string){
		"another boot": func(*testing.T, string) string { return "boot2" },
		"damaged": func(t *testing.T, path string) string {
			b, err := os.ReadFile(path)
			if err == nil {
				b = append(bytes.Replace(b, []byte("alice"), []byte("alibe"), 1), b...)
				err = os.WriteFile(path, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			return "boot"
		},
		"something else": func(t *testing.T, path string) string {
			if err := os.WriteFile(path, []byte("no journal"), 0o600); err != nil {
				t.Fatal(err)
			}
			return "boot"
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "copy")
			s, p := copied(t, path, "boot")
			s.put(p, 1, someTenure("alice", "s1"))
			s.copy.settle()
			s.copy.reclose(t)
			boot := spoil(t, path)
			for range 2 { // it is of use again then
				s, _ = copied(t, path, boot)
				if n := len(s.copied()); n > 0 || s.copy.whole {
					t.Fatalf("%d leases, whole %v", n, s.copy.whole)
				}
				s.copy.reclose(t)
			}
			s, p = copied(t, path, boot)
			s.put(p, 1, someTenure("alice", "s1"))
			s.copy.settle()
			s.copy.reclose(t)
			if s, _ = copied(t, path, boot); len(s.copied()) != 1 || !s.copy.whole {
				t.Errorf("%d leases, whole %v", len(s.copied()), s.copy.whole)
			}
		})
	}
}

// A copy that could not be written is none, until it is written anew.
func TestCopyBreaks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "copy")
	s, p := copied(t, path, "boot")
	s.copy.settle()
	s.put(p, 1, someTenure("alice", "s1"))
	s.mu.Lock()
	s.copy.append(make([]byte, journal.MaxRecord+1))
	s.mu.Unlock()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	s.put(p, 2, someTenure("bob", "s2"))
	s.copy.mend()
	s.put(p, 3, someTenure("carol", "s3"))
	s.copy.reclose(t)
	if again, _ := copied(t, path, "boot"); len(again.copied()) != 3 || !again.copy.whole {
		t.Errorf("%d leases, whole %v", len(again.copied()), again.copy.whole)
	}
}

// FuzzCopy: whatever stands in a record, it is read or refused, and what was read is written and read the same.
func FuzzCopy(f *testing.F) {
	p := &sharedPool{Pool: worldPools()[0]}
	c := &localCopy{pools: []*sharedPool{p}}
	static := someTenure("bob", "s2")
	static.foreign = netip.MustParsePrefix("2001:db8:f::/48")
	f.Add(c.appendPut(nil, indexOf{p, 1}, &static))
	f.Add(c.appendAt(c.appendPut(nil, indexOf{p, 1}, &static), copyDrop, indexOf{p, 1}))
	f.Add(append(c.appendAt(nil, copyEnd, indexOf{p, 1}), 0, 0, 0, 0, 0, 0, 0, 1))
	f.Fuzz(func(t *testing.T, record []byte) {
		read := func(record []byte) (map[indexOf]*tenure, bool) {
			c := &localCopy{pools: c.pools, found: make(map[indexOf]*tenure)}
			d := decoder{rest: record}
			for len(d.rest) > 0 && !d.bad {
				c.read(&d)
			}
			return c.found, !d.bad
		}
		found, ok := read(record)
		if !ok {
			return
		}
		var again []byte
		for at, tenure := range found {
			again = c.appendPut(again, at, tenure)
		}
		got, ok := read(again)
		if diff := cmp.Diff(len(found), len(got)); !ok || diff != "" {
			t.Errorf("%v %s", ok, diff)
		}
		for at, tenure := range found {
			if got[at] == nil || tenure.entry() != got[at].entry() {
				t.Errorf("%+v became %+v", tenure, got[at])
			}
		}
	})
}

// A session that took over a lease while Redis was away is known to Redis after a restart of the daemon.
func TestCopyTellsRedis(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	path := filepath.Join(t.TempDir(), "copy")
	open := func() *Redis {
		r, err := OpenRedis(t.Context(), worldPools(), RedisOptions{Conn: redistest.Open(t, server.Options()), Node: "a", Grace: time.Second, Copy: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	r := open()
	for _, err := range r.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	req := Request{Pool: "home", Owner: "alice", Session: "s1", Node: "a", TTL: time.Hour, Data: []byte("one")}
	var first Lease
	for deadline := time.Now().Add(time.Minute); first.Index == 0; time.Sleep(20 * time.Millisecond) {
		l, err := r.Acquire(t.Context(), req)
		if first = l; err != nil && (!errors.Is(err, ErrGrace) || time.Now().After(deadline)) {
			t.Fatal(err)
		}
	}
	server.Kill()
	req.Session, req.Data = "s2", []byte("two")
	if _, err := r.Acquire(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open() // Redis is still away
	kept, ok := r.Kept()
	if !ok || len(kept) != 1 || kept[0].Session != "s2" || kept[0].Index != first.Index || string(kept[0].Data) != "two" {
		t.Errorf("kept is %v, %+v", ok, kept)
	}
	if _, err := r.Acquire(t.Context(), Request{Pool: "home", Owner: "bob", Session: "s9", Node: "a", TTL: time.Hour}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("somebody new: %v", err)
	}
	mark := Holder{Pool: "home", Index: first.Index, Session: "s2", Data: []byte("ended")}
	if lost, err := r.Extend(t.Context(), time.Hour, mark); !errors.Is(err, ErrUnavailable) || lost != nil {
		t.Errorf("extended while Redis is away: lost %v, %v", lost, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	server.Run()
	r = open()
	var found []Lease
	for l, err := range r.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, l)
	}
	if len(found) != 1 || found[0].Session != "s2" || string(found[0].Data) != "ended" || found[0].State != Active {
		t.Errorf("Redis knows %+v", found)
	}
	if _, ok := r.Kept(); ok {
		t.Error("it takes Redis for away")
	}
}

// BenchmarkCopy is what a login costs more for the copy: the lease is put, and extended once.
func BenchmarkCopy(b *testing.B) {
	p := &sharedPool{Pool: Pool{Name: "home", Size: 1 << 24, EndpointBase: netip.MustParseAddr("2001:db8:8000::")}}
	s := newServed()
	var err error
	if s.copy, err = openCopy(filepath.Join(b.TempDir(), "copy"), "boot", []*sharedPool{p}, s, Options{}); err != nil {
		b.Fatal(err)
	}
	t := someTenure("", "0123456789abcdef01234567")
	t.data = make([]byte, 100)
	for i := range b.N {
		t.owner = fmt.Sprint("owner", i)
		s.put(p, uint32(i+1), t)
		s.change(p, uint32(i+1), t.session, func(t *tenure) { t.end = t.end.Add(time.Second) })
	}
	b.StopTimer()
	if err := s.copy.close(); err != nil {
		b.Fatal(err)
	}
}
