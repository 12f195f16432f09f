// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"time"

	"github.com/rs/zerolog"
)

// DefaultQuarantine is how long an index rests after a lease before another owner gets it, if Options says nothing.
const DefaultQuarantine = time.Hour

// Options of Memory and Embedded. The zero value is good.
type Options struct {
	Clock      func() time.Time // nil: time.Now. Wall time, since leases outlive the process.
	Quarantine time.Duration    // 0: DefaultQuarantine
	Logger     zerolog.Logger   // Embedded tells of a cut journal tail, dropped leases and compactions

	// Drop lets OpenEmbedded end active leases and forget reservations that no longer fit the pools it is given.
	// Without it that is an error, since a typing error in the configuration would cost every subscriber his address.
	Drop bool
}

// Usage counts the indices of one pool. Size is Active + Idle + Reserved + Unused + 1 (index 0).
type Usage struct {
	Pool     string
	Size     uint32
	Active   uint32 // held by a session
	Idle     uint32 // in quarantine or past it, remembered for its owner until another needs it
	Reserved uint32 // kept for an owner, not held now
	Unused   uint32 // never leased
}

// UsageReporter is what a Store has besides that counts its leases without walking through them.
type UsageReporter interface {
	// Usage returns one entry a pool, in the order they were configured.
	Usage() []Usage
}
