// SPDX-License-Identifier: GPL-2.0-or-later

package spool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
)

// biller is a Deliverer in memory. answer decides about each record; nil takes all.
type biller struct {
	mu     sync.Mutex
	got    []aaa.Record
	busy   map[string]bool // sessions with a record under delivery
	clash  bool            // two of one session at a time
	answer func(n int, r aaa.Record) error
	calls  int
}

func (b *biller) Deliver(_ context.Context, r aaa.Record) error {
	b.mu.Lock()
	if b.busy == nil {
		b.busy = make(map[string]bool)
	}
	b.clash = b.clash || b.busy[r.Session]
	b.busy[r.Session] = true
	n := b.calls
	b.calls++
	answer := b.answer
	b.mu.Unlock()
	var err error
	if answer != nil {
		err = answer(n, r)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy[r.Session] = false
	if err == nil {
		b.got = append(b.got, r)
	}
	return err
}

// session is what was delivered of one session, in order.
func (b *biller) session(id string) (out []aaa.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.got {
		if r.Session == id {
			out = append(out, r.Status)
		}
	}
	return out
}

var errSilent = fmt.Errorf("%w: no reply", aaa.ErrUnavailable)

func open(t testing.TB, path string, to Deliverer, o Options) *Spool {
	t.Helper()
	o.Logger = zerolog.Nop()
	if o.Retry == 0 {
		o.Retry, o.RetryMax = time.Millisecond, 5*time.Millisecond
	}
	s, report, err := Open(path, to, o)
	if err != nil {
		t.Fatal(err)
	}
	if w := report.Warning(); w != "" {
		t.Log(w)
	}
	return s
}

// drain delivers until nothing waits.
func drain(t testing.TB, s *Spool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for s.Pending() > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond) // polls a state
	}
	if ctx.Err() != nil {
		t.Errorf("%d records still wait", s.Pending())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func put(t testing.TB, s *Spool, status aaa.Status, session string) {
	t.Helper()
	if err := s.Account(context.Background(), aaa.Record{Status: status, Session: session, Time: time.Unix(1e9, 0)}); err != nil {
		t.Fatal(err)
	}
}

const (
	start, interim, stop, on, off = aaa.StatusStart, aaa.StatusInterim, aaa.StatusStop, aaa.StatusOn, aaa.StatusOff
)

func TestOrder(t *testing.T) {
	tests := []struct {
		name      string
		put, want []aaa.Status
	}{
		{"whole", []aaa.Status{start, stop}, []aaa.Status{start, stop}},
		{"newest interim supersedes", []aaa.Status{start, interim, interim, interim}, []aaa.Status{start, interim}},
		{"stop supersedes interims", []aaa.Status{start, interim, stop}, []aaa.Status{start, stop}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &biller{}
			s := open(t, filepath.Join(t.TempDir(), "spool"), b, Options{})
			for _, status := range tt.put {
				put(t, s, status, "a")
			}
			drain(t, s)
			if got := b.session("a"); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBarriers(t *testing.T) {
	b := &biller{}
	s := open(t, filepath.Join(t.TempDir(), "spool"), b, Options{})
	for i := range 50 {
		put(t, s, start, fmt.Sprint("before", i))
	}
	put(t, s, off, "")
	put(t, s, on, "")
	for i := range 50 {
		put(t, s, start, fmt.Sprint("after", i))
	}
	drain(t, s)
	if len(b.got) != 102 || b.got[50].Status != off || b.got[51].Status != on {
		t.Errorf("%d delivered; Off and On do not stand between what was before and after them", len(b.got))
	}
}

// TestSilence: while nobody answers one record at a time is tried, and nothing is lost or reordered.
func TestSilence(t *testing.T) {
	var inFlight, most int
	var mu sync.Mutex
	b := &biller{answer: func(n int, _ aaa.Record) error {
		mu.Lock()
		inFlight++
		if n > 64 {
			most = max(most, inFlight)
		}
		mu.Unlock()
		defer func() { mu.Lock(); inFlight--; mu.Unlock() }()
		if n < 80 {
			return errSilent
		}
		return nil
	}}
	s := open(t, filepath.Join(t.TempDir(), "spool"), b, Options{})
	for i := range 500 {
		put(t, s, start, fmt.Sprint(i))
		put(t, s, stop, fmt.Sprint(i))
	}
	drain(t, s)
	for i := range 500 {
		if got := b.session(fmt.Sprint(i)); !slices.Equal(got, []aaa.Status{start, stop}) {
			t.Fatalf("session %d: %v", i, got)
		}
	}
	if b.clash {
		t.Error("two records of one session were under delivery at a time")
	}
	if len(s.Parked()) != 0 {
		t.Error("silence parked a record")
	}
}

func TestPoison(t *testing.T) {
	for name, answer := range map[string]error{"no reply to it": errSilent, "refused": errors.New("does not fit")} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "spool")
			b := &biller{answer: func(_ int, r aaa.Record) error {
				if r.Session == "bad" {
					time.Sleep(2 * time.Millisecond) // others get through meanwhile: that is the case under test
					return answer
				}
				return nil
			}}
			s := open(t, path, b, Options{Parallel: 4})
			put(t, s, start, "bad")
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			deadline := time.Now().Add(time.Minute)
			for i := 0; len(s.Parked()) == 0 && time.Now().Before(deadline); i++ {
				put(t, s, start, fmt.Sprint(i))
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			parked := s.Parked()
			if len(parked) != 1 || parked[0].Record.Session != "bad" {
				t.Fatalf("parked %v", parked)
			}
			b.answer = nil
			if err := s.Retry(parked[0].ID); err != nil {
				t.Error(err)
			}
			if err := s.Discard(parked[0].ID); !errors.Is(err, ErrNotParked) {
				t.Errorf("got %v", err)
			}
			drain(t, s)
			if got := b.session("bad"); !slices.Equal(got, []aaa.Status{start}) {
				t.Errorf("got %v after the retry", got)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	b := &biller{}
	s := open(t, path, b, Options{})
	put(t, s, start, "a")
	put(t, s, start, "b")
	put(t, s, interim, "b")
	put(t, s, stop, "b")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, b, Options{})
	if s.Pending() != 3 {
		t.Errorf("%d records after the restart, want 3", s.Pending())
	}
	put(t, s, stop, "a")
	drain(t, s)
	for _, id := range []string{"a", "b"} {
		if got := b.session(id); !slices.Equal(got, []aaa.Status{start, stop}) {
			t.Errorf("session %s: %v", id, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = open(t, path, b, Options{}); s.Pending() != 0 {
		t.Errorf("%d records come back though they were delivered", s.Pending())
	}
	_ = s.Close()
}

func TestFull(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "spool"), &biller{}, Options{MaxPending: 2})
	put(t, s, start, "a")
	put(t, s, start, "b")
	err := s.Account(context.Background(), aaa.Record{Status: start, Session: "c"})
	if !errors.Is(err, ErrFull) || !errors.Is(err, aaa.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	put(t, s, stop, "a") // billing data, however full
	drain(t, s)
	put(t, s, start, "c")
	_ = s.Close()
}

// TestKilled copies the file while it is written to, as a crash would leave it: each copy holds all that was acknowledged.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "spool")
	s := open(t, path, &biller{answer: func(int, aaa.Record) error { return errSilent }}, Options{})
	var acknowledged []string
	for i := range 200 {
		put(t, s, start, fmt.Sprint(i))
		acknowledged = append(acknowledged, fmt.Sprint(i))
		if rand.IntN(4) != 0 {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, fmt.Sprint("copy", i))
		if err := os.WriteFile(copied, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got := &biller{}
		c := open(t, copied, got, Options{})
		drain(t, c)
		for _, id := range acknowledged {
			if len(got.session(id)) != 1 {
				t.Fatalf("session %s is lost after %d records", id, i+1)
			}
		}
		_ = c.Close()
	}
	_ = s.Close()
}

func BenchmarkAccount(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "spool"), &biller{}, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	b.SetParallelism(512)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			put(b, s, start, fmt.Sprint(rand.Uint64()))
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	cancel()
	<-done
	_ = s.Close()
}

// TestOctetsOfName: a RADIUS server that names a subscriber in ISO 8859-1 is told so in his records, after a restart too.
func TestOctetsOfName(t *testing.T) {
	path, bill := filepath.Join(t.TempDir(), "spool"), &biller{}
	s := open(t, path, bill, Options{})
	names := []string{"m\xfcller", "müller", ""}
	for i, name := range names {
		record := aaa.Record{Status: aaa.StatusStart, Session: fmt.Sprint(i), Subscriber: aaa.Subscriber{Name: name}, Time: time.Unix(1e9, 0)}
		if err := s.Account(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, bill, Options{})
	defer s.Close()
	drain(t, s)
	got := make(map[string]string)
	for _, r := range bill.got {
		got[r.Session] = r.Subscriber.Name
	}
	for i, name := range names {
		if got[fmt.Sprint(i)] != name {
			t.Errorf("%q was billed for %q", got[fmt.Sprint(i)], name)
		}
	}
}
