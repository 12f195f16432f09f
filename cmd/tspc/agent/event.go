// SPDX-License-Identifier: GPL-2.0-or-later

package agent

import (
	"net/netip"
	"time"

	"ddtb/tsp"
)

// Kind is what an Event is about.
type Kind string

// The kinds, with the fields of Event they set.
const (
	Connecting Kind = "connecting" // Server, Address: a dialogue begins
	Redirected Kind = "redirected" // Server, Address, Brokers: the server sends us elsewhere
	Failed     Kind = "failed"     // Server, Err, Address if it was found: no tunnel from there
	Up         Kind = "up"         // Info: the machine uses the tunnel
	Down       Kind = "down"       // Info, Err: it no longer does
	Waiting    Kind = "waiting"    // Err, Delay: the next round begins after Delay at the latest
	Undeleted  Kind = "undeleted"  // Info, Err: the server was not told that we leave
	Stopped    Kind = "stopped"    // Err if something went wrong: the end
)

// Event is something that happened to the tunnel.
type Event struct {
	Kind    Kind
	Server  Server
	Address netip.AddrPort
	Info    Info
	Brokers []tsp.Broker
	Delay   time.Duration
	Err     error
}
