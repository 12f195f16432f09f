// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import "errors"

// Errors of the Broker, wrapped with who and why. The number behind each is the TSP status (RFC 5572 appendix B, and for
// 522 the field's own addition) that the edge makes of it; any other error is 310.
var (
	ErrFull            = errors.New("no more tunnels available")                   // 301: MaxSessions is reached or the pool exhausted
	ErrDenied          = errors.New("session limit reached")                       // 301: the subscriber has his sessions already
	ErrClientAddress   = errors.New("client address cannot end a tunnel")          // 501
	ErrAddressInUse    = errors.New("client address ends another tunnel")          // 506
	ErrPrefixLength    = errors.New("requested prefix length cannot be assigned")  // 507
	ErrInProgress      = errors.New("request already in progress")                 // 521: try again, something else is being done
	ErrAnonymousPrefix = errors.New("prefix requested by an anonymous subscriber") // 522
	ErrBusy            = errors.New("server too busy")                             // 530: try again later
	ErrNotFound        = errors.New("no such session")
	ErrAlive           = errors.New("the server is there, or was until a few seconds ago")
	ErrClaimed         = errors.New("another server ends what it has left")
	ErrInvalid         = errors.New("more than a session can keep") // 310
)
