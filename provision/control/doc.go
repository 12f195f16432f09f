// SPDX-License-Identifier: GPL-2.0-or-later

// Package control is what an operator reaches the daemon by: HTTP with JSON over a unix socket, server and client.
//
// Paths begin with /v1. Lists that can be long (sessions, leases, events) are streams of one JSON object a line
// (application/x-ndjson); everything else is one JSON object. An error is an Error with a fitting HTTP status.
//
//	GET    /v1/health                                  Health; status 503 unless ready
//	GET    /v1/status                                  Status
//	GET    /v1/config                                  whatever the daemon gives, secrets masked
//	GET    /v1/sessions?user&address&prefix&client&encap&state   stream of Session
//	GET    /v1/sessions?nodes=all&...                  the same, of all servers
//	GET    /v1/sessions/{id}                           Session
//	DELETE /v1/sessions/{id}                           Kicked; also of another server
//	DELETE /v1/sessions?user=NAME                      Kicked
//	GET    /v1/events                                  stream of Event, as they happen
//	GET    /v1/pools, /v1/pools/{name}                 []Pool, Pool
//	GET    /v1/leases?pool&user&address&state          stream of Lease
//	GET    /v1/leases/{pool}/{index}                   Lease
//	DELETE /v1/leases/{pool}/{index}                   release: ends its session, if there is one
//	PUT    /v1/leases/{pool}/{index}/reservation       Reservation
//	DELETE /v1/leases/{pool}/{index}/reservation?user=NAME
//	GET    /v1/users, /v1/users/{name}                 stream of User, User
//	POST   /v1/users                                   NewUser
//	PATCH  /v1/users/{name}                            UserChange
//	DELETE /v1/users/{name}
//	GET    /v1/drops                                   []Drop
//	GET    /v1/drops/tunnels?tunnel&user&reason        stream of TunnelDrop
//	GET    /v1/nodes                                   []Node, the tunnel servers
//	PUT    /v1/nodes/{name}/drain                      no more sessions there; those that are, are ended
//	DELETE /v1/nodes/{name}/drain                      it serves again
//	GET    /v1/nodes/{name}/burial                     what a server that is gone has left
//	POST   /v1/nodes/{name}/burial                     end some thousand of the sessions it has left, with their Stop records
//
// The socket is made with mode 0660: whoever may write to it is an operator.
package control
