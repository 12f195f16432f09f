// SPDX-License-Identifier: GPL-2.0-or-later

// Package provision is the Broker: it gives authenticated subscribers their tunnels, and sees to it that what the lease
// store says, what the kernel forwards and what is billed are the same.
//
//	Offer     a lease is found, nothing forwards         Activate  the tunnel forwards, Start is recorded
//	Release   the tunnel is gone, Stop is recorded       sweep     the clock: counters, extension, reaping
//	Change    other limits, now and after a restart      Reauthorizer   asked when a session's time is up
//	Recover   after a start: leases against tunnels, made equal; the kernel forwarded all the time
//
// It knows neither TSP nor the kernel: the folders below are the lease store (lease), the face of the datapath (datapath)
// and the operator's door (control).
//
// # Who may change a session
//
// All records are in one table under one mutex that is held for moments only. What waits for the store, the datapath or
// the accountant is done with the subscriber locked instead (locks), so that the logins of one subscriber, his logout and
// the sweep come one after the other, and nobody else waits. A session has neither goroutine nor timer.
//
// # Takeover
//
// A subscriber's new login takes the place of his old session (or of the one of the same slot, if he may have several),
// with the same lease. The old one forwards until the new one is accepted: whoever logs in and never accepts, or is not
// able to, does no harm. So an offer must not become the holder of the lease, which the store would do at once. It need
// not: as long as the old session is in force here, its lease is known here and nobody else can get it. Offer therefore
// asks the store only where no session of the same slot and pool is in force, and Activate acquires with the index that
// was promised. An offer that comes to nothing has then nothing to give back to the old session. Only a session at
// another server, under a shared store, is preempted by the offer already.
//
// Activate deletes the old tunnel, whose last counters that gives, exact to the packet, and sets the new one; both have
// the same id and follow each other at once. If something fails then, the old tunnel is set again and counts on from
// there. See change for the order, endLocked for that of an end.
//
// # Several servers
//
// Servers that share a lease store count a subscriber's sessions together (Peers). A slot has one lease, so its lease tells
// at which server its session is, and the store is the judge: where more than one session is allowed, or a login beyond the
// limit is refused, a slot that is free here is asked for in such a way that nothing is taken from anybody (lease.Request,
// Yield), and two servers that ask at once do not both get it. Only if no slot is free anywhere, somebody has to go or
// the login is refused. Who is refused for a session of a server that has died would have to wait for the end of its lease, so
// such sessions do not count. All that holds for servers that serve him from different pools, too: if he logs in at two at the
// same moment, both may tell him to try again.
//
// # Prefixes from outside the pools
//
// A subscriber may have a static prefix from outside the pools, and routes: further prefixes that his backend says are led to him
// (RFC 3162 section 2.5). The static prefix is part of his lease, so the store gives it to one at a time, whatever the server.
// The routes are not: they are the session's, stand in its memo, and that they overlap nobody else's is looked after by each
// server for its own sessions (claims). That two subscribers have the same network at two servers is the backend's mistake; it is
// told, by the server that hears of the other's login (Overlapping), not prevented. To prevent it the store would need for up to
// sixteen routes what it has for the static prefix: a claim that is made before the lease is, is pushed aside by a stronger one
// with the lease it came with, extended with it, and asserted after a failover, each in a script of its own since the claims of
// all pools lie together. So every login and every extension of who has routes would be many steps that can each be lost, and
// a failure behind any of them takes a session down that has done nothing wrong. The same subscriber at two servers is no such case: he has one session at a
// time, and with the lease the old one loses its routes.
//
// # What a crash leaves
//
// A lease carries a memo of its session. It tells how far the session has come (phase), and it is written before what it
// announces has to be made good: that a session starts, and which it replaces with which last counters, before their
// records; that a session has ended, with its last counters, before its Stop record. A process that finds such a memo
// gives the record again, the same in every field. That the record of a start was taken is noted a moment later, for
// many sessions together, so that a login waits for the store only twice. What a crash can lose is the count of the
// packets of one session, if it comes between the deletion of its tunnel and the memo of that; the session itself goes on
// then. If the host goes down, it is what each session has counted since its lease last told, which it does with every
// Interim record, else twice in its time.
//
// A subscriber of a server that died is served at another one at once, and his lease is that one's then. What the old
// session left (the memo) must outlast that: it stays in a shared store as Displaced, put there by the same step that takes the
// lease away, until the server that owes the Stop record has given it. A server that notices by itself gives it and takes the
// rest out of the store; one that starts again finds it there (displaced). The new server does not do it for
// the old one: that may be alive, cut off from the store for a while, and knows the counters. A server that never comes
// back is buried by an operator (Bury): another gives its Stop records in its name.
//
// # While the store is away
//
// Tunnels go on, also past the end of their lease, as long as nobody else can be given the index: a shared store tells, also while
// it is away, of which leases that is not so any more (Extend), and their sessions end. Sessions that end stop forwarding and
// wait, as Ending, for their memo, Stop record and release. The record is not given before the memo is: with the store it would
// be the only one to know of the end, and whoever stands in for this server would give another. It tells when the end was. Offers
// to subscribers without session get ErrInProgress.
//
// A process that starts meanwhile has the leases from what a shared store has kept on this host (keeper) and is then as if it had
// been there all the time. What the store knows and it does not, it learns when the store is there again (rejoin).
package provision
