// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"context"
	"time"
)

// span is a context that the calls of one worker share as long as it is new: to make one for each, with its timer, costs more than
// many a call. It is for calls that leave nothing behind that hangs on their context.
type span struct {
	ctx    context.Context
	cancel context.CancelFunc
	length time.Duration
	until  time.Time // calls that begin before this share it
}

// within gives a context that ends with parent, or when length is over; at most a tenth of that sooner.
func (s *span) within(parent context.Context, length time.Duration) context.Context {
	now := time.Now()
	if s.ctx == nil || length != s.length || !now.Before(s.until) {
		s.end()
		s.ctx, s.cancel = context.WithTimeout(parent, length)
		s.length, s.until = length, now.Add(length/10)
	}
	return s.ctx
}

// end ends the context.
func (s *span) end() {
	if s.cancel != nil {
		s.cancel()
	}
}
