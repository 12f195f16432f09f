// SPDX-License-Identifier: GPL-2.0-or-later

package aaa

import (
	"net/netip"
	"time"
)

// Authentic is Acct-Authentic (RFC 2866 section 5.6): who verified the subscriber.
type Authentic uint8

// Values of Authentic, with the numbers of RFC 2866.
const (
	AuthenticRADIUS Authentic = 1
	AuthenticLocal  Authentic = 2
	AuthenticRemote Authentic = 3 // another protocol, such as LDAP
)

// Status is Acct-Status-Type (RFC 2866 section 5.1): which event of a session a Record tells of.
type Status uint8

// Values of Status, with the numbers of RFC 2866.
const (
	StatusStart   Status = 1
	StatusStop    Status = 2
	StatusInterim Status = 3
	StatusOn      Status = 7 // the server came up without tunnels: whatever ran before has ended
	StatusOff     Status = 8
)

// Cause is Acct-Terminate-Cause (RFC 2866 section 5.10): why a session ended.
type Cause uint8

// Values of Cause, with the numbers of RFC 2866.
const (
	CauseUserRequest        Cause = 1  // TSP delete or reject
	CauseLostCarrier        Cause = 2  // nothing heard for the keepalive's grace
	CauseIdleTimeout        Cause = 4  // the subscriber's own idle timeout
	CauseSessionTimeout     Cause = 5  // lifetime or the subscriber's session timeout
	CauseAdminReset         Cause = 6  // an operator or a CoA Disconnect
	CauseAdminReboot        Cause = 7  // clean shutdown that ends tunnels
	CauseNASError           Cause = 9  // the datapath or the store failed
	CauseNASRequest         Cause = 10 // ended by the server's own policy
	CauseNASReboot          Cause = 11 // found gone after a crash or reboot
	CausePortPreempted      Cause = 13 // replaced by a newer login
	CauseServiceUnavailable Cause = 15
	CauseUserError          Cause = 17
	CauseReauthentication   Cause = 20 // Reauthentication-Failure (RFC 3580 section 2.1): the backend did not let the session go on
)

// Record is one accounting event of one session.
type Record struct {
	Status     Status     `json:",omitzero"`
	Session    string     `json:",omitzero"` // unique for ever, printable ASCII, at most 64 octets
	Subscriber Subscriber `json:",omitzero"`
	Time       time.Time  `json:",omitzero"` // when it happened, not when it is sent

	// What the tunnel is; constant over a session.
	NAS      NAS            `json:",omitzero"` // whose session it was, if not this server's
	TunnelID uint32         `json:",omitzero"`
	Encap    string         `json:",omitzero"` // "v6udpv4" or "v6v4"
	Client   netip.AddrPort `json:",omitzero"`
	Server   netip.AddrPort `json:",omitzero"`
	Endpoint netip.Addr     `json:",omitzero"`
	Prefix   netip.Prefix   `json:",omitzero"`  // invalid if none was delegated
	Further  []netip.Prefix `json:",omitempty"` // delegated besides
	Routes   []netip.Prefix `json:",omitempty"` // further prefixes routed to the subscriber

	// Interim and Stop only.
	SessionTime time.Duration `json:",omitzero"`
	Octets      Traffic       `json:",omitzero"` // of the inner packets
	Packets     Traffic       `json:",omitzero"`
	Cause       Cause         `json:",omitzero"` // Stop only
}

// NAS is how billing systems tell servers apart (RFC 2865 sections 5.4 and 5.32).
type NAS struct {
	Identifier string     `json:",omitzero"`
	Address    netip.Addr `json:",omitzero"`
}

// Traffic counts both directions, as accounting names them.
type Traffic struct {
	Input  uint64 `json:",omitzero"` // from the subscriber
	Output uint64 `json:",omitzero"` // to the subscriber
}
