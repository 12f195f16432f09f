// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"math/rand/v2"
	"time"
)

// timers are those of RFC 5080 section 2.2.1: IRT, MRT and MRC, with jitter.
type timers struct {
	initial time.Duration // IRT
	longest time.Duration // MRT
	most    int           // MRC: transmissions while there is nobody else to ask
	each    int           // transmissions before the next server is asked
}

// first is RT = IRT + RAND*IRT, RAND between -0.1 and 0.1.
func (t timers) first() time.Duration { return t.initial + jitter(t.initial) }

// next is RT = 2*RTprev + RAND*RTprev, at most MRT + RAND*MRT.
func (t timers) next(previous time.Duration) time.Duration {
	if wait := 2*previous + jitter(previous); wait <= t.longest {
		return wait
	}
	return t.longest + jitter(t.longest)
}

// tries is how many waits one server gets. On a datagram socket each begins with a transmission.
func (t timers) tries(patient bool) int {
	if patient {
		return t.most
	}
	return t.each
}

func jitter(d time.Duration) time.Duration {
	return time.Duration((rand.Float64()*0.2 - 0.1) * float64(d)) // #nosec G404 -- spreads load, keeps no secret
}
