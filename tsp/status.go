// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"errors"
	"fmt"
	"strconv"
)

// Code is a status code of RFC 5572 appendix B, without the 1000 that is added on the wire when a list of brokers
// follows.
type Code int

// The codes of RFC 5572 appendix B, and four more that the clients in the field know.
const (
	StatusSuccess         Code = 200
	StatusAuthFailed      Code = 300 // invalid userid, password or mechanism
	StatusNoTunnels       Code = 301 // server at capacity
	StatusBadVersion      Code = 302
	StatusBadTunnelType   Code = 303
	StatusServerError     Code = 310
	StatusBadRequest      Code = 500 // invalid syntax, or truncated
	StatusBadIPv4         Code = 501 // given by the client
	StatusBadIPv6         Code = 502 // given by the client
	StatusIPv4InUse       Code = 506 // a v6v4 tunnel with the same IPv4 addresses is there
	StatusPrefixLength    Code = 507 // the wanted length cannot be assigned
	StatusDNSDelegation   Code = 509 // not in the RFC: the reverse zone could not be delegated
	StatusBadPrefixLength Code = 518 // not in the RFC: no server of this kind assigns that length
	StatusNoPrefixLength  Code = 520 // not in the RFC
	StatusInProgress      Code = 521 // temporary
	StatusPrefixForbidden Code = 522 // not in the RFC: a prefix was asked for by an anonymous client
	StatusBusy            Code = 530 // temporary
)

// brokerListFollows is added to a code on the wire when a list of brokers follows.
const brokerListFollows = 1000

// String gives the text that follows the code on the wire.
func (c Code) String() string {
	switch c {
	case StatusSuccess:
		return "Success"
	case StatusAuthFailed:
		return "Authentication failed"
	case StatusNoTunnels:
		return "No more tunnels available"
	case StatusBadVersion:
		return "Unsupported client version"
	case StatusBadTunnelType:
		return "Unsupported tunnel type"
	case StatusServerError:
		return "Server side error"
	case StatusBadRequest:
		return "Invalid request format or specified length"
	case StatusBadIPv4:
		return "Invalid IPv4 address"
	case StatusBadIPv6:
		return "Invalid IPv6 address"
	case StatusIPv4InUse:
		return "IPv4 address already used for existing tunnel"
	case StatusPrefixLength:
		return "Requested prefix length cannot be assigned"
	case StatusDNSDelegation:
		return "DNS delegation error"
	case StatusBadPrefixLength:
		return "Unsupported prefix length"
	case StatusNoPrefixLength:
		return "Missing prefix length"
	case StatusInProgress:
		return "Request already in progress"
	case StatusPrefixForbidden:
		return "Prefix requested by an anonymous client"
	case StatusBusy:
		return "Server too busy"
	}
	return "Status " + strconv.Itoa(int(c))
}

// Temporary tells whether the same request may succeed later.
func (c Code) Temporary() bool {
	return c == StatusInProgress || c == StatusBusy || c == StatusNoTunnels || c == StatusServerError
}

// StatusError is a reply other than plain success: what a Backend returns to choose a code, and what a Conn returns
// when the server sent one.
//
// With Brokers, 1000 is added to the code on the wire and the list follows; StatusSuccess with Brokers is a redirection
// ("1200"), the only way StatusSuccess is an error.
type StatusError struct {
	Code    Code     // without the 1000
	Text    string   // what the server said; a server always sends Code.String()
	Brokers []Broker // where to go instead, best first
	Err     error    // why; never sent
}

// Error gives code, text and cause.
func (e *StatusError) Error() string {
	code, text := e.Code, e.Text
	if text == "" {
		text = e.Code.String()
	}
	if len(e.Brokers) > 0 {
		code += brokerListFollows
	}
	if e.Err != nil {
		return fmt.Sprintf("%d %s: %v", int(code), text, e.Err)
	}
	return fmt.Sprintf("%d %s", int(code), text)
}

// Unwrap gives the cause.
func (e *StatusError) Unwrap() error { return e.Err }

// Redirect tells whether the client is only sent elsewhere.
func (e *StatusError) Redirect() bool { return e.Code == StatusSuccess && len(e.Brokers) > 0 }

// statusOf finds the status an error of a Backend asks for: 310 unless it is a *StatusError.
func statusOf(err error) (Code, []Broker) {
	var status *StatusError
	if !errors.As(err, &status) {
		return StatusServerError, nil
	}
	if status.Code == StatusSuccess && len(status.Brokers) == 0 {
		return StatusServerError, nil
	}
	return status.Code, status.Brokers
}
