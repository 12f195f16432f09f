// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ddtb/aaa"
)

func fullRecord() record {
	at := time.Unix(1_700_000_000, 0).UTC()
	return record{
		Account: Account{
			Name: "jörg", Disabled: true, Expires: at.Add(time.Hour), Note: "a note", Pool: "home", Endpoint: netip.MustParseAddr("2001:db8::5"),
			Prefix: netip.MustParsePrefix("2001:db8:5::/48"), SessionLimit: 300, SessionTimeout: time.Hour, IdleTimeout: time.Minute,
			Cram: true, Created: at, PasswordSet: at.Add(time.Second),
			Mechanisms: []aaa.Mechanism{aaa.MechanismDigestMD5, aaa.MechanismCramMD5, aaa.MechanismPlain},
		},
		argon2: referenceHash, realm: testRealm, ha1: aaa.NewHA1("jörg", testRealm, "p"), raw: aaa.NewRawHA1("jörg", testRealm, "p"),
		cram: aaa.NewCramKey("p"), has: hasHA1 | hasRaw | hasCram,
	}
}

func TestRecord(t *testing.T) {
	bare := record{Account: Account{Name: "a", Mechanisms: []aaa.Mechanism{aaa.MechanismPlain}}}
	plainOnly := record{
		Account: Account{Name: strings.Repeat("n", MaxName), NoDigest: true, NoPrefix: true, Mechanisms: []aaa.Mechanism{aaa.MechanismPlain}},
		argon2:  referenceHash,
	}
	for _, r := range []record{fullRecord(), bare, plainOnly} {
		text := r.encode()
		got, err := decode(text)
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
			continue
		}
		if diff := cmp.Diff(fmt.Sprintf("%+v", r), fmt.Sprintf("%+v", got)); diff != "" || got.ha1 != r.ha1 || got.raw != r.raw || got.cram != r.cram {
			t.Errorf("%s: %s", r.Name, diff)
		}
		for i := range text {
			if _, err := decode(text[:i]); err == nil {
				t.Errorf("%s: cut after %d of %d octets it is still read", r.Name, i, len(text))
			}
		}
		if _, err := decode(text + "\x00"); err == nil {
			t.Errorf("%s: one octet more is not seen", r.Name)
		}
	}
}

func FuzzRecord(f *testing.F) {
	full := fullRecord()
	f.Add(full.encode())
	f.Add(record{Account: Account{Name: "a"}}.encode())
	f.Fuzz(func(t *testing.T, s string) {
		r, err := decode(s)
		if err == nil && r.encode() != s {
			t.Errorf("%q became %q", s, r.encode())
		}
	})
}

func FuzzReplay(f *testing.F) {
	full := fullRecord()
	f.Add([]byte("\x01" + full.encode()))
	f.Add([]byte("\x02jörg"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Store{opts: Options{Realm: testRealm}, seed: maphash.MakeSeed()}
		for i := range s.shards {
			s.shards[i].accounts = make(map[string]string)
		}
		strangers := 0
		if err := s.replay([]byte("\x01"+full.encode()), &strangers); err != nil {
			t.Fatal(err)
		}
		if err := s.replay(b, &strangers); err != nil {
			return
		}
		for a := range s.List(Filter{}) {
			if _, ok := s.lookup(a.Name); !ok {
				t.Errorf("%q is listed and not found", a.Name)
			}
		}
	})
}

// A million accounts: what they take in memory and how long it takes to read them.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	dir := b.TempDir()
	s, _ := openStore(b, dir, Options{})
	var wg sync.WaitGroup
	start := time.Now()
	for w := range 256 {
		wg.Go(func() {
			for i := w; i < n; i += 256 {
				name := fmt.Sprintf("subscriber%07d@isp.example", i)
				err := s.change(name, func(record, bool) (record, error) { // Add but for argon2id
					r := record{Account: Account{Name: name}}
					s.setPassword(&r, referenceHash, "secret")
					return r, nil
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	adds := n / time.Since(start).Seconds()
	closeStore(b, s)
	s = nil
	before := heap()
	for b.Loop() {
		s, _ = openStore(b, dir, Options{})
		b.ReportMetric(float64(heap()-before)/n, "B/account")
		closeStore(b, s)
	}
	start = time.Now()
	count := 0
	for range s.List(Filter{}) {
		count++
	}
	b.ReportMetric(time.Since(start).Seconds(), "s/list")
	b.ReportMetric(adds, "changes/s")
	if count != n {
		b.Errorf("%d accounts", count)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Logins a second: DIGEST-MD5, PLAIN with an HA1, PLAIN remembered, and PLAIN that goes through argon2id.
func BenchmarkAuthenticate(b *testing.B) {
	s, _ := openStore(b, b.TempDir(), Options{Argon2: defaultParams()})
	mustAdd(b, s, "secret", Account{Name: "digest"}, Account{Name: "seen", NoDigest: true}, Account{Name: "forgotten", NoDigest: true})
	for _, tc := range []struct {
		name  string
		login aaa.Login
	}{{"digest", digest("digest", "secret")}, {"plain-ha1", plain("digest", "secret")}, {"plain-seen", plain("seen", "secret")}, {"plain-argon2id", plain("forgotten", "secret")}} {
		b.Run(tc.name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if tc.name == "plain-argon2id" {
						s.cache.mu.Lock()
						s.cache.sums.young, s.cache.sums.old = nil, nil
						s.cache.mu.Unlock()
					}
					if _, err := s.Authenticate(b.Context(), tc.login); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
