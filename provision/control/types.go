// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Duration is a time.Duration that JSON shows as "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Error is the body of every answer that is not 2xx.
type Error struct {
	Status  int    `json:"-"`              // HTTP status
	Message string `json:"error"`          // what went wrong
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// Error implements error.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + " (" + e.Hint + ")"
}

// Health says whether the daemon serves.
type Health struct {
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitempty"` // it does not
}

// Status is the daemon at a glance.
type Status struct {
	Node       string         `json:"node"`
	Version    string         `json:"version"`
	Started    time.Time      `json:"started"`
	Uptime     Duration       `json:"uptime"`
	Ready      bool           `json:"ready"`
	Datapath   string         `json:"datapath"` // driver and mode, as the daemon names them
	Server     netip.Addr     `json:"server"`
	Sessions   map[string]int `json:"sessions"` // active, by encapsulation
	Offered    int            `json:"offered"`
	Ending     int            `json:"ending"` // ended, their Stop record or lease still owed
	MaxSession int            `json:"max_sessions"`
	Logins     uint64         `json:"logins"` // since the start of the daemon
	Refused    uint64         `json:"refused"`
	Traffic    Traffic        `json:"traffic"` // of all sessions since the start of the daemon
	Sweep      Sweep          `json:"sweep"`
	Watchers   int            `json:"watchers"`
}

// Sweep tells of the last pass over all tunnels.
type Sweep struct {
	Last  time.Time `json:"last"`
	Took  Duration  `json:"took"`
	Error string    `json:"error,omitempty"`
}

// Traffic counts inner packets and their octets.
type Traffic struct {
	RxPackets uint64 `json:"rx_packets"` // from the client
	RxOctets  uint64 `json:"rx_octets"`
	TxPackets uint64 `json:"tx_packets"` // to the client
	TxOctets  uint64 `json:"tx_octets"`
}

// Session is one session.
type Session struct {
	ID        string         `json:"id"`
	Node      string         `json:"node,omitempty"` // the tunnel server, where those of all were asked for
	User      string         `json:"user"`
	Anonymous bool           `json:"anonymous,omitempty"`
	Backend   string         `json:"backend,omitempty"` // that verified the user
	State     string         `json:"state"`             // offered, active, ending
	Pool      string         `json:"pool"`
	TunnelID  uint32         `json:"tunnel_id"`
	Encap     string         `json:"encap"`
	Client    netip.AddrPort `json:"client"` // port 0 for v6v4
	Local     netip.AddrPort `json:"local"`
	Endpoint  netip.Addr     `json:"endpoint"`
	Prefix    *netip.Prefix  `json:"prefix,omitempty"`
	Routes    []netip.Prefix `json:"routes,omitempty"` // further prefixes routed to the client
	MTU       int            `json:"mtu"`
	Keepalive Duration       `json:"keepalive"`
	Since     time.Time      `json:"since"`
	Seen      time.Time      `json:"seen"`              // last packet of the client, as of the last sweep
	Expires   *time.Time     `json:"expires,omitempty"` // end of its lifetime
	Traffic   Traffic        `json:"traffic"`           // as of the last sweep
}

// Kicked tells what a kick ended.
type Kicked struct {
	Sessions []string `json:"sessions"` // ids
}

// Event is something that happened to a session. Lost > 0 says instead that the watcher was too slow and so many events
// before the next one were dropped.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`            // login, logout, kick, takeover, lost
	Cause   string    `json:"cause,omitempty"` // of an end, as Acct-Terminate-Cause names it: "Lost-Carrier"
	Session *Session  `json:"session,omitempty"`
	Lost    uint64    `json:"lost,omitempty"`
}

// Pool is one pool and its use.
type Pool struct {
	Name      string       `json:"name"`
	Endpoints netip.Prefix `json:"endpoints"`
	Prefixes  netip.Prefix `json:"prefixes,omitzero"`
	PrefixLen int          `json:"prefix_len,omitempty"` // of one delegated prefix
	FirstID   uint32       `json:"first_id"`             // tunnel id of index 0
	Size      uint32       `json:"size"`                 // indices; index 0 is never leased
	Active    int          `json:"active"`
	Idle      int          `json:"idle"`
	Reserved  int          `json:"reserved"`
	Free      int          `json:"free"`
}

// Lease is one lease.
type Lease struct {
	Pool     string        `json:"pool"`
	Index    uint32        `json:"index"`
	TunnelID uint32        `json:"tunnel_id"`
	User     string        `json:"user"` // the lease's owner, with "#2" for a second session
	State    string        `json:"state"`
	Session  string        `json:"session,omitempty"`
	Node     string        `json:"node,omitempty"`
	Taker    string        `json:"taker,omitempty"` // displaced: whose it is instead, as User
	Endpoint netip.Addr    `json:"endpoint"`
	Prefix   *netip.Prefix `json:"prefix,omitempty"`
	Foreign  bool          `json:"foreign,omitempty"` // the prefix is from outside the pools
	Since    *time.Time    `json:"since,omitempty"`
	Expires  *time.Time    `json:"expires,omitempty"`
}

