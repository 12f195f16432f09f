// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Bounds of the log lines about refusals: operators need to see why a subscriber cannot log in, and a client that tries without a pause,
// or a forger of addresses, must not fill their disks.
const (
	refusalEvery       = 0.1 // lines a second about one source
	refusalBurst       = 5
	refusalSources     = 4096
	allRefusalsEvery   = 5 // lines a second about all sources
	allRefusalsAtATime = 50
)

// refusals decides which refusals are told at info; the others are at debug only.
type refusals struct {
	sources, all *limiter
	untold       atomic.Uint64 // since the last that was told
}

func newRefusals(start time.Time) *refusals {
	return &refusals{sources: newLimiter(refusalEvery, refusalBurst, refusalSources, start), all: newLimiter(allRefusalsEvery, allRefusalsAtATime, 1, start)}
}

// refused starts the line about a refusal of one client. What is a failure of our own is everybody's business, whoever meets it.
func (s *Server) refused(peer *Peer, err error, code Code) *zerolog.Event {
	event := s.log.Debug()
	switch {
	case code == StatusServerError:
		event = s.log.Error()
	case s.refusals.sources.allow(sourceOf(peer.Remote.Addr()), s.now()) && s.refusals.all.allow(0, s.now()):
		event = s.log.Info()
		if n := s.refusals.untold.Swap(0); n > 0 {
			event = event.Uint64("untold", n)
		}
	default:
		s.refusals.untold.Add(1)
	}
	if event == nil { // not at this level
		return nil
	}
	return event.Err(err).Int("code", int(code)).Str("network", peer.Network).Stringer("remote", peer.Remote)
}
