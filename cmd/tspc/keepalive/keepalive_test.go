// SPDX-License-Identifier: GPL-2.0-or-later

package keepalive

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// server is an Echo whose answers are made by a function of the sequence number: after how long, and whether at all.
type server struct {
	answer  func(sequence uint16) (time.Duration, bool)
	fail    func(sequence uint16) bool // Send fails
	sent    []time.Duration            // when, since the first
	start   time.Time
	answers chan uint16
	closed  chan struct{}
}

func newServer(answer func(uint16) (time.Duration, bool)) *server {
	return &server{answer: answer, answers: make(chan uint16, 100), closed: make(chan struct{})}
}

func (s *server) Send(sequence uint16) error {
	if s.start.IsZero() {
		s.start = time.Now()
	}
	s.sent = append(s.sent, time.Since(s.start))
	if s.fail != nil && s.fail(sequence) {
		return errors.New("no route")
	}
	if delay, ok := s.answer(sequence); ok {
		time.AfterFunc(delay, func() { s.answers <- sequence })
	}
	return nil
}

func (s *server) Receive() (uint16, error) {
	select {
	case sequence := <-s.answers:
		return sequence, nil
	case <-s.closed:
		return 0, io.EOF
	}
}

func (s *server) Close() error {
	close(s.closed)
	return nil
}

func always() func(uint16) (time.Duration, bool) {
	return func(uint16) (time.Duration, bool) { return 10 * time.Millisecond, true }
}

func seconds(n ...float64) []time.Duration {
	out := make([]time.Duration, len(n))
	for i := range n {
		out[i] = time.Duration(n[i] * float64(time.Second))
	}
	return out
}

func TestMonitorKeepsTheInterval(t *testing.T) {
	for _, test := range []struct {
		name string
		rand float64
		want time.Duration
	}{
		{"at most T", 0, 30 * time.Second},
		{"at least 0.75 T", 0.999999, 22500 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(always())
				var answered int
				m := Monitor{Interval: 30 * time.Second, Rand: func() float64 { return test.rand },
					Answered: func(rtt time.Duration) {
						if answered++; rtt != 10*time.Millisecond {
							t.Errorf("round trip %v", rtt)
						}
					}}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				if err := m.Run(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("%v, want the deadline", err)
				}
				if len(s.sent) < 20 || answered != len(s.sent) {
					t.Fatalf("%d requests, %d answers", len(s.sent), answered)
				}
				for i := 1; i < len(s.sent); i++ {
					if gap := (s.sent[i] - s.sent[i-1] - 10*time.Millisecond).Round(time.Millisecond); gap != test.want {
						t.Fatalf("pause %d is %v, want %v", i, gap, test.want)
					}
				}
			})
		})
	}
}

func TestMonitorJudges(t *testing.T) {
	lost := func(from, to uint16) func(uint16) (time.Duration, bool) {
		return func(sequence uint16) (time.Duration, bool) { return 0, sequence < from || sequence > to }
	}
	for _, test := range []struct {
		name     string
		interval time.Duration
		answer   func(uint16) (time.Duration, bool)
		fail     func(uint16) bool
		dead     bool
		sent     []time.Duration // up to a minute
	}{
		{name: "never an answer", interval: 30 * time.Second, answer: lost(1, 99), dead: true, sent: seconds(0, 5, 10)},
		{name: "two losses are none", interval: 30 * time.Second, answer: lost(1, 2), sent: seconds(0, 5, 10, 40)},
		{name: "dies later", interval: 30 * time.Second, answer: lost(2, 99), dead: true, sent: seconds(0, 30, 35, 40)},
		{name: "short interval, short patience", interval: 2 * time.Second, answer: lost(1, 99), dead: true, sent: seconds(0, 2, 4)},
		{name: "an answer that takes seven seconds", interval: 30 * time.Second,
			answer: func(uint16) (time.Duration, bool) { return 7 * time.Second, true }, sent: seconds(0, 5, 37, 42)},
		{name: "what cannot be sent is lost", interval: 30 * time.Second, answer: lost(99, 99), dead: true,
			fail: func(uint16) bool { return true }, sent: seconds(0, 5, 10)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(test.answer)
				s.fail = test.fail
				ctx, cancel := context.WithTimeout(t.Context(), 46*time.Second)
				defer cancel()
				err := Monitor{Interval: test.interval, Rand: func() float64 { return 0 }}.Run(ctx, s)
				if errors.Is(err, ErrLost) != test.dead {
					t.Errorf("%v, want dead %v", err, test.dead)
				}
				if !slices.Equal(s.sent, test.sent) {
					t.Errorf("requests at %v, want %v", s.sent, test.sent)
				}
			})
		})
	}
}

// TestMonitorIgnoresStrangers: an answer to a request never sent, or answered before, is no life.
func TestMonitorIgnoresStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(func(sequence uint16) (time.Duration, bool) { return 0, sequence == 1 })
		go func() {
			for sequence := uint16(1); ; sequence = 4712 - sequence { // 1 and 4711 in turn
				select {
				case <-time.After(time.Second):
					s.answers <- sequence
				case <-s.closed:
					return
				}
			}
		}()
		err := Monitor{Interval: 10 * time.Second, Rand: func() float64 { return 0 }}.Run(t.Context(), s)
		if !errors.Is(err, ErrLost) {
			t.Fatalf("%v, want %v", err, ErrLost)
		}
		if want := seconds(0, 10, 15, 20); !slices.Equal(s.sent, want) {
			t.Errorf("requests at %v, want %v", s.sent, want)
		}
	})
}

func TestMatch(t *testing.T) {
	e := &ICMPv6{identifier: 0x1234, payload: [16]byte{1, 2, 3}}
	good := e.marshal(typeEchoReply, 7)
	if sequence, ok := e.match(good); !ok || sequence != 7 {
		t.Fatalf("own answer: %d, %v", sequence, ok)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"request":          func(b []byte) []byte { b[0] = typeEchoRequest; return b },
		"code":             func(b []byte) []byte { b[1] = 1; return b },
		"other identifier": func(b []byte) []byte { b[5]++; return b },
		"other payload":    func(b []byte) []byte { b[23]++; return b },
		"short":            func(b []byte) []byte { return b[:23] },
		"long":             func(b []byte) []byte { return append(b, 0) },
		"empty":            func([]byte) []byte { return nil },
	} {
		if _, ok := e.match(change(slices.Clone(good))); ok {
			t.Errorf("%s: matched", name)
		}
	}
}

// FuzzMatch: only what differs from an own answer in the sequence alone matches.
func FuzzMatch(f *testing.F) {
	e := &ICMPv6{identifier: 0x1234, payload: [16]byte{1, 2, 3}}
	f.Add(e.marshal(typeEchoReply, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		sequence, ok := e.match(b)
		if !ok {
			return
		}
		want := e.marshal(typeEchoReply, sequence)
		copy(want[2:4], b[2:4]) // the kernel has checked the checksum
		if !slices.Equal(b, want) {
			t.Fatalf("matched %x", b)
		}
	})
}
