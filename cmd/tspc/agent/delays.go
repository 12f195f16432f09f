// SPDX-License-Identifier: GPL-2.0-or-later

package agent

import (
	"errors"
	"time"
)

// How long to wait after a failed round: the delay doubles from one failure to the next, and is shortened by chance up
// to a half so that the clients of a restarted server do not all come back at the same moment.
const (
	firstDelay   = time.Second
	maxDelay     = 5 * time.Minute
	firstRefusal = 30 * time.Second // somebody must change something first: user, password, configuration
	maxRefusal   = time.Hour
)

// delays counts failures in a row.
type delays struct {
	rand               func() float64
	failures, refusals int
}

// next gives the delay after one more failure. A changed network is no failure.
func (d *delays) next(why error) time.Duration {
	switch {
	case errors.Is(why, errPathChanged):
		return 0
	case errors.Is(why, errRefused):
		d.refusals++
		return d.jitter(double(firstRefusal, d.refusals-1, maxRefusal))
	default:
		d.failures++
		return d.jitter(double(firstDelay, d.failures-1, maxDelay))
	}
}

// reset forgets the failures.
func (d *delays) reset() { d.failures, d.refusals = 0, 0 }

func (d *delays) jitter(delay time.Duration) time.Duration {
	return delay - time.Duration(d.rand()*0.5*float64(delay))
}

// double doubles delay n times, up to most.
func double(delay time.Duration, n int, most time.Duration) time.Duration {
	for range n {
		if delay *= 2; delay >= most {
			return most
		}
	}
	return delay
}
