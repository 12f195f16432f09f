// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import "sync/atomic"

// tally is what was dropped of a tunnel's packets, by reason, and last what of the session it is that it counts for.
type tally [tallySize / 4]uint32

const tallySession = tallySize/4 - 1

// markOf is what of a session stands in its tally.
func markOf(session uint64) uint32 { return uint32(session ^ session>>32) }

// session is the mark of the session whose drops are counted.
func (t *tally) session() uint32 { return atomic.LoadUint32(&t[tallySession]) }

// count is how often a reason, by its number, was tallied.
func (t *tally) count(reason int) uint32 { return atomic.LoadUint32(&t[reason]) }

// empty tells whether nothing was dropped.
func (t *tally) empty() bool {
	for reason := range tallySession {
		if t.count(reason) != 0 {
			return false
		}
	}
	return true
}

// add counts packets that were dropped.
func (t *tally) add(reason int, packets uint32) { atomic.AddUint32(&t[reason], packets) }

// start begins to count for a session.
func (t *tally) start(session uint64) {
	atomic.StoreUint32(&t[tallySession], markOf(session))
	for reason := range tallySession {
		atomic.StoreUint32(&t[reason], 0)
	}
}

// take adds what another has counted for the same session.
func (t *tally) take(from *tally) {
	for reason := range tallySession {
		t.add(reason, from.count(reason))
	}
}
