// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"net/netip"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

// State is where a session stands.
//
//	          Offer              Activate            Release, sweep
//	(nothing) -----> Offered -----------------> Active ------------> Ending -----> (gone)
//	                    |  Reject, OfferTimeout                             Stop taken, lease given back
//	                    +------------------------------------------------> (gone)
type State uint8

// The states of a session.
const (
	Offered State = iota + 1 // told to the client, not accepted: nothing forwards
	Active                   // forwards
	Ending                   // does not forward any more; its Stop record or its lease's release is still owed
)

// String gives the state's name, lower case.
func (s State) String() string {
	switch s {
	case Offered:
		return "offered"
	case Active:
		return "active"
	case Ending:
		return "ending"
	}
	return "unknown"
}

// Session is one session as it was at one moment. It is a copy: nothing in it changes.
type Session struct {
	ID         string // random, unique for ever: also Acct-Session-Id and the fencing token of the lease
	State      State
	Subscriber aaa.Subscriber // what billing needs of it; ResponseAuth and static addresses are not kept
	Owner      string         // who holds the lease in the lease store, see Owner
	Pool       string
	TunnelID   uint32
	Encap      datapath.Encap
	Client     netip.AddrPort    // port 0 for V6V4
	Local      netip.AddrPort    // port 0 for V6V4
	Server     netip.Addr        // this server inside the tunnel
	Endpoint   netip.Addr        // the client inside the tunnel
	Prefix     netip.Prefix      // delegated prefix, invalid if none
	Routes     datapath.Prefixes // further prefixes routed to the client
	MTU        int
	Keepalive  time.Duration // interval the client is told
	Lifetime   time.Duration // of the session, from Since
	Since      time.Time     // when it was accepted; when it was offered while it is Offered
	Seen       time.Time     // last packet from the client, as of the last sweep
	Traffic    datapath.Counters
}
