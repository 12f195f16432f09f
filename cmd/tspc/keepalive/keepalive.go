// SPDX-License-Identifier: GPL-2.0-or-later

// Package keepalive asks, at the interval the tunnel server wishes, whether the tunnel still works, and so keeps the
// mapping of a NAT on the way alive (RFC 5572 section 4.6): ICMPv6 echo requests from the tunnel address to the address
// the server named.
package keepalive

import (
	"context"
	"errors"
	"time"
)

// ErrLost: the server left a row of echo requests unanswered.
var ErrLost = errors.New("tunnel is dead")

const (
	// Losses in a row make a tunnel dead.
	Losses = 3
	// Timeout is how long an answer is waited for; less if the interval is shorter.
	Timeout = 5 * time.Second
)

// Echo sends echo requests and gives their answers. Send and Receive may run at the same time.
type Echo interface {
	// Send sends one request.
	Send(sequence uint16) error
	// Receive waits for the next answer to a request of this Echo. After Close it returns an error.
	Receive() (sequence uint16, err error)
	Close() error
}

// Monitor sends a request each interval and judges by the answers.
type Monitor struct {
	Interval time.Duration  // what the server said; each pause is 75 to 100 % of it
	Rand     func() float64 // 0 <= x < 1
	// Answered is called after each answer with its round trip time, from Run's goroutine.
	Answered func(time.Duration)
}

// Run asks until ctx is done or Losses requests in a row went unanswered; it closes echo in either case. The error is
// ctx's or ErrLost. A late answer to any request of the row counts as life. A request that could not be sent is a lost
// one.
func (m Monitor) Run(ctx context.Context, echo Echo) error {
	answers := make(chan uint16)
	stop := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		forward(echo, answers, stop)
	}()
	defer func() {
		close(stop)
		_ = echo.Close()
		<-finished
	}()

	row := row{sent: make(map[uint16]time.Time, Losses)}
	for {
		row.begin(time.Now())
		_ = echo.Send(row.sequence)
		if !m.await(ctx, &row, answers) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if len(row.sent) == Losses {
				return ErrLost
			}
			continue
		}
		if err := sleep(ctx, m.pause()); err != nil {
			return err
		}
	}
}

// row is the requests sent since the last answer.
type row struct {
	sequence uint16
	sent     map[uint16]time.Time
}

func (r *row) begin(now time.Time) {
	r.sequence++
	r.sent[r.sequence] = now
}

// await waits for an answer to any request of the row and, if one comes in time, ends the row.
func (m Monitor) await(ctx context.Context, row *row, answers <-chan uint16) bool {
	timer := time.NewTimer(min(Timeout, m.Interval))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return false
		case sequence := <-answers:
			if sent, ok := row.sent[sequence]; ok {
				if m.Answered != nil {
					m.Answered(time.Since(sent))
				}
				clear(row.sent)
				return true
			}
		}
	}
}

// pause is the jittered interval of RFC 5572 section 4.6: between 0.75 T and T.
func (m Monitor) pause() time.Duration {
	return m.Interval - time.Duration(m.Rand()*0.25*float64(m.Interval))
}

// forward hands answers on until echo is closed.
func forward(echo Echo, answers chan<- uint16, stop <-chan struct{}) {
	for {
		sequence, err := echo.Receive()
		if err != nil {
			return
		}
		select {
		case answers <- sequence:
		case <-stop:
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
