// SPDX-License-Identifier: GPL-2.0-or-later

// Package fleet lets several tunnel servers know of each other: which there are, how loaded each is, whose tunnels each
// has, and what just happened to them.
//
// An Agent runs beside the Broker of each server. It writes to a Board, which all servers share, and acts on what it reads
// there. The leases are not here: who holds one is decided in the lease store alone (package lease), where the session's
// id is the fencing token. Whatever stands on the board is a hint, and the board may be away or wrong for as long as it
// likes: tunnels and logins do not notice.
//
// # Takeover
//
// A subscriber of server A logs in at server B. B gets his lease from the store, which makes B's session the holder, and
// once the tunnel is accepted B's Agent puts a login on the board. A's Agent reads it, finds that its Broker has a session
// in force on the same lease, and lets it ask the store whether it still holds it (provision.Broker.Contest). It does
// not: the tunnel at A ends with a Stop record of its own. If the board says nothing, the sweep of A finds out when it
// extends the lease.
//
// # The board
//
// In Redis (see Redis) it is made of keys that can be read with redis-cli:
//
//	ddtb:session:<id>         hash     user, node, type, client, endpoint, prefix, since, seen, octets and packets, class, rate
//	ddtb:node:<name>          hash     address, epoch, load, sessions, capacity, version, state; gone soon after the server is
//	ddtb:node:<name>:sessions zset     its sessions by the Unix time of the client's last packet
//	ddtb:node:<name>:commands stream   what the server is asked to do by the others
//	ddtb:node:<name>:claim    string   the server that ends what this one has left; gone when it is done
//	ddtb:nodes                zset     names of servers by the Unix time of their last sign of life
//	ddtb:events               stream   login, logout, takeover, kick, failover; capped
//
// All of it is written behind the back of the logins, in batches, from the Broker's events and, all of it again, once in
// a while: what was lost on the way is repaired then.
//
// # Sending clients elsewhere
//
// A client can be sent to another server only as the answer to VERSION or create, and then it goes there without a thought:
// it has no protection against circles (RFC 5572 section 4.7.4 says nothing of them). So a server sends clients only to one
// that is alive, not being drained, and less loaded by more than what loads can change until that server hears of it.
// A drained server cannot tell its clients to go. It ends their sessions, a few a second; they notice by their keepalives,
// come back, and are sent to another server, where the same lease waits for them.
package fleet
