// SPDX-License-Identifier: GPL-2.0-or-later

package aaa

import (
	"context"
	"strconv"

	"github.com/rs/zerolog"
)

// Discard is the Accountant of a site that bills nobody: it takes every record and keeps none.
type Discard struct{}

// Account implements Accountant.
func (Discard) Account(context.Context, Record) error { return nil }

// LogAccountant writes every record to a log and keeps none itself. It is for sites that want to see their sessions in
// the log; a bill needs a backend that says when a record is safe.
type LogAccountant struct {
	Logger zerolog.Logger
}

// Account implements Accountant. It never fails: what becomes of a log line is not known here.
func (l LogAccountant) Account(_ context.Context, r Record) error {
	e := l.Logger.Info().Str("status", r.Status.String())
	session := r.Status != StatusOn && r.Status != StatusOff
	if session {
		e = e.Str("session", r.Session).Str("user", r.Subscriber.Name)
	}
	e = e.Time("event", r.Time)
	if session {
		e = e.Uint32("tunnel", r.TunnelID).Str("encap", r.Encap).Stringer("client", r.Client).Stringer("endpoint", r.Endpoint)
	}
	if r.Prefix.IsValid() {
		e = e.Stringer("prefix", r.Prefix)
	}
	if r.Status == StatusInterim || r.Status == StatusStop {
		e = e.Dur("duration", r.SessionTime).
			Uint64("octets_in", r.Octets.Input).Uint64("octets_out", r.Octets.Output).
			Uint64("packets_in", r.Packets.Input).Uint64("packets_out", r.Packets.Output)
	}
	if r.Status == StatusStop {
		e = e.Str("cause", r.Cause.String())
	}
	e.Msg("accounting")
	return nil
}

// String is the name RFC 2866 section 5.1 gives.
func (s Status) String() string {
	switch s {
	case StatusStart:
		return "Start"
	case StatusStop:
		return "Stop"
	case StatusInterim:
		return "Interim-Update"
	case StatusOn:
		return "Accounting-On"
	case StatusOff:
		return "Accounting-Off"
	}
	return strconv.Itoa(int(s))
}

// String is the name RFC 2866 section 5.10 gives, with dashes for spaces as RADIUS dictionaries have it.
func (c Cause) String() string {
	switch c {
	case CauseUserRequest:
		return "User-Request"
	case CauseLostCarrier:
		return "Lost-Carrier"
	case CauseIdleTimeout:
		return "Idle-Timeout"
	case CauseSessionTimeout:
		return "Session-Timeout"
	case CauseAdminReset:
		return "Admin-Reset"
	case CauseAdminReboot:
		return "Admin-Reboot"
	case CauseNASError:
		return "NAS-Error"
	case CauseNASRequest:
		return "NAS-Request"
	case CauseNASReboot:
		return "NAS-Reboot"
	case CausePortPreempted:
		return "Port-Preempted"
	case CauseServiceUnavailable:
		return "Service-Unavailable"
	case CauseUserError:
		return "User-Error"
	case CauseReauthentication:
		return "Reauthentication-Failure"
	}
	return strconv.Itoa(int(c))
}