// Reservation keeps an index for a user.
type Reservation struct {
	User string `json:"user"` // as Lease.User
}

// User is a local account, without its secrets.
type User struct {
	Name       string        `json:"name"`
	Disabled   bool          `json:"disabled"`
	Digest     bool          `json:"digest"`     // an HA1 is kept, so that DIGEST-MD5 can be used
	Mechanisms []string      `json:"mechanisms"` // what he can log in with now
	Created    time.Time     `json:"created"`
	Changed    time.Time     `json:"changed"` // the password
	Expires    *time.Time    `json:"expires,omitempty"`
	Note       string        `json:"note,omitempty"`
	Pool       string        `json:"pool,omitempty"`
	Sessions   int           `json:"sessions,omitempty"` // allowed at a time; 0: the server's default
	Endpoint   *netip.Addr   `json:"endpoint,omitempty"`
	Prefix     *netip.Prefix `json:"prefix,omitempty"`
	NoPrefix   bool          `json:"no_prefix,omitempty"` // none is delegated to him
}

// NewUser is an account to be made.
type NewUser struct {
	Name     string        `json:"name"`
	Password string        `json:"password"`
	Digest   bool          `json:"digest"`
	Cram     bool          `json:"cram,omitempty"` // the key of CRAM-MD5 is kept
	Expires  *time.Time    `json:"expires,omitempty"`
	Note     string        `json:"note,omitempty"`
	Pool     string        `json:"pool,omitempty"`
	Sessions int           `json:"sessions,omitempty"`
	Endpoint *netip.Addr   `json:"endpoint,omitempty"`
	Prefix   *netip.Prefix `json:"prefix,omitempty"`
	NoPrefix bool          `json:"no_prefix,omitempty"`
}

// UserChange changes an account; nil fields stay as they are. An empty text for an address or a prefix takes it
// away.
type UserChange struct {
	Password *string       `json:"password,omitempty"`
	Disabled *bool         `json:"disabled,omitempty"`
	Digest   *bool         `json:"digest,omitempty"` // on: with the next password
	Cram     *bool         `json:"cram,omitempty"`   // on: with the next password
	Note     *string       `json:"note,omitempty"`
	Pool     *string       `json:"pool,omitempty"`
	Sessions *int          `json:"sessions,omitempty"`
	Endpoint *netip.Addr   `json:"endpoint,omitempty"`
	Prefix   *netip.Prefix `json:"prefix,omitempty"`
	NoPrefix *bool         `json:"no_prefix,omitempty"`
}

// BurialRequest says how records name a server that is gone for good.
type BurialRequest struct {
	NASIdentifier string     `json:"nas_identifier,omitempty"` // "": the server's name
	NASAddress    netip.Addr `json:"nas_address,omitzero"`     // none: where each session's tunnel ended
}

// Burial counts what such a server has left.
type Burial struct {
	Ended        int `json:"ended"`         // sessions that got their Stop records now
	Released     int `json:"released"`      // leases that were given back now
	Left         int `json:"left"`          // sessions without Stop record
	LeftReleases int `json:"left_releases"` // leases to be given back
}

// Node is a tunnel server.
type Node struct {
	Name     string     `json:"name"`
	Address  netip.Addr `json:"address,omitzero"` // where clients reach it
	State    string     `json:"state"`            // serving, broking, draining, drained, stopped, gone
	Sessions int        `json:"sessions"`
	Capacity int        `json:"capacity"`
	Version  string     `json:"version,omitempty"`
	Started  *time.Time `json:"started,omitempty"`
	Seen     time.Time  `json:"seen"` // last sign of life
}

// Drop counts packets dropped for one reason.
type Drop struct {
	Reason  string         `json:"reason"`
	Packets uint64         `json:"packets"`
	Tunnel  uint32         `json:"tunnel,omitempty"` // of the last one
	Session string         `json:"session,omitempty"`
	Remote  netip.AddrPort `json:"remote,omitzero"`
	Inner   netip.Addr     `json:"inner,omitzero"`
	Last    time.Time      `json:"last,omitzero"`
}

// TunnelDrop counts packets of one tunnel that were dropped for one reason since its last session began.
type TunnelDrop struct {
	Tunnel   uint32     `json:"tunnel"`
	Reason   string     `json:"reason"`
	Packets  uint64     `json:"packets"`
	Session  string     `json:"session,omitempty"` // empty if it has ended
	User     string     `json:"user,omitempty"`
	Endpoint netip.Addr `json:"endpoint,omitzero"`
}

// Config is the daemon's configuration as it gives it, secrets masked.
type Config = json.RawMessage
