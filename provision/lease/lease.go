// SPDX-License-Identifier: GPL-2.0-or-later

// Package lease keeps who holds which endpoint address and prefix.
//
// A Pool is two ranges of the same size, one of endpoint addresses and one of delegated prefixes. A Lease is one index
// into a pool; its endpoint, its prefix and its tunnel id follow by arithmetic (Pool.Endpoint, Pool.Prefix, Pool.ID). So
// the datapath finds a tunnel from an inner address without a search, and a lease cannot contradict itself.
//
// Unlike the first sketch of the design there is no reserved id range for prefixes from outside the pools: a subscriber
// with a static prefix of his own still holds one index, for the endpoint and the tunnel id, and the foreign prefix
// stands beside it in the Lease. One kind of lease, one kind of id.
package lease

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"time"
)

// MaxData bounds Request.Data, in octets.
const MaxData = 4096

// Errors of a Store. They are wrapped with the pool and the owner.
var (
	ErrNoPool      = errors.New("no such pool")
	ErrFull        = errors.New("pool exhausted")          // every index is leased, reserved or in quarantine
	ErrTaken       = errors.New("held by somebody else")   // a wanted index or foreign prefix is another owner's
	ErrHeld        = errors.New("held by another session") // of the same owner, and the Request was to yield
	ErrLost        = errors.New("lease no longer held")    // the session is not the holder any more, or the lease ended
	ErrUnavailable = errors.New("lease store unavailable") // nothing was changed as far as is known; try again later
	ErrGrace       = errors.New("no new leases for now")   // after a failover only known owners are served for a while
	ErrInvalid     = errors.New("invalid lease request")   // it can never succeed: empty owner or session, index beyond the pool, ...
)

// State of a lease.
type State uint8

// The states, in the order a lease goes through them.
const (
	Active    State = iota + 1 // held by Session until Expires
	Idle                       // in quarantine until Expires, then free for anybody; its owner gets it back any time before that
	Reserved                   // kept for Owner for ever, no session holds it now
	Displaced                  // no lease: what Session has left that lost it to one of another node or to a reservation, at Expires
)

// Store keeps the leases of a set of pools. All calls are atomic and durable: when one returns without error, its
// effect survives the process, unless it was a tentative Request. Calls may be repeated after an error: the same Request gives the same Lease.
//
// Implementations: Embedded (one server) and Redis (several). leasetest holds the suite that each passes.
type Store interface {
	// Acquire gives req.Owner his index in the pool (the one he had, as long as nobody else got it; else one never used;
	// else the one longest idle, past its quarantine) and makes req.Session its holder in place of any other at once.
	// Asked again by the present holder it sets TTL, Node and Data anew and keeps Since.
	//
	// An index wanted by number is refused (ErrTaken) while another owner holds it, has it reserved or has it in
	// quarantine; the owner leaves the one he had. A foreign prefix is refused while a lease of another owner, or of another
	// pool, holds a part of it; one whose end has passed gives it up, and ends.
	//
	// A session of another node that loses its lease this way is kept as Displaced until it is released: its node may be
	// down just now, and owes its end to somebody. (A store of one server keeps nothing of the kind.)
	//
	// With ErrHeld the Lease is the one that is held, perhaps of another pool.
	Acquire(ctx context.Context, req Request) (Lease, error)
	// Extend moves the end of leases still held by the given sessions to ttl from now, and puts Holder.Data in place of the
	// kept data where it is not nil. lost are those that are not held any more. A lease whose end has passed is still held
	// as long as nobody else got its index: a broker that was away finds its sessions again. What is displaced is lost, but
	// takes Data all the same. With an error, lost are those known to be lost all the same.
	Extend(ctx context.Context, ttl time.Duration, holders ...Holder) (lost []Lost, err error)
	// Release ends leases held by the given sessions: they become Idle or Reserved. What is displaced goes. One that is
	// neither is no error.
	Release(ctx context.Context, holders ...Holder) error
	// Reserve keeps index for owner for ever (on) or no longer (off). ErrTaken if another owner holds or reserved it or has
	// it in quarantine, or if this one has another reservation in the pool. Who had it before that loses it, and what his session has
	// left is kept as Displaced, whatever its node. An owner with
	// a lease elsewhere in the pool keeps that until his next Acquire, which gives him the reserved index. One that is not
	// reserved any more is in quarantine from then on, if nobody holds it.
	Reserve(ctx context.Context, pool string, index uint32, owner string, on bool) error
	// All yields every lease there is, in any order. An error ends it. Leases that change meanwhile may be seen either way.
	// An Active lease past its end is yielded as such, with its Data (its broker still owes the Stop record), until somebody
	// else gets the index or it is released. What is displaced stands beside the leases.
	All(ctx context.Context) iter.Seq2[Lease, error]
}

// Request asks for a lease.
type Request struct {
	Pool    string
	Owner   string // subscriber, with "#2", "#3"... for his further simultaneous sessions
	Session string // the holder: a random id, also the fencing token
	Node    string // the tunnel server
	TTL     time.Duration
	Index   uint32       // wanted index, 0: any. Index 0 of a pool is never leased (it may be a subnet-router anycast address).
	Foreign netip.Prefix // a static prefix from outside every pool, to be held together with the index
	Forget  bool         // the owner will not come back (anonymous): no stickiness, quarantine all the same
	// Yield leaves the lease to another session: while one holds a lease of the owner, in any pool, whose end has not passed,
	// the answer is ErrHeld. Only Over, if there is one, has to give way. This holds whatever else is asked at the same time; of two
	// that ask at once in different pools both may be refused.
	Yield bool
	Over  string // a session
	// Tentative spares waiting for the disk: the lease is the session's, but may be gone if the process dies, or the disk
	// fails, before the session asks again without it.
	Tentative bool
	Data      []byte // what the holder wants to find again after a restart; opaque, at most MaxData octets
}

// Holder names a lease by who holds it.
type Holder struct {
	Pool    string
	Index   uint32
	Session string
	Owner   string // Extend only, and only to tell Lost.Preempted; "" if it does not matter
	Data    []byte // Extend only: replaces what is kept with the lease; nil keeps it
}

// Lost is a lease that its session does not hold any more.
type Lost struct {
	Holder
	// Preempted: a later session of the owner has taken it, or another lease in its place. Otherwise nobody meant the session to
	// end: its end has passed without word from the store, and the store may have given it away since, or the store had lost it.
	Preempted bool
}

// Lease is one index and who has it.
type Lease struct {
	Pool     string
	Index    uint32
	ID       uint32 // tunnel id: Pool.First + Index
	Endpoint netip.Addr
	Prefix   netip.Prefix // delegated prefix: the foreign one if there is one, else by arithmetic
	Foreign  bool         // Prefix is from outside the pools
	Owner    string
	Session  string // "" unless Active or Displaced
	Taker    string // Displaced: the owner of the session that it went to
	Node     string
	State    State
	Since    time.Time // when Session got it
	Expires  time.Time // end of the lease (Active), of the quarantine (Idle), or when it was lost (Displaced)
	Data     []byte    // of the last Acquire or Extend; nil unless Active or Displaced. Not to be changed by the reader.
}
