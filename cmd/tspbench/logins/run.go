// SPDX-License-Identifier: GPL-2.0-or-later

package logins

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ddtb/tsp/sasl"
)

// Account is a subscriber's name and password.
type Account struct{ User, Password string }

// Config says who logs in where, and how fast.
type Config struct {
	Server    netip.AddrPort
	Host      string              // the server as a subscriber would name it
	Account   func(n int) Account // of the n-th login
	Mechanism sasl.Mechanism      // DigestMD5 or Plain; "": DigestMD5
	Count     int                 // logins in all
	Rate      float64             // logins begun a second; 0: as fast as the server answers
	Window    int                 // dialogues at a time
	Random    io.Reader           // of nonces
	Retry     time.Duration       // first retransmission timeout, doubled with each; 0: 2 s (client fact 4)
	Tries     int                 // times a message is sent at most; 0: 4

	// Source, where set, gives each login a source address of its own; all must be local. Their port is Port, or the
	// following ones with more than one worker. Without it each login has a socket, and the kernel chooses.
	Source  func(n int) netip.Addr
	Port    uint16
	Workers int // goroutines that share the Window; only with Source

	// Within, where set, runs what opens a socket, in the network namespace it is to belong to.
	Within func(open func() error) error
}

// Session is a tunnel that a login was given.
type Session struct {
	Login    int
	Client   netip.AddrPort
	Endpoint netip.Addr
}

// Result is what came of it.
type Result struct {
	Sessions  []Session
	Durations []time.Duration // of each of Sessions, from the first message to the answer to the last
	Failures  map[string]int  // reasons, with how often
	Resent    int             // messages sent again
	Elapsed   time.Duration
}

// Failed is how many logins failed.
func (r Result) Failed() int {
	sum := 0
	for _, n := range r.Failures {
		sum += n
	}
	return sum
}

// Run logs in Count times. A login that fails is counted, not repeated; the error is for what keeps the rest from being
// tried.
func Run(ctx context.Context, config Config) (Result, error) {
	if config.Retry == 0 {
		config.Retry = 2 * time.Second
	}
	if config.Mechanism == "" {
		config.Mechanism = sasl.DigestMD5
	}
	if config.Tries == 0 {
		config.Tries = 4
	}
	workers := max(config.Workers, 1)
	if config.Source == nil {
		workers = config.Window
	}
	run := &run{Config: config, start: time.Now(), result: Result{Failures: map[string]int{}}}
	group, ctx := errgroup.WithContext(ctx)
	for i := range min(workers, config.Count) {
		group.Go(func() error {
			w := &worker{run: run, window: max(config.Window/workers, 1), active: map[netip.Addr]*flight{}}
			if config.Source != nil {
				err := config.within(func() (err error) {
					w.socket, err = listen(config.Server, config.Port+uint16(i))
					return err
				})
				if err != nil {
					return err
				}
			}
			return w.serve(ctx)
		})
	}
	err := group.Wait()
	run.result.Elapsed = time.Since(run.start)
	return run.result, err
}

func (c Config) within(open func() error) error {
	if c.Within == nil {
		return open()
	}
	return c.Within(open)
}

// run is what the workers share.
type run struct {
	Config
	start time.Time

	mu     sync.Mutex
	begun  int
	result Result
}

// next hands out a login to begin. If it is too early, wait is how long; if all have begun, ok is false.
func (r *run) next() (n int, wait time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun >= r.Count {
		return 0, 0, false
	}
	if r.Rate > 0 {
		due := r.start.Add(time.Duration(float64(r.begun) / r.Rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			return 0, wait, true
		}
	}
	r.begun++
	return r.begun - 1, 0, true
}

func (r *run) succeed(session Session, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Sessions = append(r.result.Sessions, session)
	r.result.Durations = append(r.result.Durations, took)
}

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Failures[err.Error()]++
}

func (r *run) resent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Resent++
}

// worker drives dialogues over one socket at a time.
type worker struct {
	*run
	socket *socket
	window int
	active map[netip.Addr]*flight // by the client's address
	looked time.Time              // for retransmissions
}

// flight is a login in progress.
type flight struct {
	*dialogue
	number int
	from   netip.AddrPort
}

// tick is how often retransmissions are looked for.
const tick = 50 * time.Millisecond

func (w *worker) serve(ctx context.Context) error {
	defer w.close()
	for {
		wait, more, err := w.begin()
		if err != nil {
			return err
		}
		if !more && len(w.active) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.socket == nil { // nobody to hear from yet
			if err := pause(ctx, wait); err != nil {
				return err
			}
			continue
		}
		w.socket.flush()
		messages, err := w.socket.receive(time.Now().Add(min(max(wait, time.Millisecond), tick)))
		if err != nil && w.Source != nil { // of a client's own socket: its server does not listen; the client tries again
			return fmt.Errorf("receive: %w", err)
		}
		for _, m := range messages {
			w.hear(m.Data, m.Local)
		}
		w.resend()
	}
}

// begin starts logins while there is room, and says how long until the next may start.
func (w *worker) begin() (wait time.Duration, more bool, err error) {
	for len(w.active) < w.window {
		number, wait, ok := w.next()
		if !ok {
			return tick, false, nil
		}
		if wait > 0 {
			return wait, true, nil
		}
		if err := w.launch(number); err != nil {
			return 0, false, err
		}
	}
	return tick, true, nil
}

func (w *worker) launch(number int) error {
	f := &flight{number: number}
	if w.Source != nil {
		f.from = netip.AddrPortFrom(w.Source(number), w.socket.local().Port())
	} else {
		w.close()
		err := w.within(func() (err error) {
			w.socket, err = dial(w.Server)
			return err
		})
		if err != nil {
			return err
		}
		f.from = w.socket.local()
	}
	var err error
	if f.dialogue, err = newDialogue(w.Mechanism, w.Account(number), w.Host, f.from.Addr(), w.Random); err != nil {
		return err
	}
	if _, busy := w.active[f.from.Addr()]; busy {
		return fmt.Errorf("source address %v is in use by another login in progress", f.from.Addr())
	}
	w.active[f.from.Addr()] = f
	f.started = time.Now()
	w.send(f)
	return nil
}

// send sends a flight's message, with those of others.
func (w *worker) send(f *flight) {
	message := f.stamp(time.Now())
	if f.tries > 1 {
		w.resent()
	}
	w.socket.send(message, f.from.Addr())
}

// hear hands an answer to its dialogue.
func (w *worker) hear(datagram []byte, to netip.Addr) {
	f := w.active[to]
	if f == nil {
		return
	}
	more, err := f.hear(datagram)
	switch {
	case err != nil:
		w.fail(err)
		delete(w.active, to)
	case f.step == done:
		w.succeed(Session{Login: f.number, Client: f.from, Endpoint: f.endpoint}, time.Since(f.started))
		delete(w.active, to)
	case more:
		w.send(f)
	}
}

// resend repeats what has gone unanswered for too long, and gives up what has been repeated too often.
func (w *worker) resend() {
	now := time.Now()
	if now.Sub(w.looked) < tick {
		return
	}
	w.looked = now
	for address, f := range w.active {
		if now.Sub(f.sent) < w.Retry<<(f.tries-1) {
			continue
		}
		if f.tries >= w.Tries {
			w.fail(ErrTimeout)
			delete(w.active, address)
			continue
		}
		w.send(f)
	}
}

func (w *worker) close() {
	if w.socket != nil {
		_ = w.socket.conn.Close()
		w.socket = nil
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
