// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"fmt"
	"time"
)

// Limits bounds what strangers can make a Server do. A field that is 0 takes the default named with it.
type Limits struct {
	Dialogues   int           // UDP dialogues in memory at a time: 65536
	Connections int           // TCP connections at a time: 4096
	PerSource   int           // of either, from one source (an IPv4 address, an IPv6 /64): 256
	Rate        float64       // messages a second from one source: 200; Unlimited turns it off
	Burst       int           // messages at once from one source: 1000
	Sources     int           // sources the rate limit remembers: 65536
	Workers     int           // UDP requests in the Backend at a time, a quarter of them kept for those that nobody can have forged: 128
	Queue       int           // UDP requests waiting for a worker; those beyond it hear 530 or wait for the retransmission: 4096
	AuthTimeout time.Duration // from the first message to a complete credential: 30 s
	Timeout     time.Duration // from there to accept: 90 s
	Drain       time.Duration // how long Run lets dialogues in progress finish when it is told to stop: 2 s
}

// Unlimited is Limits.Rate without a limit.
const Unlimited = -1

// withDefaults fills in what is 0.
func (l Limits) withDefaults() Limits {
	fill(&l.Dialogues, 65536)
	fill(&l.Connections, 4096)
	fill(&l.PerSource, 256)
	fill(&l.Rate, 200)
	fill(&l.Burst, 1000)
	fill(&l.Sources, 65536)
	fill(&l.Workers, 128)
	fill(&l.Queue, 4096)
	fill(&l.AuthTimeout, 30*time.Second)
	fill(&l.Timeout, 90*time.Second)
	fill(&l.Drain, 2*time.Second)
	return l
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate says which limit makes no sense.
func (l Limits) Validate() error {
	for name, value := range map[string]int{"Dialogues": l.Dialogues, "Connections": l.Connections, "PerSource": l.PerSource,
		"Burst": l.Burst, "Sources": l.Sources, "Workers": l.Workers, "Queue": l.Queue} {
		if value < 0 || value > 1<<24 {
			return fmt.Errorf("limit %s is %d, want 0 (the default) to %d", name, value, 1<<24)
		}
	}
	for name, value := range map[string]time.Duration{"AuthTimeout": l.AuthTimeout, "Timeout": l.Timeout, "Drain": l.Drain} {
		if value < 0 || value > time.Hour {
			return fmt.Errorf("limit %s is %v, want 0 (the default) to 1 h", name, value)
		}
	}
	if l.Rate != Unlimited && !(l.Rate >= 0 && l.Rate <= 1e9) {
		return fmt.Errorf("limit Rate is %v messages a second, want 0 (the default) to 1e9, or %d for no limit", l.Rate, Unlimited)
	}
	return nil
}

// Reload puts other limits in force while the Server runs, for dialogues in progress too: all but Sources, Workers and
// Queue, which stay as they are. A table that has become too small is a full one.
func (s *Server) Reload(l Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	l, old := l.withDefaults(), s.limits.Load()
	l.Sources, l.Workers, l.Queue = old.Sources, old.Workers, old.Queue
	s.limits.Store(&l)
	s.limiter.bound(l.Rate, l.Burst)
	s.udp.bound(l)
	s.tcp.table.bound(l.Connections, l.PerSource, lifetimes(l))
	return nil
}

// lifetimes is how long a dialogue of each standing lives.
func lifetimes(l Limits) [standings]time.Duration {
	return [standings]time.Duration{over: l.Timeout, stranger: l.AuthTimeout, known: l.Timeout}
}
