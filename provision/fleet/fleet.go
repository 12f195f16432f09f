// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"time"

	"ddtb/aaa"
	"ddtb/provision"
)

// Errors of an Agent, wrapped with the server or the session they are about.
var (
	ErrNotFound    = errors.New("no such server or session")
	ErrUnavailable = errors.New("the other servers cannot be reached") // try again later
	ErrNowhere     = errors.New("no other server takes clients")
)

// NodeState is what a server does with clients that come.
type NodeState string

// The states of a server.
const (
	Serving  NodeState = "serving"  // gives tunnels
	Broking  NodeState = "broking"  // gives none, sends every client to one that serves
	Draining NodeState = "draining" // gives none, and ends those it has
	Drained  NodeState = "drained"  // has none left
	Stopped  NodeState = "stopped"  // its daemon has ended; tunnels may still be in force
	Gone     NodeState = "gone"     // has not been heard of
)

// Node is a tunnel server as the others see it.
type Node struct {
	Name     string
	Address  netip.Addr // where clients reach it
	Epoch    time.Time  // when its daemon started, to the millisecond
	Sessions int        // in force
	Capacity int        // sessions it has room for
	Version  string
	State    NodeState
	Seen     time.Time // last sign of life
}

// Load is the used part of a server's capacity, 0 to 1. One without capacity is full.
func (n Node) Load() float64 {
	if n.Capacity <= 0 {
		return 1
	}
	return float64(n.Sessions) / float64(n.Capacity)
}

// Session is a session in force at a server. A Board keeps of it who has which addresses from where, since when, and what
// was counted; the rest is zero.
type Session struct {
	Node string
	provision.Session
}

// Event is something that happened at a server.
type Event struct {
	Time    time.Time
	Node    string // where it happened
	Kind    provision.EventKind
	Cause   aaa.Cause // of an end, else 0
	Session Session   // as far as a Board keeps it, and Owner; nothing for EventFailover
}

// EventFailover tells that what the servers share has lost its last writes. It is on the board only; no Broker gives it.
const EventFailover provision.EventKind = "failover"

// Verb is what a server can be asked to do.
type Verb string

// The verbs.
const (
	Kick    Verb = "kick"    // end the session named
	Drain   Verb = "drain"   // take no more sessions, and end those there are
	Undrain Verb = "undrain" // serve again
)

// Command asks a server to do something.
type Command struct {
	Verb    Verb
	Session string // of Kick
	By      string // who asks: a server's name
}

// Batch is what a server writes at once. The events are there first: the others wait for them.
type Batch struct {
	Events []Event
	Put    []Session     // these are in force, and are kept for Keep
	Drop   []string      // these are not, by id
	Keep   time.Duration // how long what is put stays if it is not put again
}

// Board is what servers share. Implementations: Redis and Memory; fleettest holds the suite that both pass. All methods
// may be called by several goroutines at once. An error means that nothing is known of what was done; every write can be
// repeated.
type Board interface {
	Writer
	Reader
}

// Writer is the side of a Board that a server tells of itself on.
type Writer interface {
	// Announce makes a server known for as long as alive says, and tells whether it was known already. One that was, and
	// is not, finds a board that has lost what it held.
	Announce(ctx context.Context, node Node, alive time.Duration) (known bool, err error)
	// Write puts a batch of the named server on the board.
	Write(ctx context.Context, node string, batch Batch) error
	// Claim makes by, a server, the only one that ends what the named one has left, for as long as keep says, also if it is that
	// already; with a keep of 0 it is so no longer. holder is who that is now: by, or another that was first.
	Claim(ctx context.Context, node, by string, keep time.Duration) (holder string, err error)
	// Prune drops those sessions of the named server that keep says no to.
	Prune(ctx context.Context, node string, keep func(session string) bool) error
}

// Reader is the reading side of a Board, and the way to ask a server for something.
type Reader interface {
	// Nodes gives the servers in the order of their names, also those that have not been heard of for up to a day (Gone).
	Nodes(ctx context.Context) ([]Node, error)
	// Sessions yields the sessions of a server, in no order. An error ends it.
	Sessions(ctx context.Context, node string) iter.Seq2[Session, error]
	// Session gives one session, ErrNotFound if there is none.
	Session(ctx context.Context, id string) (Session, error)
	// Ask puts a command before a server.
	Ask(ctx context.Context, node string, command Command) error
	// Follow calls the functions with what comes on the board from now on, commands only those for the named server, each
	// kind in its order, until ctx is done, which gives nil, or the board cannot be read. ready is called when nothing
	// that comes from now on is missed.
	Follow(ctx context.Context, node string, follower Follower) error
}

// Follower is who is told by Follow. The functions do not block for long; Event and Command may be called at the same time.
type Follower struct {
	Ready   func()
	Event   func(Event)
	Command func(Command)
}
